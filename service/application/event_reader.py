"""Which of the gateway's events are read: from which moment, how far back, and when all of them are stored."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from service.application.event_ingest import EventIngestor, FeedObserver
from service.application.ports import Clock, EventPage, Gateway
from service.domain.outcomes import Unknown

_log = logging.getLogger(__name__)

OVERLAP: Final = timedelta(seconds=2)
LONG_OVERLAP: Final = timedelta(seconds=15)
"""Stripe guarantees neither the order of events nor that they are visible at once: the last seconds are read again."""
FIRST_OVERLAP: Final = timedelta(minutes=15)
"""How far back to begin where no event was ever read and nothing is pending."""
CLOCK_SKEW: Final = timedelta(minutes=5)
"""Between our clocks and Stripe's, at most."""
RETENTION: Final = timedelta(days=29)
"""Stripe keeps events for 30 days; anything older is found only in the list of sessions."""


class UnreadError(Exception):
    """The gateway could not be read; `unknown` says why."""

    def __init__(self, unknown: Unknown) -> None:
        super().__init__(unknown.detail or unknown.cause.value)
        self.unknown = unknown


@dataclass(kw_only=True, eq=False)
class EventReader:
    """The leader's position. Reads may overlap, except the first: only it knows how much there is to read.

    If there is much, the first read keeps everything older than its newest page to itself, and later reads go on from
    there. So new payments are noticed at once, however long it takes to catch up.
    """

    gateway: Gateway
    ingestor: EventIngestor
    clock: Clock
    gateway_timeout_seconds: float
    observer: FeedObserver

    def __post_init__(self) -> None:
        self.answer_seconds = 0.0
        """How long the gateway took for the last page."""
        self.caught_up = False
        """Whether the next read may begin while others are running."""
        self.catching_up: asyncio.Task[None] | None = None
        """The task that reads what lies before; until it ends, no read is complete."""
        self._ahead = timedelta(0)
        """How far the database's clock is ahead of ours."""
        self._stored_until: datetime | None = None
        self._read_until: datetime | None = None

    def start(self, stored_until: datetime | None) -> None:
        """Begin at the moment before which every event is stored; None: no event was ever read."""
        self._stored_until = self._read_until = stored_until
        self.caught_up, self.catching_up = False, None

    def set_time(self, now: datetime) -> None:
        """Let the database's clock be ours from now on: it is what the replicas share."""
        self._ahead = now - self.clock.now()
        if self._read_until is not None and self._read_until > min(now, self._latest() + LONG_OVERLAP):
            _log.warning(
                "Stripe's events were marked as read until %s, which is yet to come: reading again what can be new",
                self._read_until,
            )
            self.start(None)

    async def read(
        self, oldest_at: datetime | None, *, overlap: timedelta = OVERLAP
    ) -> AsyncGenerator[datetime | None]:
        """Store the events since the last read, and those of the `overlap` before it.

        `oldest_at`: of the payments that are pending: if no event was ever read, theirs are read.

        Yields once, as soon as everything is stored that happened before this read: the moment to continue from (None
        if there was no event at all). It does not yield while another read still catches up. A long read goes on after
        that, further back. After UnreadError or StoreUnavailableError the next read begins where this one did.
        """
        now = self._now()
        begin = now - FIRST_OVERLAP if oldest_at is None else oldest_at - CLOCK_SKEW
        begin += self._behind()
        enough = self._since(begin, OVERLAP)
        since = self._since(begin, overlap if self.caught_up else max(overlap, LONG_OVERLAP))
        if max(begin, since) < now - RETENTION:
            stored = self._read_sessions(begin)
        else:
            stored = self._read_events(max(since, now - RETENTION), enough)
        try:
            async with aclosing(stored):
                async for newest in stored:
                    self._move_on(newest)
                    if self._has_all_before():
                        self.caught_up, self.catching_up, self._stored_until = True, None, self._read_until
                        yield self._read_until
        except BaseException:
            if self._has_all_before():
                self.start(self._stored_until)
            raise

    async def _read_events(self, since: datetime, enough: datetime) -> AsyncGenerator[datetime | None]:
        """Yields the newest event's moment once all events back to `enough` are stored."""
        newest, is_complete = None, False
        async with aclosing(self._pages(self.gateway.events, since)) as pages:
            async for page in pages:
                await self.ingestor.ingest(page.events)
                if newest is None:
                    # One that is dated in the future would hide what comes until then.
                    newest = max((event.at for event in page.events if event.at <= self._latest()), default=None)
                if not is_complete and (page.next is None or any(event.at < enough for event in page.events)):
                    is_complete = True
                    yield newest
                elif not self.caught_up:
                    self._leave_behind(newest)

    async def _read_sessions(self, oldest_at: datetime) -> AsyncGenerator[datetime | None]:
        """The same from the list of all sessions created since `oldest_at`."""
        _log.warning("Stripe has deleted events that were never read: reading all sessions since %s", oldest_at)
        self._leave_behind(self._latest() - CLOCK_SKEW)
        async with aclosing(self._pages(self.gateway.sessions, oldest_at)) as pages:
            async for page in pages:
                await self.ingestor.ingest(page.events, are_listed=True)
        yield None

    async def _pages(
        self, fetch: Callable[..., Awaitable[EventPage | Unknown]], since: datetime
    ) -> AsyncGenerator[EventPage]:
        after = None
        while True:
            began = time.monotonic()
            page = await fetch(since=since, after=after, timeout_seconds=self.gateway_timeout_seconds)
            if isinstance(page, Unknown):
                raise UnreadError(page)
            self.answer_seconds = time.monotonic() - began
            self.observer.on_feed_page()
            yield page
            if (after := page.next) is None:
                return

    def _since(self, begin: datetime, overlap: timedelta) -> datetime:
        """From when on to read."""
        return begin if self._read_until is None else self._read_until - overlap

    def _now(self) -> datetime:
        return self.clock.now() + self._ahead

    def _behind(self) -> timedelta:
        """How far the gateway, by whose clock events are dated, is behind ours; never positive."""
        return min(self.gateway.ahead, timedelta())

    def _latest(self) -> datetime:
        """No event can be dated later, by either clock."""
        return self._now() + self._behind()

    def _leave_behind(self, newest: datetime | None) -> None:
        """Let later reads begin at `newest` while this one catches up."""
        self.catching_up, self.caught_up = asyncio.current_task(), True
        self._move_on(newest)

    def _has_all_before(self) -> bool:
        """Whether no other read is still catching up."""
        return self.catching_up in {None, asyncio.current_task()}

    def _move_on(self, newest: datetime | None) -> None:
        self._read_until = max(filter(None, (self._read_until, newest)), default=None)
