"""The outbox port: one suite for the fake and for PostgreSQL."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest

from contracts.events import PaymentEvent
from service.adapters.store import Database, PostgresOutbox, PostgresStore
from service.application.ports import Backlog, Outbox, OutboxRow, Store
from service.domain.outcomes import Expired
from service.domain.status import decide
from tests.conftest import Migrated
from tests.fakes import FakeOutbox, FakeStore
from tests.integration.service.ports.test_store import an_opening, begun, changed
from tests.service_support import NOW, a_draft, context

_bookings = itertools.count(os.getpid() * 1_000_000 + 800_001)


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
        """A payment with so many events; its id."""
        payment = (await begun(self.store, a_draft(booking_id=next(_bookings)))).payment
        for outcome in [an_opening(), Expired()][:events]:
            payment = await changed(self.store, payment, outcome)
        return payment.id


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.fixture(params=["fake", "postgres"])
async def pair(request: pytest.FixtureRequest, outbox_url: str) -> AsyncIterator[Pair]:
    if request.param == "fake":
        outbox = FakeOutbox()
        yield Pair(store=FakeStore(outbox), outbox=outbox)
        return
    database = Database(outbox_url)
    rows = PostgresOutbox(database)
    while left := await rows.claim(limit=1000, at=at(10**6), lease_seconds=0):
        await rows.mark_sent([row.id for row in left], at=NOW)
    yield Pair(store=PostgresStore(database), outbox=rows)
    await database.close()


async def test_an_event_is_there_as_soon_as_its_change_is(pair: Pair) -> None:
    payment = (await begun(pair.store, a_draft(booking_id=next(_bookings)))).payment
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
    payment = (await begun(pair.store, a_draft(booking_id=next(_bookings)))).payment
    await asyncio.gather(*(changed(pair.store, payment, an_opening()) for _ in range(10)), return_exceptions=True)
    (row,) = await pair.claim()
    await pair.outbox.mark_sent([row.id], at=NOW)
    assert await pair.claim(100) == []


async def test_what_is_claimed_belongs_to_one_relay_until_the_lease_ends(pair: Pair) -> None:
    await pair.payment()
    (row,) = await pair.claim(0, lease=10)
    assert await pair.claim(9.9) == []
    (again,) = await pair.claim(10.1)
    assert (again.id, again.body, again.event_id, again.attempts) == (row.id, row.body, row.event_id, 2)


async def test_relays_share_the_rows_and_never_one_of_them(pair: Pair) -> None:
    ids = {await pair.payment() for _ in range(30)}
    shares = await asyncio.gather(*(pair.claim(limit=5) for _ in range(10)))
    claimed = [row.payment_id for share in shares for row in share]
    assert len(claimed) == len(set(claimed))
    rest = [row.payment_id for row in await pair.claim()]
    assert set(claimed) | set(rest) == ids
    assert len(claimed) + len(rest) == 30


async def test_what_was_sent_never_comes_back(pair: Pair) -> None:
    await pair.payment()
    (row,) = await pair.claim()
    await pair.outbox.mark_sent([row.id], at=NOW)
    assert await pair.claim(10**5) == []


async def test_the_backlog_is_what_was_not_sent_yet_and_how_old_it_is(pair: Pair) -> None:
    assert await pair.outbox.backlog() == Backlog(unsent=0, oldest_at=None)
    await pair.payment(events=2)
    assert await pair.outbox.backlog() == Backlog(unsent=2, oldest_at=NOW)
    (row,) = await pair.claim()
    assert (await pair.outbox.backlog()).unsent == 2, "what is claimed is not sent"
    await pair.outbox.mark_sent([row.id], at=NOW)
    assert (await pair.outbox.backlog()).unsent == 1


async def test_the_events_of_a_payment_leave_one_after_the_other(pair: Pair) -> None:
    await pair.payment(events=2)
    (first,) = await pair.claim()
    assert first.sequence == 1
    assert await pair.claim(5) == []
    await pair.outbox.mark_sent([first.id], at=NOW)
    (second,) = await pair.claim(5)
    assert second.sequence == 2


async def test_an_event_that_is_put_off_holds_back_its_payment_and_no_other(pair: Pair) -> None:
    stuck = await pair.payment(events=2)
    (row,) = await pair.claim()
    await pair.outbox.put_off(row.id, until=at(60))
    other = await pair.payment()
    assert [row.payment_id for row in await pair.claim(30)] == [other]
    assert [(row.payment_id, row.sequence) for row in await pair.claim(61)] == [(stuck, 1), (other, 1)]


async def test_what_is_released_is_there_at_once_as_if_untried(pair: Pair) -> None:
    await pair.payment(events=2)
    [first] = await pair.claim(0)
    await pair.outbox.release([first.id])
    [again] = await pair.claim(0)
    assert again == first  # its attempts, too
    await pair.outbox.mark_sent([first.id], at=NOW)
    await pair.outbox.release([first.id])  # another relay was faster
    [second] = await pair.claim(1)
    assert second.sequence == first.sequence + 1


async def test_the_oldest_leave_first_and_no_more_than_asked_for(pair: Pair) -> None:
    ids = [await pair.payment() for _ in range(5)]
    assert [row.payment_id for row in await pair.claim(limit=3)] == ids[:3]
    assert [row.payment_id for row in await pair.claim(limit=3)] == ids[3:]


async def test_nothing_to_mark_is_nothing_done(pair: Pair) -> None:
    await pair.payment()
    await pair.outbox.mark_sent([], at=NOW)
    assert len(await pair.claim()) == 1


# --- pruning --------------------------------------------------------------------------------------------------------


async def test_events_are_pruned_by_the_time_they_were_sent_oldest_first(pair: Pair) -> None:
    ids = []
    for seconds in (30, 10, 20):
        await pair.payment()
        (row,) = await pair.claim(seconds)
        await pair.outbox.mark_sent([row.id], at=at(seconds - 10**8))
        ids.append(row.id)
    prune = pair.outbox.prune_sent
    assert await prune(before=at(10 - 10**8), limit=10) == 0
    assert await prune(before=at(31 - 10**8), limit=2) == 2
    assert await prune(before=at(30 - 10**8), limit=2) == 0, "the newest is left"
    assert await prune(before=at(31 - 10**8), limit=2) == 1


async def test_an_event_that_was_not_sent_is_never_pruned(pair: Pair) -> None:
    await pair.payment()
    await pair.outbox.prune_sent(before=at(10**8), limit=1000)
    assert len(await pair.claim()) == 1


async def test_what_follows_a_pruned_event_still_leaves(pair: Pair) -> None:
    payment = await pair.payment(events=2)
    (first,) = await pair.claim()
    await pair.outbox.mark_sent([first.id], at=at(-(10**8)))
    assert await pair.outbox.prune_sent(before=at(1 - 10**8), limit=10) == 1
    assert [(row.payment_id, row.sequence) for row in await pair.claim()] == [(payment, 2)]


async def test_pruners_share_the_rows(pair: Pair) -> None:
    for _ in range(30):
        await pair.payment()
    await pair.outbox.mark_sent([row.id for row in await pair.claim()], at=at(-(10**8)))
    before = at(1 - 10**8)
    counts = await asyncio.gather(*(pair.outbox.prune_sent(before=before, limit=10) for _ in range(6)))
    assert max(counts) <= 10
    assert sum(counts) + await pair.outbox.prune_sent(before=before, limit=100) == 30
