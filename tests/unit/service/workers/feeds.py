"""What tests of the feed share: a store, a gateway that is slow or forgets, and any number of feeds."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from service.application.ports import EventPage, SessionEvent
from service.application.waiters import WaiterRegistry
from service.domain.errors import StoreUnavailableError
from service.domain.outcomes import Unknown
from service.domain.payment import Payment, PaymentStatus
from service.workers.event_feed import EventFeed
from tests.kit.clock import MovableClock
from tests.kit.fake_event_cursor import FakeEventCursor
from tests.kit.fake_gateway import FakeGateway
from tests.kit.fake_store import FakeStore
from tests.kit.observers import CountingObserver
from tests.kit.until import until
from tests.kit.world import World

COMPLETED, FAILED, PENDING = PaymentStatus.COMPLETED, PaymentStatus.FAILED, PaymentStatus.PENDING
OFTEN, SELDOM = 0.001, 3600.0


class Gateway(FakeGateway):
    """Keeps from which moments on events were read; can be slow."""

    def __init__(self, clock: MovableClock) -> None:
        super().__init__(clock)
        self.asked: list[datetime] = []
        self.delay: asyncio.Event | None = None

    async def events(self, *, since: datetime, after: str | None = None, timeout_seconds: float) -> EventPage | Unknown:
        if after is None:
            self.asked.append(since)
        if self.delay is not None:
            await self.delay.wait()
        return await super().events(since=since, after=after, timeout_seconds=timeout_seconds)

    def tell(self, event: SessionEvent) -> None:
        self._told.append(event)


class BrokenStore(FakeStore):
    """May be away."""

    away = False

    async def payments_of_sessions(self, session_ids: Sequence[str]) -> Sequence[Payment]:
        if self.away:
            raise StoreUnavailableError
        return await super().payments_of_sessions(session_ids)


class House:
    """A store, a gateway and any number of feeds."""

    def __init__(self) -> None:
        self.clock = MovableClock()
        self.store = BrokenStore()
        self.gateway = Gateway(self.clock)
        self.cursor = FakeEventCursor(self.clock)
        self.counts = CountingObserver()
        self.waiters = WaiterRegistry()
        self.world = World(store=self.store, gateway=self.gateway, clock=self.clock, observer=self.counts)

    async def create(self, booking: int = 1) -> str:
        return (await self.world.create(bookingId=booking)).session_id

    def status(self, session_id: str) -> PaymentStatus:
        return self.payment(session_id).status

    def payment(self, session_id: str) -> Payment:
        return next(payment for payment in self.store.payments.values() if payment.session_id == session_id)

    @property
    def events_calls(self) -> int:
        return self.gateway.calls.count("events")

    @asynccontextmanager
    async def reading(
        self, *, interval: float = SELDOM, long_every: float = SELDOM, idle: float = SELDOM
    ) -> AsyncIterator[EventFeed]:
        feed = EventFeed(
            store=self.store,
            gateway=self.gateway,
            outcomes=self.world.outcomes,
            told_sessions=self.world.told_sessions,
            clock=self.clock,
            cursor=self.cursor,
            waiters=self.waiters,
            observer=self.counts,
            gateway_timeout_seconds=2.0,
            interval_seconds=interval,
            calls_per_second=0,
            long_every_seconds=long_every,
            idle_seconds=idle,
        )
        task = asyncio.create_task(feed.run())
        yield feed
        feed.stop()
        await task

    async def read_once(self) -> None:
        """By a new leader."""
        before = self.reads
        async with self.reading():
            await until(lambda: self.reads > before)

    @property
    def reads(self) -> int:
        """Complete ones."""
        return self.counts["feed_read complete"]
