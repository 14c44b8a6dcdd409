"""The outbox port: one suite for the fake and for PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest
from sqlalchemy import text

from contracts.events import PaymentEvent
from service.adapters.postgres import Database, PostgresOutbox, PostgresStore
from service.application.ports import Backlog, Outbox, OutboxRow, Store
from service.domain.outcomes import Expired
from service.domain.status import decide
from tests.integration.service.ports.test_store import BOOKINGS, an_opening, begun, changed
from tests.kit.clock import NOW
from tests.kit.databases import Migrated
from tests.kit.fake_outbox import FakeOutbox
from tests.kit.fake_store import FakeStore
from tests.kit.lifetimes import closing
from tests.kit.service import a_draft, context


@pytest.fixture(scope="session")
def outbox_url(new_migrated: Callable[[], Migrated]) -> str:
    """A database in which nobody else writes events."""
    return new_migrated().application


@dataclass(frozen=True, kw_only=True)
class Pair:
    store: Store
    outbox: Outbox

    async def claim(self, seconds: float = 0, *, limit: int = 100, lease: float = 10) -> Sequence[OutboxRow]:
        return await self.outbox.claim(limit=limit, at=at(seconds), lease_seconds=lease)

    async def payment(self, events: int = 1) -> int:
        """The id of a payment with so many events."""
        payment = (await begun(self.store, a_draft(booking_id=next(BOOKINGS)))).payment
        for outcome in [an_opening(), Expired()][:events]:
            payment = await changed(self.store, payment, outcome)
        return payment.id

    async def send(self, *rows: OutboxRow, seconds: float = 0) -> None:
        await self.outbox.mark_sent([row.id for row in rows], at=at(seconds))


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.fixture(params=["fake", "postgres"])
async def pair(request: pytest.FixtureRequest, outbox_url: str) -> AsyncIterator[Pair]:
    if request.param == "fake":
        outbox = FakeOutbox()
        yield Pair(store=FakeStore(outbox), outbox=outbox)
        return
    async with closing(Database(outbox_url)) as database:
        async with database.transaction() as connection:
            for statement in ("UPDATE outbox SET sent_at = now()", "DELETE FROM outbox"):
                await connection.execute(text(statement))
        yield Pair(store=PostgresStore(database), outbox=PostgresOutbox(database))


async def test_an_event_is_there_as_soon_as_its_change_is(pair: Pair) -> None:
    payment = (await begun(pair.store, a_draft(booking_id=next(BOOKINGS)))).payment
    assert await pair.claim() == []
    change = decide(payment, an_opening(), at=NOW)
    assert change is not None
    await pair.store.record(change, context=context(request_id="request-9", trace_parent="00-a-b-01"))
    (row,) = await pair.claim()
    assert (row.payment_id, row.sequence, row.routing_key, row.attempts) == (payment.id, 1, "payment.pending", 1)
    assert row.headers == {"x-request-id": "request-9", "traceparent": "00-a-b-01"}
    assert row.created_at == NOW
    event = PaymentEvent.model_validate_json(row.body)
    assert (event.id, event.data.payment_id, event.data.sequence) == (row.event_id, payment.id, 1)


async def test_a_change_that_lost_its_race_leaves_no_event(pair: Pair) -> None:
    payment = (await begun(pair.store, a_draft(booking_id=next(BOOKINGS)))).payment
    await asyncio.gather(*(changed(pair.store, payment, an_opening()) for _ in range(10)), return_exceptions=True)
    (row,) = await pair.claim()
    await pair.send(row)
    assert await pair.claim(10**5) == [], "what was sent never comes back"


async def test_a_claimed_event_belongs_to_one_relay_until_its_lease_ends(pair: Pair) -> None:
    await pair.payment()
    (row,) = await pair.claim(0, lease=10)
    assert await pair.claim(9.9) == []
    await pair.outbox.mark_sent([], at=NOW)
    (again,) = await pair.claim(10.1)
    assert (again.id, again.body, again.event_id, again.attempts) == (row.id, row.body, row.event_id, 2)


async def test_relays_share_the_events_oldest_first_and_never_one_of_them(pair: Pair) -> None:
    ids = [await pair.payment() for _ in range(30)]
    assert [row.payment_id for row in await pair.claim(limit=3)] == ids[:3]
    shares = await asyncio.gather(*(pair.claim(limit=5) for _ in range(10)))
    claimed = [row.payment_id for share in [*shares, await pair.claim()] for row in share]
    assert sorted(claimed) == sorted(ids[3:])


async def test_the_backlog_is_what_was_not_sent_yet_and_how_old_it_is(pair: Pair) -> None:
    assert await pair.outbox.backlog() == Backlog(unsent=0, oldest_at=None)
    await pair.payment(events=2)
    assert await pair.outbox.backlog() == Backlog(unsent=2, oldest_at=NOW)
    (row,) = await pair.claim()
    assert (await pair.outbox.backlog()).unsent == 2, "what is claimed is not sent"
    await pair.send(row)
    assert (await pair.outbox.backlog()).unsent == 1


async def test_the_events_of_a_payment_leave_one_after_the_other_and_hold_back_no_other_payment(pair: Pair) -> None:
    stuck = await pair.payment(events=2)
    (first,) = await pair.claim()
    assert (first.sequence, await pair.claim(5)) == (1, [])
    await pair.outbox.put_off(first.id, until=at(60))
    other = await pair.payment()
    assert [row.payment_id for row in await pair.claim(30)] == [other]
    first, _ = claimed = await pair.claim(61)
    assert [(row.payment_id, row.sequence) for row in claimed] == [(stuck, 1), (other, 1)]
    await pair.send(first)
    assert [(row.payment_id, row.sequence) for row in await pair.claim(62)] == [(stuck, 2)]


async def test_a_released_event_is_there_at_once_as_if_untried(pair: Pair) -> None:
    await pair.payment(events=2)
    [first] = await pair.claim(0)
    await pair.outbox.release([first.id])
    assert await pair.claim(0) == [first]  # its attempts, too
    await pair.send(first)
    await pair.outbox.release([first.id])  # another relay was faster
    [second] = await pair.claim(1)
    assert second.sequence == first.sequence + 1


# --- pruning --------------------------------------------------------------------------------------------------------


async def test_events_are_pruned_by_the_time_they_were_sent_oldest_first(pair: Pair) -> None:
    for seconds in (30, 10, 20):
        await pair.payment()
        await pair.send(*await pair.claim(seconds), seconds=seconds)
    pruned = [await pair.outbox.prune_sent(before=at(seconds), limit=2) for seconds in (10, 31, 30, 31)]
    assert pruned == [0, 2, 0, 1], "the newest goes last"


async def test_only_sent_events_are_pruned_and_what_follows_them_still_leaves(pair: Pair) -> None:
    payment = await pair.payment(events=2)
    (first,) = await pair.claim()
    await pair.send(first)
    assert await pair.outbox.prune_sent(before=at(1), limit=1000) == 1
    assert [(row.payment_id, row.sequence) for row in await pair.claim()] == [(payment, 2)]


async def test_pruners_share_the_events(pair: Pair) -> None:
    for _ in range(30):
        await pair.payment()
    await pair.send(*await pair.claim())
    before = at(1)
    counts = await asyncio.gather(*(pair.outbox.prune_sent(before=before, limit=10) for _ in range(6)))
    assert max(counts) <= 10
    assert sum(counts) + await pair.outbox.prune_sent(before=before, limit=100) == 30
