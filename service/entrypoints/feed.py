"""The feed: reads Stripe's events for everybody, many outcomes in one call. One replica leads, the others stand by.

What it costs does not grow with payments or with those who poll: nothing is read while nothing is pending, otherwise
once every interval, and sooner while somebody would like to know, but only for a share of what Stripe allows.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from datetime import datetime
from typing import Final
from uuid import uuid4

from service.application.news import News
from service.application.ports import FeedRecord
from service.application.reading import Reader, UnreadError
from service.application.steps import Steps
from service.domain.errors import StoreUnavailableError
from service.domain.outcomes import UnknownCause
from service.entrypoints.rounds import Rounds

_log = logging.getLogger(__name__)

LEASE_SECONDS: Final = 4.0
RENEW_SECONDS: Final = 1.0
"""A leader that dies is followed within the lease and this."""
GAP_SECONDS: Final = 0.2
"""Between the beginnings of two readings that are wanted, or less where Stripe allows more calls."""
LEAST_GAP_SECONDS: Final = 0.05
SHARE: Final = 0.2
"""Of the calls that Stripe allows, what wanted readings may take."""
AT_ONCE: Final = 8
"""Readings under way: whoever wants one does not wait for the end of a slow one before the next begins."""
WANT_SECONDS: Final = 0.1
"""Between two requests to the leader; all who want a reading meanwhile share one."""
LONG_EVERY_SECONDS: Final = 5.0
"""So often a reading goes further back than others, for what was late to be seen."""
MAX_PAUSE_SECONDS: Final = 10.0
STOP_SECONDS: Final = 2.0
"""How long readings under way may still take at the end: the next leader reads the same again."""


class Feed:
    """One per process; any number of processes. `leading`: whether this one reads."""

    def __init__(
        self,
        *,
        steps: Steps,
        record: FeedRecord,
        news: News,
        interval_seconds: float,
        calls_per_second: float = 0,
        long_every_seconds: float = LONG_EVERY_SECONDS,
    ) -> None:
        """`interval_seconds`: between two readings that nobody wants; see the constant for `long_every_seconds`.

        `calls_per_second`: what Stripe allows; 0: any number.
        """
        self.leading = False
        self.readings: Final = Counter[str](complete=0, failed=0, busy=0)
        self.reader: Final = Reader(steps=steps, complete=self._complete)
        self.replica: Final = str(uuid4())
        self._store = steps.store
        self._record = record
        self._news = news
        self._interval_seconds = interval_seconds
        self._gap_seconds = gap_seconds(calls_per_second)
        self._long_every_seconds = long_every_seconds
        self._rounds = Rounds(trouble="nobody knows who reads Stripe's events", poll_seconds=RENEW_SECONDS)
        self._under_way: set[asyncio.Task[None]] = set()
        self._wanted = False
        self._failures = 0
        # Moments, monotonic.
        self._claim_due = self._began = self._long_due = self._paused_until = self._asked_leader = 0.0

    async def run(self) -> None:
        """Lead, or stand by, until `stop`; then let another lead at once."""
        try:
            await self._rounds.run(self._round, wait=self._wait)
            if self.leading:
                with contextlib.suppress(StoreUnavailableError):  # then the lease ends by itself
                    await self._record.release(self.replica)
            if self._under_way:
                await asyncio.wait(self._under_way, timeout=STOP_SECONDS)
        finally:
            self.leading = False
            await self._abandon()

    def stop(self) -> None:
        """End `run`."""
        self._rounds.stop()
        self._news.want_reading()

    async def _round(self) -> float:
        """Do what is due; in how many seconds something else is, unless a reading is wanted before."""
        try:
            if time.monotonic() >= self._claim_due:
                await self._claim()
            return await (self._lead() if self.leading else self._follow())
        except StoreUnavailableError:
            self.leading, self._claim_due = False, 0.0
            raise

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                if not self._wanted:
                    here = await self._news.reading_wanted()
                    self._wanted = here or self.leading  # whoever wants it elsewhere has told the leader
                elif self._is_full:
                    await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
                else:
                    await self._rounds.stopped()

    async def _claim(self) -> None:
        lead = await self._record.claim(self.replica, lease_seconds=LEASE_SECONDS)
        self._claim_due = time.monotonic() + RENEW_SECONDS
        if lead is None:
            await self._abandon()
        elif not self.leading:
            await self._abandon()
            self.reader.start(lead.read_until)
            _log.info("reading Stripe's events for all replicas")
        self.leading = lead is not None

    async def _abandon(self) -> None:
        """Whoever leads next reads it again."""
        if tasks := list(self._under_way):
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _follow(self) -> float:
        now = time.monotonic()
        if self._wanted and now >= self._asked_leader + WANT_SECONDS:
            self._wanted, self._asked_leader = False, now
            await self._record.want()
        return WANT_SECONDS if self._wanted else max(self._claim_due - time.monotonic(), 0)

    @property
    def _is_full(self) -> bool:
        return len(self._under_way - {self.reader.catching_up}) >= (AT_ONCE if self.reader.caught_up else 1)

    async def _lead(self) -> float:
        now = time.monotonic()
        gap = min(max(self._gap_seconds, self.reader.answer_seconds / AT_ONCE), self._interval_seconds)
        due = max(self._began + (gap if self._wanted else self._interval_seconds), self._paused_until)
        until_renewal = max(self._claim_due - now, 0)
        if now >= due and self._is_full:
            self._wanted = True
            return until_renewal
        if now >= due:
            self._wanted, self._began, due = False, now, now + self._interval_seconds
            oldest_at = await self._store.oldest_pending_at()
            if oldest_at is not None:
                self._begin(oldest_at)
        return min(until_renewal, due - now)

    def _begin(self, oldest_at: datetime) -> None:
        is_long = self._began >= self._long_due
        if is_long:
            self._long_due = self._began + self._long_every_seconds
        task = asyncio.create_task(self._read(oldest_at, is_long=is_long), name="feed-reading")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _read(self, oldest_at: datetime, *, is_long: bool) -> None:
        try:
            await self.reader.read(oldest_at, is_long=is_long)
        except UnreadError as error:
            if error.unknown.cause is not UnknownCause.BUSY:
                self._failed(f"{error.unknown.cause}: {error}")
            else:
                self.readings["busy"] += 1
                self._pause(error.unknown.wait_seconds or self._gap_seconds)
        except StoreUnavailableError:
            self._failed("the database cannot be used")
        except Exception:  # noqa: BLE001 - whatever surprised us in one reading need not be in the next
            _log.exception("a reading of Stripe's events failed")
            self._failed("a mistake of ours")

    async def _complete(self, read_until: datetime | None, began: float) -> None:
        kept = await self._record.advance(
            self.replica,
            read_until=read_until,
            began_seconds_ago=time.monotonic() - began,
            lease_seconds=LEASE_SECONDS,
        )
        if not kept:  # another leads by now
            self._claim_due = 0.0
            return
        if self._failures:
            _log.info("Stripe's events are read again")
        self._failures = 0
        self.readings["complete"] += 1
        self._news.read(seconds_ago=time.monotonic() - began)

    def _failed(self, why: str) -> None:
        if not self._failures:  # one line per change
            _log.warning("Stripe's events cannot be read (%s); trying again", why)
        self._failures += 1
        self.readings["failed"] += 1
        seconds = min(MAX_PAUSE_SECONDS, 0.5 * 2 ** min(self._failures, 5))
        self._pause(seconds * random.uniform(0.75, 1.0))  # noqa: S311 - so that replicas differ

    def _pause(self, seconds: float) -> None:
        """Whoever wanted this reading still does, as soon as the pause is over."""
        self._paused_until = time.monotonic() + seconds
        self._news.want_reading()


def gap_seconds(calls_per_second: float) -> float:
    """Between the beginnings of two wanted readings, for what Stripe allows (0: any number of calls)."""
    if not calls_per_second:
        return LEAST_GAP_SECONDS
    return min(max(1 / (SHARE * calls_per_second), LEAST_GAP_SECONDS), GAP_SECONDS)
