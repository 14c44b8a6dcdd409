"""The service's clock, as its replies tell it: by one clock a command's `timestamp` is written here and read there."""

import logging
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

from runtime.aio import LogOnChange

_log = logging.getLogger(__name__)

WARNED_SECONDS: Final = 2.0
"""Less may be no skew: replies carry whole seconds."""
_RESOLUTION_SECONDS: Final = 1.0


class ServiceClock:
    """How far the service's clock is ahead of this machine's monotonic one, which nobody sets.

    A reply was dated between the sending of its command and its own arrival; each narrows down the difference.
    """

    def __init__(
        self, *, monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self._monotonic = monotonic
        self._wall = wall
        self._ahead: float | None = None
        self._change = LogOnChange(_log)

    def note(self, dated: datetime | None, *, waited_seconds: float) -> None:
        """A reply with this timestamp arrived just now, `waited_seconds` after its command was sent."""
        if dated is None:
            return
        now, dated_at = self._monotonic(), dated.timestamp()
        least, most = dated_at - now, dated_at + _RESOLUTION_SECONDS - now + waited_seconds
        ahead = min(least + _RESOLUTION_SECONDS / 2, most) if self._ahead is None else self._ahead
        self._ahead = min(max(ahead, least), most)
        skew = self.skew_seconds or 0.0
        if abs(skew) >= WARNED_SECONDS:
            self._change.failed("The service's clock is %+.0f s off this machine's: set the one that is wrong", skew)
        else:
            self._change.works("The service's clock agrees with this machine's again.")

    def forget(self) -> None:
        """Forget it while nothing is answered: the service's clock may have been set."""
        self._ahead = None

    def now(self) -> tuple[float, bool]:
        """Unix seconds by the service's clock and True; by this machine's and False while no reply has told it."""
        if self._ahead is None:
            return self._wall(), False
        return self._monotonic() + self._ahead, True

    @property
    def skew_seconds(self) -> float | None:
        """The service's clock minus this machine's; None while no reply has told it."""
        return None if self._ahead is None else self._monotonic() + self._ahead - self._wall()
