"""What tests of the feed are made of: a store, a gateway that is slow or forgets, and any number of feeds."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from service.application import handlers
from service.application.news import News
from service.application.ports import Page, Told
from service.application.steps import Steps
from service.domain.errors import StoreUnavailableError
from service.domain.outcomes import Unknown
from service.domain.payment import Payment, PaymentStatus
from service.entrypoints.feed import Feed
from tests.fakes import FakeFeedRecord, FakeGateway, FakeStore
from tests.service_support import MovableClock, context, create, policy

COMPLETED, FAILED, PENDING = PaymentStatus.COMPLETED, PaymentStatus.FAILED, PaymentStatus.PENDING
OFTEN, SELDOM = 0.001, 3600.0


class Gateway(FakeGateway):
    """Keeps from when on it was asked for events; what was told can be seen late."""

    def __init__(self, clock: MovableClock) -> None:
        super().__init__(clock)
        self.asked: list[datetime] = []
        self.delay: asyncio.Event | None = None

    async def events(self, *, since: datetime, after: str | None = None, timeout_seconds: float) -> Page | Unknown:
        if after is None:
            self.asked.append(since)
        if self.delay is not None:
            await self.delay.wait()
        return await super().events(since=since, after=after, timeout_seconds=timeout_seconds)

    def tell(self, told: Told) -> None:
        self._told.append(told)


class BrokenStore(FakeStore):
    """May be away."""

    away = False

    async def pending_of_sessions(self, session_ids: Sequence[str]) -> Sequence[Payment]:
        if self.away:
            raise StoreUnavailableError
        return await super().pending_of_sessions(session_ids)


class House:
    """A store, a gateway and any number of feeds."""

    def __init__(self) -> None:
        self.clock = MovableClock()
        self.store = BrokenStore()
        self.gateway = Gateway(self.clock)
        self.record = FakeFeedRecord()
        self.steps = Steps(store=self.store, gateway=self.gateway, policy=policy(), clock=self.clock)

    async def create(self, booking: int = 1) -> str:
        answer = await handlers.create_checkout(create(bookingId=booking), context=context(), steps=self.steps)
        return answer.session_id

    def status(self, session_id: str) -> PaymentStatus:
        return self.payment(session_id).status

    def payment(self, session_id: str) -> Payment:
        return next(payment for payment in self.store.payments.values() if payment.session_id == session_id)

    @property
    def events_calls(self) -> int:
        return self.gateway.calls.count("events")

    def feed(self, *, interval: float = SELDOM, long_every: float = SELDOM, news: News | None = None) -> Feed:
        return Feed(
            steps=self.steps,
            record=self.record,
            news=News() if news is None else news,
            interval_seconds=interval,
            long_every_seconds=long_every,
        )

    @asynccontextmanager
    async def reading(self, feed: Feed | None = None, **options: float) -> AsyncIterator[Feed]:
        feed = feed or self.feed(**options)
        task = asyncio.create_task(feed.run())
        yield feed
        feed.stop()
        await task

    async def read_once(self) -> Feed:
        """A new leader, which reads one time."""
        async with self.reading() as feed:
            await until(lambda: feed.readings["complete"] > 0)
        return feed


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.002)
