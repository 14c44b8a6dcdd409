"""How far Stripe's clock is ahead of ours, by the `Date` of its answers: it measures a session's end by its own."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final

from runtime.aio import LogOnChange

_log = logging.getLogger(__name__)

TOLERATED: Final = timedelta(seconds=10)
"""Less is no skew: a `Date` is a whole second, from anywhere between question and answer."""
WARNED: Final = timedelta(seconds=30)
_LONGEST: Final = timedelta(seconds=10)
"""An answer that took longer says too little of when Stripe wrote it."""
SHORTEST_SESSION: Final = timedelta(minutes=30)
LONGEST_SESSION: Final = timedelta(hours=24)
_RESOLUTION: Final = timedelta(seconds=2)
_written: Final = lru_cache(maxsize=4)(parsedate_to_datetime)
"""All answers of a second have one date."""


class ClockSkew:
    """One per process. `measured`: how far Stripe is ahead by its last answer, behind if negative; None before that."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.now: Final = now
        self.measured: timedelta | None = None
        self._warning = LogOnChange(_log)

    @property
    def ahead(self) -> timedelta:
        """By how much our times must be moved for Stripe."""
        return timedelta() if self.measured is None or abs(self.measured) < TOLERATED else self.measured

    def note(self, date: str, *, sent_at: datetime) -> None:
        """Measure by an answer that has just come, if its `Date` can be used."""
        took = self.now() - sent_at
        try:
            written = _written(date)
        except ValueError:
            return
        if written.tzinfo is None or not timedelta() <= took <= _LONGEST:
            return
        self.measured = written.astimezone(UTC) + timedelta(seconds=0.5) - (sent_at + took / 2)
        if abs(self.measured) >= WARNED:
            seconds = self.measured.total_seconds()
            self._warning.failed("Stripe's clock is %+.0f s from the database's: set the database's clock", seconds)
        else:
            self._warning.works("Stripe's clock and the database's agree again")

    def takes(self, ends_at: int) -> bool:
        """Whether Stripe would make a session now that ends then (unix seconds, by its clock)."""
        left = datetime.fromtimestamp(ends_at, UTC) - (self.now() + (self.measured or timedelta()))
        return SHORTEST_SESSION + _RESOLUTION < left < LONGEST_SESSION - _RESOLUTION
