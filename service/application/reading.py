"""What of the gateway's events is read: from where, how far back, and when all of it is known to be stored."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Final, Protocol

from service.application.ports import Page
from service.application.steps import Steps
from service.application.told import Listener
from service.domain.outcomes import Unknown

_log = logging.getLogger(__name__)

OVERLAP: Final = timedelta(seconds=2)
LONG_OVERLAP: Final = timedelta(seconds=15)
"""Stripe promises neither the order of events nor that they are seen at once, so the last seconds are read again."""
CLOCK_SKEW: Final = timedelta(minutes=5)
"""Between our clocks and Stripe's, at most."""
REACH: Final = timedelta(days=29)
"""Stripe keeps events for 30 days; of what was before, only the list of sessions tells."""


class UnreadError(Exception):
    """The gateway could not be read; `unknown` says why."""

    def __init__(self, unknown: Unknown) -> None:
        super().__init__(unknown.detail or unknown.cause.value)
        self.unknown = unknown


class _List(Protocol):
    async def __call__(self, *, since: datetime, after: str | None, timeout_seconds: float) -> Page | Unknown: ...


class Reader:
    """Where the leader's readings are. They may overlap, except the first: only it knows how much there is to read.

    If there is much, the first one leaves what lies before its newest page behind for itself alone: the others go on
    from there, so that whoever pays now is known to have paid, however long it takes to catch up.
    """

    def __init__(self, *, steps: Steps, complete: Callable[[datetime | None, float], Awaitable[None]]) -> None:
        """`complete` hears until when everything is stored, and when (monotonic) the reading began that showed it."""
        self.listener: Final = Listener(steps=steps)
        self.pages = 0
        self.answer_seconds = 0.0
        """How long the gateway took for the last page."""
        self.caught_up = False
        """Whether the next reading may begin while others are under way."""
        self.catching_up: asyncio.Task[None] | None = None
        """Who reads what lies before; until that is done nothing is complete."""
        self._steps = steps
        self._complete = complete
        self._stored_until: datetime | None = None
        self._read_until: datetime | None = None

    def start(self, stored_until: datetime | None) -> None:
        """Begin where all that happened before is stored; None: nobody ever read."""
        self._stored_until = self._read_until = stored_until
        self.caught_up, self.catching_up = False, None

    async def read(self, oldest_at: datetime, *, is_long: bool) -> None:
        """Store what happened since the last reading, but nothing that payments as old as `oldest_at` cannot know of.

        Raises:
            UnreadError, StoreUnavailableError: the next reading begins where this one did.
        """
        try:
            await self._read(oldest_at - CLOCK_SKEW, is_long=is_long or not self.caught_up)
        except BaseException:
            if self._has_all_before():
                self.start(self._stored_until)
            raise

    async def _read(self, oldest_at: datetime, *, is_long: bool) -> None:
        began, now = time.monotonic(), self._steps.clock.now()
        since = self._since(oldest_at, LONG_OVERLAP if is_long else OVERLAP)
        if since < now - REACH:
            await self._read_sessions(oldest_at, now, began)
            return
        enough = self._since(oldest_at, OVERLAP)
        newest, is_complete = None, False
        async with aclosing(self._pages(self._steps.gateway.events, since)) as pages:
            async for page in pages:
                await self.listener.hear(page.told)
                if newest is None:
                    newest = max((each.at for each in page.told), default=None)
                if not is_complete and (page.next is None or any(each.at < enough for each in page.told)):
                    is_complete = True
                    await self._stored(newest, began)
                elif not self.caught_up:
                    self._leave_behind(newest)

    async def _read_sessions(self, oldest_at: datetime, now: datetime, began: float) -> None:
        """Store how all sessions stand that were made since."""
        _log.warning("Stripe has forgotten events that nobody read: looking through all sessions since %s", oldest_at)
        self._leave_behind(now - CLOCK_SKEW)
        async with aclosing(self._pages(self._steps.gateway.sessions, oldest_at)) as pages:
            async for page in pages:
                await self.listener.hear([each for each in page.told if each.outcome is not None])
        await self._stored(None, began)

    async def _pages(self, ask: _List, since: datetime) -> AsyncGenerator[Page]:
        after, timeout = None, self._steps.policy.gateway_timeout_seconds
        while True:
            asked = time.monotonic()
            page = await ask(since=since, after=after, timeout_seconds=timeout)
            if isinstance(page, Unknown):
                raise UnreadError(page)
            self.answer_seconds = time.monotonic() - asked
            self.pages += 1
            yield page
            if (after := page.next) is None:
                return

    def _since(self, oldest_at: datetime, overlap: timedelta) -> datetime:
        """While nothing was pending, nothing happened that need be read."""
        return oldest_at if self._read_until is None else max(oldest_at, self._read_until - overlap)

    def _leave_behind(self, newest: datetime | None) -> None:
        self.catching_up, self.caught_up = asyncio.current_task(), True
        self._move_on(newest)

    def _has_all_before(self) -> bool:
        """Whether this reading's end is the end of all that lies before, and not another's."""
        return self.catching_up in {None, asyncio.current_task()}

    def _move_on(self, newest: datetime | None) -> None:
        self._read_until = max(filter(None, (self._read_until, newest)), default=None)

    async def _stored(self, newest: datetime | None, began: float) -> None:
        """All is stored up to `newest`, but for what somebody else still reads."""
        self._move_on(newest)
        if self._has_all_before():
            self.caught_up, self.catching_up, self._stored_until = True, None, self._read_until
            await self._complete(self._read_until, began)
