"""Reads Stripe's events for all replicas: one call answers for many payments. One replica leads, the others stand by.

The cost grows neither with payments nor with pollers: once a minute while no payment is pending, otherwise once per
interval, and sooner when somebody wants a read, but then with only a share of the calls that Stripe allows.
"""

import asyncio
import contextlib
import logging
import math
import time
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

from runtime.aio import Backoff, LogOnChange, PeriodicLoop, cancel
from service.application.event_ingest import EventIngestor, FeedObserver
from service.application.event_reader import LONG_OVERLAP, OVERLAP, EventReader, UnreadError
from service.application.outcome_writer import OutcomeWriter
from service.application.ports import Clock, EventCursor, Gateway, LeaderLease, Store
from service.application.told_session import ToldSessions
from service.application.waiters import WaiterRegistry
from service.domain.errors import StoreUnavailableError
from service.domain.outcomes import UnknownCause

_log = logging.getLogger(__name__)

LEASE_SECONDS: Final = 4.0
RENEW_SECONDS: Final = 1.0
"""A leader that dies is replaced within the lease and this."""
GAP_SECONDS: Final = 0.25
"""Between the starts of two wanted reads, or less where Stripe allows more calls."""
LEAST_GAP_SECONDS: Final = 0.05
SHARE: Final = 0.2
"""The part of the calls allowed by Stripe that wanted reads may use."""
CONCURRENCY: Final = 8
"""Reads at once: a wanted read does not wait for the end of a slow one."""
WANT_SECONDS: Final = 0.1
"""Between two requests to the leader; everybody who wants a read meanwhile shares one."""
LONG_EVERY_SECONDS: Final = 5.0
"""How often a read goes further back than the others, for events that became visible late or could not be stored."""
OVERLAPS: Final = ((1, LONG_OVERLAP), (8, timedelta(minutes=2)), (60, timedelta(minutes=15)))
"""How often, as a multiple of that, and how far: each costs no more than three times the events that there are."""
IDLE_SECONDS: Final = 60.0
"""Between reads while nothing is pending, for sessions that this record does not know or has as failed."""
STOP_SECONDS: Final = 2.0
"""How long running reads may still take at the end: the next leader reads the same again."""


@dataclass(kw_only=True, eq=False)
class EventFeed:
    """One per process; any number of processes.

    `interval_seconds`: between reads that nobody wants; `calls_per_second`: allowed by Stripe, 0: no limit.
    """

    store: Store
    gateway: Gateway
    outcomes: OutcomeWriter
    told_sessions: ToldSessions
    clock: Clock
    cursor: EventCursor
    waiters: WaiterRegistry
    observer: FeedObserver
    gateway_timeout_seconds: float
    interval_seconds: float
    calls_per_second: float
    long_every_seconds: float = LONG_EVERY_SECONDS
    idle_seconds: float = IDLE_SECONDS

    def __post_init__(self) -> None:
        self.lease: LeaderLease | None = None
        self.replica = str(uuid4())
        ingestor = EventIngestor(
            store=self.store,
            gateway=self.gateway,
            outcomes=self.outcomes,
            told_sessions=self.told_sessions,
            clock=self.clock,
            gateway_timeout_seconds=self.gateway_timeout_seconds,
            observer=self.observer,
        )
        self._reader = EventReader(
            gateway=self.gateway,
            ingestor=ingestor,
            clock=self.clock,
            gateway_timeout_seconds=self.gateway_timeout_seconds,
            observer=self.observer,
        )
        self._gap_seconds = gap_seconds(self.calls_per_second)
        self._loop = PeriodicLoop(
            trouble="no replica can be chosen to read Stripe's events",
            poll_seconds=RENEW_SECONDS,
            passing=StoreUnavailableError,
        )
        self._reads: set[asyncio.Task[None]] = set()
        self._wanted = False
        self._backoff = Backoff(first_seconds=1.0, longest_seconds=10.0)
        self._change = LogOnChange(_log)
        # Moments on the monotonic clock, which may have started a second ago: "never" is before all of them.
        self._claim_due = self._began = self._idle_due = self._paused_until = self._asked_leader = -math.inf
        now = time.monotonic()
        self._long_due = [now + (times - 1) * self.long_every_seconds for times, _ in OVERLAPS]

    @property
    def leading(self) -> bool:
        """Whether this replica reads."""
        return self.lease is not None

    async def run(self) -> None:
        """Lead, or stand by, until `stop`; then let another replica lead at once."""
        try:
            await self._loop.run(self._pass, wait=self._wait)
            if self.leading:
                with contextlib.suppress(StoreUnavailableError):  # the lease then ends by itself
                    await self.cursor.release(self.replica)
            if self._reads:
                await asyncio.wait(self._reads, timeout=STOP_SECONDS)
        finally:
            self.lease = None
            await cancel(self._reads)

    def stop(self) -> None:
        """End `run`."""
        self._loop.stop()
        self.waiters.request_read()

    async def _pass(self) -> float:
        """Do what is due; answer in how many seconds the next action is due, unless a read is wanted before."""
        try:
            if time.monotonic() >= self._claim_due:
                await self._claim()
            return await (self._lead() if self.leading else self._follow())
        except StoreUnavailableError:
            self.lease, self._claim_due = None, -math.inf
            raise

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                if not self._wanted:
                    here = await self.waiters.read_requested()
                    self._wanted = here or self.leading  # another replica asks the leader itself
                elif self._is_full:
                    await asyncio.wait(self._reads, return_when=asyncio.FIRST_COMPLETED)
                else:
                    await self._loop.stopped()

    async def _claim(self) -> None:
        lease = await self.cursor.claim(self.replica, lease_seconds=LEASE_SECONDS)
        self._claim_due = time.monotonic() + RENEW_SECONDS
        if lease is None:
            await cancel(self._reads)  # the next leader repeats them
        elif not self.leading:
            await cancel(self._reads)
            self._reader.start(lease.read_until)
            _log.info("reading Stripe's events for all replicas")
        if lease is not None:
            self._reader.set_time(lease.now)
        self.lease = lease

    async def _follow(self) -> float:
        now = time.monotonic()
        if self._wanted and now >= self._asked_leader + WANT_SECONDS:
            self._wanted, self._asked_leader = False, now
            await self.cursor.want()
        return WANT_SECONDS if self._wanted else max(self._claim_due - time.monotonic(), 0)

    @property
    def _is_full(self) -> bool:
        return len(self._reads - {self._reader.catching_up}) >= (CONCURRENCY if self._reader.caught_up else 1)

    async def _lead(self) -> float:
        now = time.monotonic()
        gap = min(max(self._gap_seconds, self._reader.answer_seconds / CONCURRENCY), self.interval_seconds)
        due = max(self._began + (gap if self._wanted else self.interval_seconds), self._paused_until)
        until_renewal = max(self._claim_due - now, 0)
        if now >= due and self._is_full:
            self._wanted = True
            return until_renewal
        if now >= due:
            self._wanted, self._began, due = False, now, now + self.interval_seconds
            oldest_at = await self.store.oldest_pending_at()
            if oldest_at is not None or now >= self._idle_due:
                self._idle_due = now + self.idle_seconds
                task = asyncio.create_task(self._read(oldest_at, self._overlap(now)), name="event-read")
                self._reads.add(task)
                task.add_done_callback(self._reads.discard)
        return min(until_renewal, due - now)

    def _overlap(self, now: float) -> timedelta:
        """How far back the next read goes, which does for the shorter overlaps that are due, too."""
        overlap = OVERLAP
        for index, (times, back) in enumerate(OVERLAPS):
            if now >= self._long_due[index]:
                self._long_due[index] = now + times * self.long_every_seconds
                overlap = back
        return overlap

    async def _read(self, oldest_at: datetime | None, overlap: timedelta) -> None:
        began = time.monotonic()
        try:
            async with aclosing(self._reader.read(oldest_at, overlap=overlap)) as stored:
                async for read_until in stored:
                    await self._complete(read_until, began)
        except UnreadError as error:
            if error.unknown.cause is not UnknownCause.BUSY:
                self._failed(f"{error.unknown.cause}: {error}")
            else:
                self.observer.on_feed_read("busy")
                self._pause(error.unknown.wait_seconds or self._gap_seconds)
        except StoreUnavailableError:
            self._failed("the database is unavailable")
        except Exception:  # noqa: BLE001 - an unexpected error in one read need not occur in the next
            _log.exception("a read of Stripe's events failed")
            self._failed("unexpected error")

    async def _complete(self, read_until: datetime | None, began: float) -> None:
        ago = time.monotonic() - began
        stored = await self.cursor.advance(
            self.replica, read_until=read_until, began_seconds_ago=ago, lease_seconds=LEASE_SECONDS
        )
        if not stored:  # another replica leads by now
            self._claim_due = -math.inf
            return
        self._change.works("Stripe's events can be read again")
        self._backoff.reset()
        self.observer.on_feed_read("complete")
        self.waiters.notify_read(seconds_ago=time.monotonic() - began)

    def _failed(self, why: str) -> None:
        self._change.failed("Stripe's events cannot be read (%s); trying again", why)
        self.observer.on_feed_read("failed")
        self._pause(self._backoff.next_seconds())

    def _pause(self, seconds: float) -> None:
        """Read again after the pause, as somebody still wants this read."""
        self._paused_until = time.monotonic() + seconds
        self.waiters.request_read()


def gap_seconds(calls_per_second: float) -> float:
    """Between the starts of two wanted reads, for what Stripe allows (0: no limit)."""
    if not calls_per_second:
        return LEAST_GAP_SECONDS
    return min(max(1 / (SHARE * calls_per_second), LEAST_GAP_SECONDS), GAP_SECONDS)
