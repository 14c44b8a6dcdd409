"""The feed with a real database and Stripe's stand-in: outcomes are known with nobody asking, whoever dies."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from contracts.commands import VerifyCheckout
from service.adapters.store import (
    READ_CHANNEL,
    WANTED_CHANNEL,
    Database,
    PostgresFeedRecord,
    PostgresStore,
    Wakeups,
)
from service.adapters.stripe import StripeGateway
from service.application import handlers
from service.application.news import Heard, News
from service.application.steps import Steps
from service.domain.status import Change
from service.entrypoints.feed import Feed
from tests.conftest import Migrated
from tests.integration.sandbox.harness import KEY, Running, running_sandbox
from tests.integration.service.messages.rig import until
from tests.service_support import MovableClock, context, create, policy, statements_of

SELDOM = 60.0
MONTH = 31 * 24 * 3600


@dataclass(kw_only=True)
class Replica:
    """A feed with a database pool, a gateway and ears of its own."""

    feed: Feed
    steps: Steps
    news: News
    database: Database
    tasks: list["asyncio.Task[None]"] = field(default_factory=list)

    def start(self) -> None:
        self.tasks.append(asyncio.create_task(self.feed.run()))

    async def stop(self) -> None:
        self.feed.stop()
        await asyncio.wait(self.tasks[1:])

    async def die(self) -> None:
        """As a process ends that is killed: nothing is said to anybody."""
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)


@dataclass(kw_only=True)
class Shop:
    """A database and Stripe, and any number of replicas between them."""

    url: str
    sandbox: Running
    database: Database
    clock: MovableClock
    few: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(16))
    bookings: Any = field(default_factory=lambda: itertools.count(1))

    @asynccontextmanager
    async def replica(self, *, interval: float = 0.2) -> AsyncIterator[Replica]:
        database, news = Database(self.url), News()
        heard: dict[str, Callable[[str], None]] = {
            WANTED_CHANNEL: lambda _: news.want_reading(here=False),
            READ_CHANNEL: lambda seconds: news.read(seconds_ago=float(seconds)),
        }
        gateway = StripeGateway(api_key=KEY, api_base=self.sandbox.url, concurrency=64)

        def told(change: Change) -> None:
            if change.payment.status.is_final:
                news.settled(change.payment.id)

        store = PostgresStore(database, told=told)
        steps = Steps(
            store=store, gateway=gateway, policy=policy(gateway_timeout_seconds=8), clock=self.clock, news=news
        )
        feed = Feed(steps=steps, record=PostgresFeedRecord(database), news=news, interval_seconds=interval)
        replica = Replica(feed=feed, steps=steps, news=news, database=database)
        replica.tasks.append(asyncio.create_task(Wakeups(self.url, heard=heard).run()))
        try:
            yield replica
        finally:
            await replica.die()
            await gateway.close()
            await database.close()

    async def create(self, steps: Steps, count: int = 1) -> list[str]:
        async def one() -> str:
            command = create(bookingId=next(self.bookings))
            async with self.few:
                return (await handlers.create_checkout(command, context=context(), steps=steps)).session_id

        return await asyncio.gather(*(one() for _ in range(count)))

    async def pay(self, sessions: list[str]) -> None:
        async def one(session: str) -> None:
            async with self.few:
                await self.sandbox.pay(session)

        await asyncio.gather(*map(one, sessions))

    async def completed(self, sessions: list[str]) -> bool:
        store = PostgresStore(self.database)
        if await store.pending_of_sessions(sessions):
            return False
        payments = [await store.payment_of_session(session) for session in sessions]
        return all(payment is not None and payment.status == "COMPLETED" for payment in payments)

    async def calls(self, name: str) -> int:
        stats = await self.sandbox.control("stats")
        count: int = stats["calls"][name]["calls"]
        return count


@pytest.fixture
async def shop(new_migrated: Callable[[], Migrated]) -> AsyncIterator[Shop]:
    url = await asyncio.to_thread(lambda: new_migrated().application)
    database = Database(url)
    async with running_sandbox() as sandbox:
        yield Shop(url=url, sandbox=sandbox, database=database, clock=MovableClock(datetime.now(UTC)))
    await database.close()


def paid(shop: Shop, sessions: list[str]) -> Callable[[], Awaitable[bool]]:
    return lambda: shop.completed(sessions)


async def test_who_paid_is_known_with_nobody_asking(shop: Shop) -> None:
    async with shop.replica() as replica:
        replica.start()
        [session] = await shop.create(replica.steps)
        await shop.pay([session])
        await until(paid(shop, [session]))
        assert await shop.calls("checkout.sessions.retrieve") == 0
        assert replica.feed.reader.listener.counters.finished == 1


async def test_when_the_leader_dies_another_replica_reads_on(shop: Shop) -> None:
    async with shop.replica() as first, shop.replica() as second:
        first.start()
        await until(lambda: first.feed.leading)
        second.start()
        sessions = await shop.create(first.steps, 2)
        await shop.pay(sessions[:1])
        await until(paid(shop, sessions[:1]))
        assert not second.feed.leading
        await first.die()
        await shop.pay(sessions[1:])
        await until(paid(shop, sessions[1:]))
        assert second.feed.leading


async def test_a_leader_that_leaves_hands_over_at_once(shop: Shop) -> None:
    async with shop.replica() as first, shop.replica() as second:
        first.start()
        await until(lambda: first.feed.leading)
        await first.stop()
        assert await PostgresFeedRecord(shop.database).claim(second.feed.replica, lease_seconds=60) is not None
        second.start()
        await until(lambda: second.feed.leading)


async def test_somebody_in_another_replica_hears_of_the_leaders_readings(shop: Shop) -> None:
    async with shop.replica(interval=SELDOM) as leader, shop.replica(interval=SELDOM) as other:
        leader.start()
        await until(lambda: leader.feed.leading)
        other.start()
        paying, waiting = await shop.create(other.steps, 2)
        payment = await other.steps.store.payment_of_session(waiting)
        assert payment is not None

        async def hears() -> bool:
            other.news.want_reading()
            return await other.news.wait(payment.id, seconds=1, reading=True) is Heard.READ

        await until(hears)
        await shop.pay([paying])
        other.news.want_reading()
        await until(paid(shop, [paying]))
        assert other.news.last_read_seconds_ago() < 60
        assert other.feed.reader.pages == 0


async def test_those_who_poll_ride_the_readings_and_each_poll_is_one_statement(shop: Shop) -> None:
    polls, rounds = 10, 3

    async def retrieves() -> int:
        stats = await shop.sandbox.control("stats")
        calls: int = stats["calls"]["checkout.sessions.retrieve"]["calls"]
        return calls

    async with shop.replica() as replica:
        replica.start()
        sessions = await shop.create(replica.steps, polls)

        async def poll(session: str) -> None:
            state, source = await handlers.verify_checkout(
                VerifyCheckout(session_id=session), context=context(), steps=replica.steps
            )
            assert (state.payment_status, source) == ("PENDING", "gateway")

        await asyncio.gather(*map(poll, sessions))
        assert await retrieves() == polls  # the first question about each
        await until(lambda: replica.news.last_read_seconds_ago() < 1)
        async with statements_of(replica.database) as seen:
            for _ in range(rounds):
                shop.clock.advance(2)  # past the freshness window
                await asyncio.gather(*map(poll, sessions))
        assert await retrieves() == polls
        texts = [text for text, _ in seen]
        assert sum("WHERE payments.session_id = " in text for text in texts) == rounds * polls
        assert not [text for text in texts if "UPDATE payments" in text or "payments.id = " in text]


async def test_hundreds_who_paid_while_nobody_read_are_found_and_what_that_costs_does_not_grow(shop: Shop) -> None:
    async with shop.replica(interval=SELDOM) as replica:
        sessions = await shop.create(replica.steps, 310)
        gone, later, waiting = sessions[:250], sessions[250:290], sessions[290:]
        await shop.pay(gone)
        replica.start()
        await until(lambda: replica.feed.readings["complete"] == 1, 60)
        assert await shop.completed(gone)
        assert await shop.calls("events.list") == 3, "pages of a hundred"
        await shop.pay(later)
        for _ in range(5000):
            replica.news.want_reading()
        await until(paid(shop, later), 60)
        await until(lambda: replica.feed.readings["complete"] == 2)
        heard = replica.feed.reader.listener.counters
        assert (heard.told, heard.finished, heard.failures) == (290, 290, 0)
        assert await shop.calls("checkout.sessions.retrieve") == 0
        assert not await shop.completed(waiting)
        # The last seconds are read again: as many pages as there are events of 15 s, whoever waits or asks.
        assert await shop.calls("events.list") <= 3 + 3


async def test_what_was_paid_a_month_ago_is_found_by_the_sessions(shop: Shop) -> None:
    async with shop.replica() as replica:
        sessions = await shop.create(replica.steps, 2)
        await shop.pay(sessions[:1])
        await shop.sandbox.control("clock", {"advance_seconds": MONTH})
        shop.clock.advance(MONTH)
        replica.start()
        await until(paid(shop, sessions[:1]))
        await until(lambda: replica.feed.readings["complete"] > 0)
        assert await shop.calls("checkout.sessions.list") == 1


async def test_an_outage_of_stripe_delays_and_loses_nothing(shop: Shop) -> None:
    async with shop.replica() as replica:
        replica.start()
        sessions = await shop.create(replica.steps, 2)
        await shop.sandbox.control("config", {"error_rate": 1})
        await shop.pay(sessions)
        await until(lambda: replica.feed.readings["failed"] > 0, 30)
        await shop.sandbox.control("config", {"error_rate": 0})
        await until(paid(shop, sessions), 30)
