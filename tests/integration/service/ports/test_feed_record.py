"""The feed's record and what it asks the store: one suite for the fakes and for PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest

from service.adapters.store import (
    READ_CHANNEL,
    WANTED_CHANNEL,
    Database,
    PostgresFeedRecord,
    PostgresStore,
    Wakeups,
)
from service.application.ports import FeedRecord, Lead, Store
from service.domain.outcomes import Expired
from tests.conftest import Migrated
from tests.fakes import FakeFeedRecord, FakeStore
from tests.integration.service.messages.rig import until
from tests.integration.service.ports.test_store import an_opening, begun, changed
from tests.service_support import NOW, a_draft

LEASE = 60.0


@dataclass(frozen=True, kw_only=True)
class Pair:
    store: Store
    record: FeedRecord


@pytest.fixture(params=["fake", "postgres"])
async def pair(request: pytest.FixtureRequest, new_migrated: Callable[[], Migrated]) -> AsyncIterator[Pair]:
    """In a database where nobody else leads or has anything pending."""
    if request.param == "fake":
        yield Pair(store=FakeStore(), record=FakeFeedRecord())
        return
    database = Database(await asyncio.to_thread(lambda: new_migrated().application))
    yield Pair(store=PostgresStore(database), record=PostgresFeedRecord(database))
    await database.close()


async def advance(record: FeedRecord, replica: str, minutes: float | None) -> bool:
    read_until = None if minutes is None else NOW + timedelta(minutes=minutes)
    return await record.advance(replica, read_until=read_until, began_seconds_ago=0.25, lease_seconds=LEASE)


async def test_one_replica_leads_and_goes_on_leading(pair: Pair) -> None:
    record = pair.record
    claims = await asyncio.gather(*(record.claim(replica, lease_seconds=LEASE) for replica in "abc"))
    [leader] = [replica for replica, lead in zip("abc", claims, strict=True) if lead is not None]
    assert await record.claim(leader, lease_seconds=LEASE) == Lead(read_until=None)
    assert [await record.claim(other, lease_seconds=LEASE) for other in "abc" if other != leader] == [None, None]


async def test_whoever_leads_next_goes_on_where_the_last_one_was(pair: Pair) -> None:
    record = pair.record
    assert await record.claim("a", lease_seconds=LEASE)
    assert await advance(record, "a", 5)
    await record.release("b")
    assert await record.claim("b", lease_seconds=LEASE) is None
    await record.release("a")
    assert not await advance(record, "a", 7), "a reading that ends after that would take the lead back"
    assert await record.claim("b", lease_seconds=LEASE) == Lead(read_until=NOW + timedelta(minutes=5))


async def test_what_is_read_never_goes_back(pair: Pair) -> None:
    record = pair.record
    await record.claim("a", lease_seconds=LEASE)
    assert [await advance(record, "a", minutes) for minutes in (None, 5, 3, None)] == [True] * 4
    assert await record.claim("a", lease_seconds=LEASE) == Lead(read_until=NOW + timedelta(minutes=5))


async def test_only_the_leader_advances(pair: Pair) -> None:
    record = pair.record
    assert not await advance(record, "b", 1)
    await record.claim("a", lease_seconds=LEASE)
    assert not await advance(record, "b", 9)
    assert await record.claim("a", lease_seconds=LEASE) == Lead(read_until=None)


async def test_the_oldest_payment_that_may_be_paid_is_known(pair: Pair) -> None:
    store = pair.store
    assert await store.oldest_pending_at() is None
    await begun(store, a_draft(booking_id=1, created_at=NOW - timedelta(hours=3)))
    assert await store.oldest_pending_at() is None, "without a session nobody can pay"
    opened = []
    for hours in (2, 1):
        payment = (await begun(store, a_draft(booking_id=9 - hours, created_at=NOW - timedelta(hours=hours)))).payment
        opened.append(await changed(store, payment, an_opening()))
    assert await store.oldest_pending_at() == NOW - timedelta(hours=2)
    await changed(store, opened[0], Expired())
    assert await store.oldest_pending_at() == NOW - timedelta(hours=1)


async def test_of_many_sessions_those_of_pending_payments_are_found(pair: Pair) -> None:
    store = pair.store
    payments = [(await begun(store, a_draft(booking_id=20 + number))).payment for number in range(3)]
    payments = [await changed(store, payment, an_opening()) for payment in payments]
    await changed(store, payments[2], Expired())
    asked = ["cs_test_stranger", *(payment.session_id or "" for payment in payments)]
    found = await store.pending_of_sessions(asked)
    assert sorted(found, key=lambda payment: payment.id) == payments[:2]
    assert await store.pending_of_sessions([]) == []


async def test_a_lease_that_nobody_renews_ends(new_migrated: Callable[[], Migrated]) -> None:
    database = Database(await asyncio.to_thread(lambda: new_migrated().application))
    record = PostgresFeedRecord(database)
    assert await record.claim("dead", lease_seconds=0.3)

    async def led() -> Lead | None:
        return await record.claim("next", lease_seconds=LEASE)

    assert await until(led) == Lead(read_until=None)
    assert not await advance(record, "dead", 1)
    await database.close()


async def test_replicas_hear_that_a_reading_is_wanted_and_complete(new_migrated: Callable[[], Migrated]) -> None:
    url = await asyncio.to_thread(lambda: new_migrated().application)
    database, heard = Database(url), list[tuple[str, str]]()
    record = PostgresFeedRecord(database)
    await record.claim("a", lease_seconds=LEASE)

    def hearing(channel: str) -> Callable[[str], None]:
        return lambda payload: heard.append((channel, payload))

    alarm = Wakeups(url, heard={channel: hearing(channel) for channel in (WANTED_CHANNEL, READ_CHANNEL)})
    listening = asyncio.create_task(alarm.run())

    async def hears() -> bool:
        await record.want()
        return bool(heard)

    await until(hears)
    assert not await advance(record, "b", 1)
    assert await advance(record, "a", 1)
    await until(lambda: heard[-1] == (READ_CHANNEL, "0.250"))
    assert {channel for channel, _ in heard[:-1]} == {WANTED_CHANNEL}
    listening.cancel()
    await asyncio.wait([listening])
    await database.close()
