"""What only a real database can promise: it refuses what must never be, and every wait for it ends."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from service.adapters.postgres import (
    POOL_SIZE,
    Database,
    PostgresOutbox,
    PostgresStore,
    current_revision,
    migrate,
    newest_revision,
)
from service.adapters.postgres.database import CROWD_SIZE
from service.adapters.postgres.statements import CHANGING
from service.adapters.postgres.tables import metadata, payments
from service.domain.errors import StoreUnavailableError
from service.domain.outcomes import Expired
from service.domain.payment import PaymentStatus
from tests.integration.service.ports.test_store import BOOKINGS, an_opening, begun, changed, fitting, opened
from tests.kit.clock import NOW
from tests.kit.databases import Migrated
from tests.kit.lifetimes import closing
from tests.kit.service import a_draft, message_key

MOVING = {*CHANGING, "asked_at", "ask_failed_at", "settle_attempts", "settle_after"}
FROZEN = [column.name for column in payments.columns if column.name not in MOVING]
PENDING, COMPLETED, FAILED = PaymentStatus
Result = TypeVar("Result")


@pytest.fixture
def store(database: Database) -> PostgresStore:
    return PostgresStore(database)


async def execute(database: Database, statement: str, **parameters: Any) -> None:
    async with database.transaction() as connection:
        await connection.execute(text(statement), parameters)


# --- what the database refuses --------------------------------------------------------------------------------------

SENSELESS = [
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
]
COMPLETES, FAILS, REOPENS = (
    f"status = '{status}', reason = {reason}"
    for status, reason in (("COMPLETED", "NULL"), ("FAILED", "'by hand'"), ("PENDING", "NULL"))
)
ENDS = ["reason = 'refused'", "payment_url = NULL", "expires_at = now()"]
COLUMNS = "payment_id, version, kind, status, detail, request_id, at"
KEPT = "keeps message ids and unsent events"


def update(change: str) -> str:
    return f"UPDATE payments SET {change} WHERE id = :id"  # noqa: S608 - constants


REFUSED = [
    *((PENDING, update(change), None) for change in SENSELESS),
    *((COMPLETED, update(change), "stays so") for change in (REOPENS, FAILS)),
    *((FAILED, update(change), "stays so") for change in (REOPENS, COMPLETES)),
    *((status, update(f"{change}, version = version + 1"), None) for status in (COMPLETED, FAILED) for change in ENDS),
    (PENDING, "DELETE FROM payments WHERE id = :id", None),
    (PENDING, "TRUNCATE payments CASCADE", "append-only"),
    (PENDING, "TRUNCATE journal", "append-only"),
    (PENDING, "UPDATE journal SET kind = 'x' WHERE payment_id = :id", "append-only"),
    (PENDING, "DELETE FROM journal WHERE payment_id = :id", "append-only"),
    (
        PENDING,
        f"INSERT INTO journal ({COLUMNS}) SELECT {COLUMNS} FROM journal WHERE payment_id = :id",  # noqa: S608 - constants
        "journal_payment_id_version_renewal_key",
    ),
    (PENDING, "DELETE FROM outbox WHERE payment_id = :id", KEPT),
]


@pytest.mark.parametrize(("status", "statement", "message"), REFUSED)
async def test_the_database_refuses_what_must_never_be_even_by_hand(
    store: PostgresStore, owner: Database, *, status: PaymentStatus, statement: str, message: str | None
) -> None:
    """I7 Terminal is final. Not even the role that owns the tables may break the rules."""
    payment = await opened(store, next(BOOKINGS))
    if status is not PENDING:
        payment = await changed(store, payment, fitting(payment) if status is COMPLETED else Expired())
    lines = await store.journal(payment.id)
    with pytest.raises(IntegrityError, match=message):
        await execute(owner, statement, id=payment.id)
    assert await store.payment(payment.id) == payment
    assert await store.journal(payment.id) == lines


async def test_message_ids_are_kept_for_a_day_whoever_deletes(
    store: PostgresStore, owner: Database, booking: int
) -> None:
    """M14 Longer than a message is under way, and not for good."""
    message = message_key()
    payment = (await begun(store, a_draft(booking_id=booking, created_at=datetime.now(UTC)), message)).payment
    delete = "DELETE FROM request_keys WHERE payment_id = :id"
    with pytest.raises(IntegrityError, match=KEPT):
        await execute(owner, delete, id=payment.id)
    await execute(
        owner, "UPDATE request_keys SET created_at = now() - interval '25 hours' WHERE payment_id = :id", id=payment.id
    )
    await execute(owner, delete, id=payment.id)


TERMS = ["reference = 'other'", "created_at = now()", "gateway_request = '{}'", "expires_at = now()"]
COPIED = "user_id, amount_minor, currency, success_url, cancel_url, livemode, gateway_request, created_at, updated_at"
FINISHED = [
    {"status": "'COMPLETED'", "session_id": "'cs_test_x'"},
    {"status": "'FAILED'", "reason": "'refused'"},
    {"version": "1"},
    {"session_id": "'cs_test_x'"},
    {"payment_url": "'https://pay.example'"},
    {"attention": "'unsettled'"},
    {"last_outcome": "'paid'"},
    {"dispute": "'lost'"},
    {"refunded_minor": "1"},
    {"closed_at": "now()"},
    {"settle_attempts": "1"},
]


@pytest.mark.parametrize("status", [PENDING, COMPLETED, FAILED])
@pytest.mark.parametrize("change", TERMS)
async def test_the_terms_of_a_payment_with_a_session_are_frozen(
    store: PostgresStore, owner: Database, status: PaymentStatus, change: str
) -> None:
    payment = await opened(store, next(BOOKINGS))
    if status is not PENDING:
        payment = await changed(store, payment, fitting(payment) if status is COMPLETED else Expired())
    with pytest.raises(IntegrityError):
        await execute(owner, update(change), id=payment.id)
    assert await store.payment(payment.id) == payment


async def test_terms_are_renewed_together_with_their_reference_or_not_at_all(
    store: PostgresStore, owner: Database
) -> None:
    payment = (await begun(store, a_draft(booking_id=next(BOOKINGS)))).payment
    for change in (*TERMS[1:], "reference = 'other', version = 1", "reference = 'other', session_id = 'cs_test_x'"):
        with pytest.raises(IntegrityError):
            await execute(owner, update(change), id=payment.id)
    assert await store.payment(payment.id) == payment


@pytest.mark.parametrize("members", FINISHED, ids=str)
async def test_nobody_can_insert_a_payment_that_is_more_than_begun(
    store: PostgresStore, owner: Database, members: dict[str, str]
) -> None:
    """M13 Not even the owner of the tables: a payment is PENDING, in version 0 and without a session."""
    payment = await opened(store, next(BOOKINGS))
    given = {"reference": f"'{uuid4()}'", "booking_id": str(next(BOOKINGS)), "expires_at": "now()"}
    given = {**given, "status": "'PENDING'", "version": "0", **members}
    statement = (
        f"INSERT INTO payments ({', '.join(given)}, {COPIED})"  # noqa: S608 - constants
        f" SELECT {', '.join(given.values())}, {COPIED} FROM payments WHERE id = :id"
    )
    with pytest.raises(IntegrityError, match="begins as PENDING"):
        await execute(owner, statement, id=payment.id)


async def test_two_payments_never_share_a_session(store: PostgresStore, booking: int) -> None:
    opening = an_opening()
    first, second = [(await begun(store, a_draft(booking_id=each))).payment for each in (booking, next(BOOKINGS))]
    await changed(store, first, opening)
    with pytest.raises(asyncpg.UniqueViolationError):
        await changed(store, second, opening)


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


async def test_an_event_that_was_tried_32767_times_holds_nothing_up(new_migrated: Callable[[], Migrated]) -> None:
    async with closing(Database((await asyncio.to_thread(new_migrated)).application)) as database:
        await opened(PostgresStore(database), 1)
        await execute(database, "UPDATE outbox SET attempts = 32767")
        (row,) = await PostgresOutbox(database).claim(limit=10, at=NOW, lease_seconds=1)
    assert row.attempts == 32767


# --- a database that cannot be used ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parts",
    [{"netloc": "127.0.0.1:1"}, {"path": "/no_such_database"}, {"path": "/template0"}],
    ids=["nobody listens", "not there", "takes no connections"],
)
async def test_a_database_that_cannot_be_used_is_unavailable(migrated_url: str, parts: dict[str, str]) -> None:
    """PostgreSQL answers as for `template0` while it starts, stops, fails over or has no connection left."""
    async with closing(Database(urlsplit(migrated_url)._replace(**parts).geturl())) as database:
        for use in (database.ping(), execute(database, "SELECT 1")):
            with pytest.raises(StoreUnavailableError):
                await use


async def test_a_lock_that_is_held_is_not_waited_for_long(
    store: PostgresStore, database: Database, booking: int
) -> None:
    payment = await opened(store, booking)
    async with database.transaction() as holder:
        await holder.execute(text("SELECT 1 FROM payments WHERE id = :id FOR UPDATE"), {"id": payment.id})
        async with asyncio.timeout(60):
            with pytest.raises(StoreUnavailableError):
                await changed(store, payment, Expired())
    assert await store.payment(payment.id) == payment


async def test_a_connection_that_the_server_ended_costs_one_error_at_most(migrated_url: str, booking: int) -> None:
    async with closing(Database(migrated_url)) as database, closing(await asyncpg.connect(migrated_url)) as admin:
        store = PostgresStore(database)
        payment = await opened(store, booking)
        await asyncio.gather(*(store.payment(payment.id) for _ in range(10)))
        async with database.transaction() as connection:
            own = await connection.scalar(text("SELECT pg_backend_pid()"))
            others = "application_name = 'payment-service' AND datname = current_database() AND pid <> $1"
            await admin.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}", own)  # noqa: S608
        await admin.execute("SELECT pg_terminate_backend($1)", own)
        found = [await asyncio.gather(store.payment(payment.id), return_exceptions=True) for _ in range(20)]
    errors = [each for [each] in found if each != payment]
    assert [type(error) for error in errors] in ([], [StoreUnavailableError])


# --- creates in a crowd share a part of the pool: whatever they wait for, a query finds a connection ------------------


@asynccontextmanager
async def full_crowd(database: Database, *, connected: bool = False) -> AsyncIterator[None]:
    """All of the creates' share is taken, and their connections too if `connected`."""
    async with AsyncExitStack() as stack:
        for _ in range(CROWD_SIZE):
            await stack.enter_async_context(database.crowd())
            if connected:
                await stack.enter_async_context(database.transaction())
        yield


async def test_while_creates_hold_their_share_queries_are_answered_and_the_next_create_is_refused(
    store: PostgresStore, database: Database
) -> None:
    async with full_crowd(database, connected=True):
        refused = asyncio.create_task(begun(store, a_draft(booking_id=next(BOOKINGS))))
        queries = await asyncio.gather(*(store.payment_of_session("cs_test_nobody") for _ in range(100)))
        assert queries == [None] * 100
        assert CROWD_SIZE <= database.in_use <= POOL_SIZE
        with pytest.raises(StoreUnavailableError):
            await refused
    assert (await begun(store, a_draft(booking_id=next(BOOKINGS)))).payment.id


async def test_a_create_that_is_cancelled_while_it_waits_takes_no_place_along(database: Database) -> None:
    async with full_crowd(database):
        waiting = asyncio.create_task(database.crowd().__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
    async with full_crowd(database):
        pass


async def test_the_tables_that_change_most_are_vacuumed_early(migrated: Migrated) -> None:
    """T15 PostgreSQL's own default is a fifth of the table: of a million dead rows each claim would walk over some."""
    async with closing(await asyncpg.connect(migrated.owner)) as owner:
        for table, name, most in (
            ("outbox", "threshold", 2000),
            ("places", "threshold", 1000),
            ("budget", "threshold", 500),
            ("budget_demand", "threshold", 500),
            ("gateway_health", "threshold", 500),
            ("payments", "scale_factor", 0.01),
            ("request_keys", "scale_factor", 0.01),
        ):
            rows = "SELECT split_part(option, '=', 1) AS name, split_part(option, '=', 2) AS value"
            rows += " FROM pg_class, unnest(reloptions) AS option WHERE oid = $1::text::regclass"
            options = {row["name"]: float(row["value"]) for row in await owner.fetch(rows, table)}
            assert options[f"autovacuum_vacuum_{name}"] <= most, table
            assert name == "scale_factor" or options["autovacuum_vacuum_scale_factor"] == 0, table
