"""Creates that are under way at the same moment share statements: none of them notices the others."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import text

from service.adapters.postgres import Database, PostgresStore
from service.application.ports import Begun, Relation, RequestKey
from service.domain.errors import (
    ConcurrentChangeError,
    IdempotencyKeyReusedError,
    StoreRefusedError,
    StoreUnavailableError,
)
from service.domain.money import Money
from service.domain.outcomes import Expired
from service.domain.payment import Draft, Payment, PaymentStatus
from service.domain.status import Change, decide
from tests.integration.service.ports.test_store import BOOKINGS, an_opening, begun, changed, fitting, opened
from tests.kit.clock import NOW
from tests.kit.lifetimes import closing
from tests.kit.service import a_draft, context, idempotency_key, message_key, statements_of

FIFTY = 50


@pytest.fixture
def store(database: Database) -> PostgresStore:
    return PostgresStore(database)


async def all_begun(
    store: PostgresStore, drafts: Sequence[Draft], keys: Sequence[RequestKey] = ()
) -> list[Begun | BaseException]:
    keys = keys or [message_key() for _ in drafts]
    work = (begun(store, draft, key) for draft, key in zip(drafts, keys, strict=True))
    return await asyncio.gather(*work, return_exceptions=True)


async def all_recorded(store: PostgresStore, changes: Sequence[Change | None]) -> list[Payment | BaseException]:
    work = (store.record(change, context=context()) for change in changes if change is not None)
    return await asyncio.gather(*work, return_exceptions=True)


async def fifty(store: PostgresStore) -> list[Payment]:
    """Payments without a session."""
    answers = await all_begun(store, [a_draft(booking_id=next(BOOKINGS)) for _ in range(FIFTY)])
    return [answer.payment for answer in answers if isinstance(answer, Begun)]


async def rows(database: Database, statement: str, **parameters: Any) -> list[Any]:
    async with database.transaction() as connection:
        return list((await connection.execute(text(statement), parameters)).scalars())


async def test_fifty_creates_at_once_are_four_statements(store: PostgresStore, database: Database) -> None:
    """The first of them, which goes at once, and the others together; and the same with their sessions."""
    async with statements_of(database) as seen:
        payments = await fifty(store)
        stored = await all_recorded(store, [decide(payment, an_opening(), at=NOW) for payment in payments])
    assert len(seen) == 4
    assert await asyncio.gather(*(store.payment(payment.id) for payment in payments)) == stored
    for payment in payments:
        assert [(line.version, line.kind) for line in await store.journal(payment.id)] == [
            (0, "created"),
            (1, "opened"),
        ]
        assert await rows(database, "SELECT sequence FROM outbox WHERE payment_id = :id", id=payment.id) == [1]


async def test_of_fifty_creates_those_that_cannot_be_begun_do_not_fail_the_others(store: PostgresStore) -> None:
    """One booking has a payment, one is paid, one key has other content, and the database refuses two."""
    live, paid = await opened(store, next(BOOKINGS)), await opened(store, next(BOOKINGS))
    paid = await changed(store, paid, fitting(paid))
    used = idempotency_key(str(uuid4()), "its own content")
    await begun(store, a_draft(booking_id=next(BOOKINGS)), used)
    drafts = [a_draft(booking_id=next(BOOKINGS)) for _ in range(FIFTY)]
    keys = [message_key() for _ in drafts]
    drafts[10] = replace(drafts[10], booking_id=live.booking_id, user_id=6)
    drafts[20] = replace(drafts[20], booking_id=paid.booking_id)
    keys[30] = replace(used, fingerprint="other content")
    drafts[30] = replace(drafts[30], user_id=6)
    drafts[40] = replace(drafts[40], money=Money(44997, "INR"))
    drafts[45] = replace(drafts[45], success_url="https://shop.example/\0")
    answers = await all_begun(store, drafts, keys)
    assert answers[10] == Begun(payment=live, relation=Relation.OTHER)
    assert answers[20] == Begun(payment=paid, relation=Relation.SAME)
    assert isinstance(answers[30], IdempotencyKeyReusedError)
    assert isinstance(answers[40], asyncpg.CheckViolationError)
    assert isinstance(answers[45], StoreRefusedError)
    for number in set(range(FIFTY)) - {10, 20, 30, 40, 45}:
        answer = answers[number]
        assert isinstance(answer, Begun)
        assert answer.relation is Relation.CREATED
        assert await store.payment(answer.payment.id) == answer.payment
        assert answer.payment.reference == drafts[number].reference
        assert len(await store.journal(answer.payment.id)) == 1
        assert (await begun(store, drafts[number], keys[number])).relation is Relation.REPEATED


async def test_of_fifty_claims_those_that_cannot_be_made_do_not_fail_the_others(
    store: PostgresStore, database: Database
) -> None:
    """Two are of one payment, one is of a payment that was asked about a moment ago, and one of none."""
    payments = await fifty(store)
    assert await store.claim_ask(payments[10].id, at=NOW - timedelta(seconds=0.5), fresh_seconds=1)
    ids = [payment.id for payment in payments]
    ids[20], ids[30] = ids[21], 2**62
    times = [NOW + timedelta(milliseconds=number) for number in range(FIFTY)]
    async with statements_of(database) as seen:
        made = await asyncio.gather(
            *(store.claim_ask(each, at=at, fresh_seconds=1) for each, at in zip(ids, times, strict=True))
        )
    assert len(seen) == 2
    assert (made[10], made[30]) == (False, False)
    assert made[20] != made[21]
    assert [made[number] for number in set(range(FIFTY)) - {10, 20, 21, 30}] == [True] * 46
    at = "SELECT asked_at FROM payments WHERE id = :id"
    assert await rows(database, at, id=ids[20]) == [times[20 if made[20] else 21]]
    assert await rows(database, at, id=ids[49]) == [times[49]]


async def test_a_claim_that_the_database_refuses_does_not_fail_its_neighbours(store: PostgresStore) -> None:
    payments = await fifty(store)
    ids = [payment.id for payment in payments]
    ids[25] = 2**63
    made = await asyncio.gather(
        *(store.claim_ask(each, at=NOW, fresh_seconds=1) for each in ids), return_exceptions=True
    )
    assert isinstance(made[25], StoreUnavailableError | asyncpg.PostgresError)
    assert [made[number] for number in set(range(FIFTY)) - {25}] == [True] * 49


async def test_of_fifty_changes_those_that_cannot_be_made_do_not_fail_the_others(
    store: PostgresStore, database: Database
) -> None:
    """One is of a version that is no more, one ends what has ended, and one has the session of another payment."""
    payments = await fifty(store)
    changes = [decide(payment, an_opening(), at=NOW) for payment in payments]
    stale = await changed(store, payments[10], an_opening())
    over = await changed(store, payments[20], Expired())
    taken = await opened(store, next(BOOKINGS))
    assert changes[20] is not None
    changes[20] = replace(changes[20], payment=replace(changes[20].payment, version=2, status=PaymentStatus.COMPLETED))
    changes[30] = decide(payments[30], replace(an_opening(), session_id=taken.session_id), at=NOW)
    answers = await all_recorded(store, changes)
    assert isinstance(answers[10], ConcurrentChangeError)
    assert isinstance(answers[20], asyncpg.IntegrityConstraintViolationError)
    assert isinstance(answers[30], asyncpg.UniqueViolationError)
    now = await asyncio.gather(*(store.payment(payment.id) for payment in payments))
    assert [now[10], now[20], now[30]] == [stale, over, payments[30]]
    for number in set(range(FIFTY)) - {10, 20, 30}:
        assert now[number] == answers[number]
        assert [line.version for line in await store.journal(payments[number].id)] == [0, 1]
        count = "SELECT sequence FROM outbox WHERE payment_id = :id"
        assert await rows(database, count, id=payments[number].id) == [1]


async def test_of_two_changes_of_a_payment_in_one_batch_one_is_made_with_its_own_line_and_event(
    store: PostgresStore, database: Database
) -> None:
    others = await fifty(store)
    payment = (await begun(store, a_draft(booking_id=next(BOOKINGS)))).payment
    both = [decide(payment, an_opening(), at=NOW), decide(payment, Expired(), at=NOW)]
    changes = [*(decide(other, an_opening(), at=NOW) for other in others[:10]), *both]
    *_, opening, ending = await all_recorded(store, changes)
    made, lost = (opening, ending) if isinstance(opening, Payment) else (ending, opening)
    assert isinstance(lost, ConcurrentChangeError)
    assert await store.payment(payment.id) == made
    assert isinstance(made, Payment)
    key = "opened" if made is opening else "failed"
    assert [line.kind for line in await store.journal(payment.id)] == ["created", key]
    events = await rows(database, "SELECT convert_from(body, 'UTF8') FROM outbox WHERE payment_id = :id", id=payment.id)
    assert [f'"status":"{made.status.value}"' in event for event in events] == [True]


async def test_a_payment_that_somebody_locks_does_not_fail_its_neighbours(
    store: PostgresStore, database: Database
) -> None:
    payments = await fifty(store)
    async with database.transaction() as holder:
        await holder.execute(text("SELECT 1 FROM payments WHERE id = :id FOR UPDATE"), {"id": payments[10].id})
        answers = await all_recorded(store, [decide(payment, an_opening(), at=NOW) for payment in payments])
    assert isinstance(answers.pop(10), StoreUnavailableError)
    assert all(isinstance(answer, Payment) for answer in answers)
    assert await store.payment(payments[10].id) == payments[10]


async def test_batches_of_two_replicas_with_the_same_payments_wait_for_each_other_and_fail_nobody(
    store: PostgresStore, database: Database, migrated_url: str
) -> None:
    """In opposite orders; a deadlock would undo one of them, whose rows would then go one by one.

    So does a lock that is waited for longer than a second, which a machine that stalls may cause now and then.
    """
    counts: list[tuple[int, int]] = []
    async with closing(Database(migrated_url)) as second:
        other = PostgresStore(second)
        for _ in range(5):
            drafts = [a_draft(booking_id=next(BOOKINGS)) for _ in range(FIFTY)]
            async with statements_of(database) as ours, statements_of(second) as theirs:
                answers = await asyncio.gather(all_begun(store, drafts), all_begun(other, drafts[::-1]))
            inserts = [statement for statement, _ in (*ours, *theirs) if "INSERT INTO payments" in statement]
            found = [answer for each in answers for answer in each if isinstance(answer, Begun)]
            assert len(found) == 2 * FIFTY
            assert len({answer.payment.id for answer in found}) == FIFTY
            payments = [answer.payment for answer in found if answer.relation is Relation.CREATED]
            changes = [decide(payment, an_opening(), at=NOW) for payment in payments]
            async with statements_of(database) as ours, statements_of(second) as theirs:
                made = await asyncio.gather(all_recorded(store, changes), all_recorded(other, changes[::-1]))
            counts.append((len(inserts), len(ours) + len(theirs)))
            kinds = [type(answer) for each in made for answer in each]
            assert (kinds.count(Payment), kinds.count(ConcurrentChangeError)) == (FIFTY, FIFTY)
    assert counts.count((4, 4)) > len(counts) / 2, counts


async def test_a_create_whose_caller_has_left_before_its_batch_begins_is_not_inserted(store: PostgresStore) -> None:
    drafts = [a_draft(booking_id=next(BOOKINGS)) for _ in range(FIFTY)]
    tasks = [asyncio.create_task(begun(store, draft)) for draft in drafts]
    await asyncio.sleep(0)
    tasks[10].cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(answers.pop(10), asyncio.CancelledError)
    assert all(isinstance(answer, Begun) for answer in answers)
    assert await store.payments_of_booking(drafts[10].booking_id) == []
