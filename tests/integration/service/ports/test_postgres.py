"""What only a real database can promise: it refuses what must never be, and every wait for it ends."""

import asyncio
import itertools
import os
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from service.adapters.store import Database, PostgresOutbox, PostgresStore, current_revision, migrate, newest_revision
from service.adapters.store.statements import CHANGING
from service.adapters.store.tables import metadata, payments
from service.application.ports import Relation
from service.domain.errors import StoreUnavailableError
from service.domain.outcomes import Expired, Paid
from service.domain.payment import Payment
from tests.conftest import Migrated
from tests.integration.service.ports.test_store import an_opening, begun, changed, opened
from tests.proxy import Mode, behind_proxy
from tests.service_support import NOW, a_draft, message_key, statements_of

MOVING = {*CHANGING, "asked_at", "ask_failed_at", "settle_attempts", "settle_after"}
FROZEN = [column.name for column in payments.columns if column.name not in MOVING]
_bookings = itertools.count(os.getpid() * 1_000_000 + 500_001)


@pytest.fixture
def store(database: Database) -> PostgresStore:
    return PostgresStore(database)


@pytest.fixture
def booking() -> int:
    return next(_bookings)


async def execute(database: Database, statement: str, **parameters: Any) -> None:
    async with database.transaction() as connection:
        await connection.execute(text(statement), parameters)


# --- what the database refuses --------------------------------------------------------------------------------------


async def final(store: PostgresStore, booking: int, *, paid: bool) -> Payment:
    payment = await opened(store, booking)
    money = Paid(money=payment.money, reference=payment.reference, livemode=False)
    return await changed(store, payment, money if paid else Expired())


@pytest.mark.parametrize("paid", [True, False])
@pytest.mark.parametrize("status", ["PENDING", "COMPLETED", "FAILED"])
async def test_a_final_status_cannot_be_changed_even_by_hand(
    store: PostgresStore, owner: Database, booking: int, *, paid: bool, status: str
) -> None:
    payment = await final(store, booking, paid=paid)
    if status == payment.status:
        return
    statement = "UPDATE payments SET status = :status, reason = :reason WHERE id = :id"
    with pytest.raises(IntegrityError, match="stays so"):
        await execute(owner, statement, status=status, reason="by hand" if status == "FAILED" else None, id=payment.id)
    assert await store.payment(payment.id) == payment


@pytest.mark.parametrize("paid", [True, False])
@pytest.mark.parametrize("change", ["reason = 'refused'", "payment_url = NULL", "expires_at = now()"])
async def test_a_final_payment_keeps_what_it_came_to(
    store: PostgresStore, owner: Database, booking: int, *, paid: bool, change: str
) -> None:
    payment = await final(store, booking, paid=paid)
    with pytest.raises(IntegrityError):
        await execute(owner, f"UPDATE payments SET {change}, version = version + 1 WHERE id = :id", id=payment.id)  # noqa: S608
    assert await store.payment(payment.id) == payment


async def test_a_version_has_one_line_in_the_journal(store: PostgresStore, owner: Database, booking: int) -> None:
    payment = await opened(store, booking)
    twice = (
        "INSERT INTO journal (payment_id, version, kind, status, detail, request_id, at)"
        " SELECT payment_id, version, kind, status, detail, request_id, at FROM journal WHERE payment_id = :id"
    )
    with pytest.raises(IntegrityError, match="journal_payment_id_version_key"):
        await execute(owner, twice, id=payment.id)


@pytest.mark.parametrize(
    "statement", ["UPDATE journal SET kind = 'x' WHERE payment_id = :id", "DELETE FROM journal WHERE payment_id = :id"]
)
async def test_the_journal_cannot_be_rewritten(
    store: PostgresStore, owner: Database, booking: int, statement: str
) -> None:
    payment = await opened(store, booking)
    lines = await store.journal(payment.id)
    with pytest.raises(IntegrityError, match="append-only"):
        await execute(owner, statement, id=payment.id)
    assert await store.journal(payment.id) == lines


@pytest.mark.parametrize("statement", ["TRUNCATE journal", "TRUNCATE payments CASCADE"])
async def test_the_journal_cannot_be_emptied(
    store: PostgresStore, owner: Database, booking: int, statement: str
) -> None:
    payment = await opened(store, booking)
    with pytest.raises(IntegrityError, match="append-only"):
        await execute(owner, statement)
    assert len(await store.journal(payment.id)) == 2


async def test_a_payment_with_a_history_cannot_be_deleted(store: PostgresStore, owner: Database, booking: int) -> None:
    payment = await opened(store, booking)
    with pytest.raises(IntegrityError):
        await execute(owner, "DELETE FROM payments WHERE id = :id", id=payment.id)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM request_keys WHERE payment_id = :id AND scope = 'message'",
        "DELETE FROM outbox WHERE payment_id = :id",
    ],
)
async def test_neither_message_ids_nor_unsent_events_can_be_deleted(
    store: PostgresStore, owner: Database, booking: int, statement: str
) -> None:
    payment = await opened(store, booking)
    with pytest.raises(IntegrityError, match="keeps message ids and unsent events"):
        await execute(owner, statement, id=payment.id)


@pytest.mark.parametrize(
    "change",
    [
        "booking_id = 0",
        "user_id = -1",
        "amount_minor = 0",
        "amount_minor = -5",
        "currency = 'INR'",
        "currency = 'in'",
        "status = 'PAID'",
        "status = 'FAILED'",
        "reason = 'expired'",
        "status = 'COMPLETED', session_id = NULL",
        "version = version - 1",
        "version = version + 2",
        "session_id = 'cs_test_other'",
        "session_id = NULL, version = version + 1",
        "attention = 'unsettled'",
        "payment_url = NULL",
        "status = 'COMPLETED'",
        "status = 'FAILED', reason = 'expired'",
        *(f"{name} = {'DEFAULT' if name == 'id' else name}" for name in FROZEN),
    ],
)
async def test_a_row_that_makes_no_sense_is_refused(
    store: PostgresStore, owner: Database, booking: int, change: str
) -> None:
    payment = await opened(store, booking)
    with pytest.raises(IntegrityError):
        await execute(owner, f"UPDATE payments SET {change} WHERE id = :id", id=payment.id)  # noqa: S608 - constants


async def test_two_payments_never_share_a_session(store: PostgresStore, booking: int) -> None:
    opening = an_opening()
    for number, number_of_booking in enumerate([booking, next(_bookings)]):
        payment = (await begun(store, a_draft(booking_id=number_of_booking))).payment
        if number == 0:
            await changed(store, payment, opening)
        else:
            with pytest.raises(asyncpg.UniqueViolationError):
                await changed(store, payment, opening)


# --- migrations -----------------------------------------------------------------------------------------------------


async def test_the_migrations_make_the_tables_that_the_code_sees(database: Database) -> None:
    async with database.transaction() as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync, opts={"compare_type": True}), metadata)
        )
    assert differences == []


def test_a_database_may_be_migrated_twice_and_from_many_places_at_once(new_database: Callable[[], str]) -> None:
    url = new_database()

    async def all_at_once() -> None:
        database = Database(url)
        assert await current_revision(database) is None
        await asyncio.gather(*(migrate(url) for _ in range(4)))
        await migrate(url)
        assert await current_revision(database) == newest_revision()
        await database.close()

    asyncio.run(all_at_once())


# --- how much work --------------------------------------------------------------------------------------------------


async def test_each_step_is_one_statement(store: PostgresStore, database: Database, booking: int) -> None:
    async with statements_of(database) as seen:
        payment = (await begun(store, a_draft(booking_id=booking))).payment
    assert len(seen) == 1, "begin"
    async with statements_of(database) as seen:
        payment = await changed(store, payment, an_opening())
    assert len(seen) == 1, "record"
    async with statements_of(database) as seen:
        await store.payment_of_session(payment.session_id or "")
    assert len(seen) == 1, "read"
    async with statements_of(database) as seen:
        await store.claim_ask(payment.id, at=payment.created_at, fresh_seconds=1)
    assert len(seen) == 1, "claim"


async def test_a_repeat_is_a_handful_of_statements(store: PostgresStore, database: Database, booking: int) -> None:
    key = message_key()
    await begun(store, a_draft(booking_id=booking), key)
    async with statements_of(database) as seen:
        assert (await begun(store, a_draft(booking_id=booking), key)).relation is Relation.REPEATED
    assert len(seen) == 3


async def test_an_event_that_was_tried_32767_times_holds_nothing_up(new_migrated: Callable[[], Migrated]) -> None:
    database = Database((await asyncio.to_thread(new_migrated)).application)
    await opened(PostgresStore(database), 1)
    await execute(database, "UPDATE outbox SET attempts = 32767")
    (row,) = await PostgresOutbox(database).claim(limit=10, at=NOW, lease_seconds=1)
    assert row.attempts == 32767
    await database.close()


# --- a database that cannot be used ---------------------------------------------------------------------------------


async def unusable(url: str) -> None:
    database = Database(url)
    try:
        with pytest.raises(StoreUnavailableError):
            await database.ping()
        with pytest.raises(StoreUnavailableError):
            async with database.transaction() as connection:
                await connection.execute(text("SELECT 1"))
    finally:
        await database.close()


async def test_a_database_that_nobody_serves_is_unavailable(migrated_url: str) -> None:
    parts = urlsplit(migrated_url)
    await unusable(parts._replace(netloc="127.0.0.1:1").geturl())


async def test_a_database_that_is_not_there_is_unavailable(migrated_url: str) -> None:
    await unusable(urlsplit(migrated_url)._replace(path="/no_such_database").geturl())


async def test_a_database_that_takes_no_connections_is_unavailable(migrated_url: str) -> None:
    """PostgreSQL answers likewise while it starts, stops, fails over or has no connection left."""
    await unusable(urlsplit(migrated_url)._replace(path="/template0").geturl())


async def test_a_server_that_never_answers_is_unavailable_in_time(migrated_url: str) -> None:
    async with behind_proxy(migrated_url) as (proxy, url):
        await proxy.set(Mode.BLACK_HOLE)
        async with asyncio.timeout(30):
            await unusable(url)


async def test_a_server_that_stops_answering_is_unavailable_in_time(migrated_url: str, booking: int) -> None:
    async with behind_proxy(migrated_url) as (proxy, url):
        database = Database(url)
        store = PostgresStore(database)
        payment = await opened(store, booking)
        await proxy.set(Mode.BLACK_HOLE)
        async with asyncio.timeout(60):
            with pytest.raises(StoreUnavailableError):
                await store.payment(payment.id)
            await database.close()


async def test_a_lock_that_is_held_is_not_waited_for_long(
    store: PostgresStore, database: Database, booking: int
) -> None:
    payment = await opened(store, booking)
    async with database.transaction() as holder:
        await holder.execute(text("SELECT 1 FROM payments WHERE id = :id FOR UPDATE"), {"id": payment.id})
        async with asyncio.timeout(20):
            with pytest.raises(StoreUnavailableError):
                await changed(store, payment, Expired())
    assert await store.payment(payment.id) == payment


async def test_a_connection_that_the_server_ended_costs_one_error_at_most(migrated_url: str, booking: int) -> None:
    database = Database(migrated_url)
    store = PostgresStore(database)
    payment = await opened(store, booking)
    await asyncio.gather(*(store.payment(payment.id) for _ in range(10)))
    admin = await asyncpg.connect(migrated_url)
    async with database.transaction() as connection:
        own = await connection.scalar(text("SELECT pg_backend_pid()"))
        others = "application_name = 'payment-service' AND datname = current_database() AND pid <> $1"
        await admin.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}", own)  # noqa: S608
    await admin.execute("SELECT pg_terminate_backend($1)", own)
    await admin.close()
    errors = 0
    for _ in range(20):
        try:
            assert await store.payment(payment.id) == payment
        except StoreUnavailableError:
            errors += 1
    await database.close()
    assert errors <= 1
