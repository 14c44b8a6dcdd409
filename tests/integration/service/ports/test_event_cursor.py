"""The cursor of the event feed and what the feed asks the store: one suite for the fakes and for PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest

from service.adapters.postgres import (
    READ_CHANNEL,
    WANTED_CHANNEL,
    Database,
    PostgresEventCursor,
    PostgresListener,
    PostgresStore,
)
from service.application.ports import EventCursor, LeaderLease, Store
from service.domain.outcomes import Expired
from tests.integration.service.messages.rig import until
from tests.integration.service.ports.test_store import an_opening, begun, changed
from tests.kit.clock import NOW
from tests.kit.databases import Migrated
from tests.kit.fake_event_cursor import FakeEventCursor
from tests.kit.fake_store import FakeStore
from tests.kit.lifetimes import beside, closing
from tests.kit.service import a_draft

LEASE = 60.0
IN_FIVE = LeaderLease(read_until=NOW + timedelta(minutes=5), now=NOW)


@dataclass(frozen=True, kw_only=True)
class Pair:
    store: Store
    cursor: EventCursor

    async def claim(self, replica: str, *, seconds: float = LEASE) -> LeaderLease | None:
        return await self.cursor.claim(replica, lease_seconds=seconds)

    async def advance(self, replica: str, minutes: float | None) -> bool:
        read_until = None if minutes is None else NOW + timedelta(minutes=minutes)
        return await self.cursor.advance(replica, read_until=read_until, began_seconds_ago=0.25, lease_seconds=LEASE)


@pytest.fixture
async def url(new_migrated: Callable[[], Migrated]) -> str:
    """A database where nobody else leads or has anything pending."""
    return await asyncio.to_thread(lambda: new_migrated().application)


@pytest.fixture
async def postgres(url: str) -> AsyncIterator[Pair]:
    async with closing(Database(url)) as database:
        yield Pair(store=PostgresStore(database), cursor=PostgresEventCursor(database))


@pytest.fixture(params=["fake", "postgres"])
def pair(request: pytest.FixtureRequest) -> Pair:
    if request.param == "fake":
        return Pair(store=FakeStore(), cursor=FakeEventCursor())
    made: Pair = request.getfixturevalue("postgres")
    return made


async def test_one_replica_leads_and_goes_on_leading(pair: Pair) -> None:
    claims = await asyncio.gather(*(pair.claim(replica) for replica in "abc"))
    [leader] = [replica for replica, lease in zip("abc", claims, strict=True) if lease is not None]
    assert await pair.claim(leader) == LeaderLease(read_until=None, now=NOW)
    assert [await pair.claim(other) for other in "abc" if other != leader] == [None, None]


async def test_the_next_leader_goes_on_where_the_last_one_was(pair: Pair) -> None:
    assert await pair.claim("a")
    assert await pair.advance("a", 5)
    await pair.cursor.release("b")
    assert await pair.claim("b") is None
    await pair.cursor.release("a")
    assert not await pair.advance("a", 7), "a pass that ends after that would take the lead back"
    assert await pair.claim("b") == IN_FIVE


async def test_the_cursor_never_goes_back_and_only_the_leader_advances_it(pair: Pair) -> None:
    assert not await pair.advance("b", 1)
    await pair.claim("a")
    assert [await pair.advance("a", minutes) for minutes in (None, 5, 3, None)] == [True] * 4
    assert not await pair.advance("b", 9)
    assert await pair.claim("a") == IN_FIVE


async def test_the_oldest_payment_that_may_be_paid_is_known(pair: Pair) -> None:
    store, opened = pair.store, []
    assert await store.oldest_pending_at() is None
    await begun(store, a_draft(booking_id=1, created_at=NOW - timedelta(hours=3)))
    assert await store.oldest_pending_at() is None, "without a session nobody can pay"
    for hours in (2, 1):
        payment = (await begun(store, a_draft(booking_id=9 - hours, created_at=NOW - timedelta(hours=hours)))).payment
        opened.append(await changed(store, payment, an_opening()))
    assert await store.oldest_pending_at() == NOW - timedelta(hours=2)
    await changed(store, opened[0], Expired())
    assert await store.oldest_pending_at() == NOW - timedelta(hours=1)


async def test_of_many_sessions_those_of_payments_here_are_found(pair: Pair) -> None:
    store = pair.store
    payments = [(await begun(store, a_draft(booking_id=20 + number))).payment for number in range(3)]
    payments = [await changed(store, payment, an_opening()) for payment in payments]
    payments[2] = await changed(store, payments[2], Expired())
    found = await store.payments_of_sessions(["cs_test_stranger", *(payment.session_id or "" for payment in payments)])
    assert sorted(found, key=lambda payment: payment.id) == payments
    assert await store.payments_of_sessions([]) == []


async def test_a_lease_that_nobody_renews_ends(postgres: Pair) -> None:
    assert await postgres.claim("dead", seconds=0.3)
    assert await until(lambda: postgres.claim("next")) == LeaderLease(read_until=None, now=NOW)
    assert not await postgres.advance("dead", 1)


async def test_replicas_are_notified_that_a_pass_is_wanted_and_complete(postgres: Pair, url: str) -> None:
    notified = list[tuple[str, str]]()
    await postgres.claim("a")

    def note(channel: str) -> Callable[[str], None]:
        return lambda payload: notified.append((channel, payload))

    listener = PostgresListener(
        url,
        on_notification={channel: note(channel) for channel in (WANTED_CHANNEL, READ_CHANNEL)},
        on_reconnect=lambda: None,
    )

    async def is_notified() -> bool:
        await postgres.cursor.want()
        return bool(notified)

    async with beside(listener.run()):
        await until(is_notified)
        assert not await postgres.advance("b", 1)
        assert await postgres.advance("a", 1)
        await until(lambda: notified[-1] == (READ_CHANNEL, "0.250"))
    assert {channel for channel, _ in notified[:-1]} == {WANTED_CHANNEL}
