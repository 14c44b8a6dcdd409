"""S21: the service's role can do its work, and nothing to the record that the work does not need."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping

import asyncpg
import pytest

from deploy.local import processes
from deploy.local.postgres import execute
from deploy.local.stack import command_path
from service.adapters.store import (
    Database,
    NoSuchRoleError,
    PostgresStore,
    could_rewrite,
    current_revision,
    migrate,
)
from service.adapters.store.privileges import GRANTED
from service.adapters.store.tables import metadata
from service.bootstrap import built
from tests.conftest import Migrated, run
from tests.integration.service.messages.rig import settings_of
from tests.integration.service.ports.test_store import opened

TABLES = sorted(GRANTED)
RECORD = ("payments", "journal", "operator_journal")


@pytest.fixture(scope="module")
def two(new_migrated: Callable[[], Migrated]) -> Migrated:
    """A database of this module's own with two roles."""
    made = new_migrated()
    if made.owner == made.application:
        pytest.skip("the user of DATABASE_URL may make no roles")
    return made


@pytest.fixture
async def service(two: Migrated) -> AsyncIterator[asyncpg.Connection]:
    """What somebody can do who has the service's password. The database holds a payment with its history."""
    database = Database(two.application)
    store = PostgresStore(database)
    if await store.payment(1) is None:
        await opened(store, 1)
    await database.close()
    connection = await asyncpg.connect(two.application)
    yield connection
    await connection.close()


FORBIDDEN = [
    *(f"DELETE FROM {table}" for table in (*RECORD, "alembic_version")),  # noqa: S608 - constants
    *(f"TRUNCATE {table} CASCADE" for table in TABLES),
    *(f"DROP TABLE {table} CASCADE" for table in TABLES),
    *(f"ALTER TABLE {table} ADD COLUMN extra text" for table in TABLES),
    *(f"ALTER TABLE {table} DISABLE TRIGGER ALL" for table in TABLES),
    *(f"CREATE INDEX ON {table} ((1))" for table in TABLES),
    *(f"CREATE TRIGGER extra BEFORE INSERT ON {table} EXECUTE FUNCTION journal_append_only()" for table in RECORD),
    "UPDATE journal SET kind = 'x'",
    "UPDATE operator_journal SET actor = 'x'",
    "UPDATE alembic_version SET version_num = '0001'",
    "UPDATE request_keys SET payment_id = 1",
    "UPDATE request_keys SET fingerprint = 'x'",
    "UPDATE outbox SET body = 'x'",
    "UPDATE outbox SET event_id = 'x'",
    *(
        f"UPDATE payments SET {column} = {column}"  # noqa: S608 - constants
        for column in ("amount_minor", "currency", "booking_id", "user_id", "reference", "created_at", "livemode")
    ),
    "UPDATE payments SET id = DEFAULT",
    "DROP TRIGGER payments_keep_final ON payments",
    "DROP TRIGGER journal_append_only ON journal",
    "ALTER FUNCTION payments_keep_final() RENAME TO other",
    "CREATE OR REPLACE FUNCTION payments_keep_final() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    "DROP FUNCTION journal_append_only() CASCADE",
    "CREATE TABLE extra (id int)",
    "CREATE SCHEMA extra",
    "CREATE ROLE extra",
    "SET session_replication_role = replica",
    "COPY journal TO PROGRAM 'cat'",
    "COPY payments TO '/tmp/payments'",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT setval('payments_id_seq', 1)",
    "ALTER SEQUENCE payments_id_seq RESTART",
    "ALTER TABLE journal OWNER TO CURRENT_USER",
    "ALTER ROLE CURRENT_USER SUPERUSER",
    "CREATE RULE extra AS ON INSERT TO journal DO INSTEAD NOTHING",
]


@pytest.mark.parametrize("statement", FORBIDDEN)
async def test_the_service_may_not(service: asyncpg.Connection, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await service.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE payments SET status = 'COMPLETED'",
        "UPDATE payments SET version = version - 1",
        "UPDATE payments SET session_id = 'cs_test_other', version = version + 1",
        "DELETE FROM request_keys",
        "DELETE FROM outbox",
    ],
)
async def test_what_the_service_may_is_still_held_to_the_rules(service: asyncpg.Connection, statement: str) -> None:
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        await service.execute(statement)


@pytest.mark.parametrize("paid", [True, False])
async def test_the_service_cannot_take_back_a_final_status(service: asyncpg.Connection, *, paid: bool) -> None:
    """I7 Terminal is final: the row of a payment that is COMPLETED or FAILED keeps its status."""
    status, reason = ("COMPLETED", None) if paid else ("FAILED", "expired")
    transaction = service.transaction()
    await transaction.start()
    await service.execute("UPDATE payments SET status = $1, reason = $2, version = version + 1", status, reason)
    back = "UPDATE payments SET status = 'PENDING', reason = NULL, version = version + 1"
    with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="stays so"):
        await service.execute(back)
    await transaction.rollback()


# --- the table of grants --------------------------------------------------------------------------------------------


def test_no_table_is_forgotten() -> None:
    assert set(GRANTED) == {*metadata.tables, "alembic_version"}


def test_only_the_pruners_tables_can_lose_rows() -> None:
    assert {table for table, privileges in GRANTED.items() if "DELETE" in privileges} == {
        "request_keys",
        "outbox",
        "budget_demand",
        "places",
    }
    assert not {privilege for privileges in GRANTED.values() for privilege in privileges} & {"UPDATE", "TRUNCATE"}


async def granted(connection: asyncpg.Connection, role: str) -> Mapping[str, set[str]]:
    """What the role has, in the words of `GRANTED`; columns in any order."""
    tables = await connection.fetch(
        "SELECT table_name, privilege_type FROM information_schema.role_table_grants WHERE grantee = $1", role
    )
    columns = await connection.fetch(
        "SELECT table_name, column_name FROM information_schema.role_column_grants"
        " WHERE grantee = $1 AND privilege_type = 'UPDATE' ORDER BY column_name",
        role,
    )
    found: dict[str, set[str]] = {}
    for row in tables:
        found.setdefault(row["table_name"], set()).add(row["privilege_type"])
    for row in columns:
        found.setdefault(row["table_name"], set()).add(f"UPDATE {row['column_name']}")
    return found


def in_single_words(privileges: tuple[str, ...]) -> set[str]:
    words = set()
    for privilege in privileges:
        kind, _, columns = privilege.rstrip(")").partition(" (")
        words |= {f"{kind} {column}" for column in columns.split(", ")} if columns else {kind}
    return words


async def test_each_migrate_gives_exactly_what_the_table_says(two: Migrated, application: tuple[str, str]) -> None:
    role = application[0]
    admin = await asyncpg.connect(two.owner)
    await admin.execute(f"GRANT ALL ON payments, journal TO {role}")
    await admin.execute(f"REVOKE INSERT ON outbox FROM {role}")
    assert await migrate(two.owner, application=role)
    assert await granted(admin, role) == {table: in_single_words(words) for table, words in GRANTED.items()}
    await admin.close()


async def test_a_role_that_is_not_there_is_told_and_nothing_is_changed(new_database: Callable[[], str]) -> None:
    url = await asyncio.to_thread(new_database)
    with pytest.raises(NoSuchRoleError, match="The role no_such_role of DATABASE_URL does not exist"):
        await migrate(url, application="no_such_role")
    database = Database(url)
    assert await current_revision(database) is None
    await database.close()


# --- one role or two ------------------------------------------------------------------------------------------------


async def test_who_owns_the_tables_could_rewrite_them_and_the_service_could_not(two: Migrated) -> None:
    for url, could in ((two.owner, True), (two.application, False)):
        database = Database(url)
        assert await could_rewrite(database) is could
        await database.close()


async def test_the_service_warns_at_its_start_when_its_role_could_change_the_record(
    two: Migrated, amqp_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    told = []
    for url in (two.owner, two.application):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            async with built(settings_of(amqp_url, url, "http://127.0.0.1:1")):
                told.append([record.message for record in caplog.records])
    assert told == [["the role of DATABASE_URL could change the record: see MIGRATION_DATABASE_URL"], []]


async def test_a_database_with_one_role_can_be_given_a_second(
    new_database: Callable[[], str], application: tuple[str, str], two: Migrated
) -> None:
    owner = await asyncio.to_thread(new_database)
    alone = two.application.rpartition("/")[0] + f"/{owner.rpartition('/')[2]}"
    admin = await asyncpg.connect(owner)
    if not await admin.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
        await admin.close()
        pytest.skip("the user of DATABASE_URL is no administrator")
    await admin.execute(f"GRANT CREATE ON SCHEMA public TO {application[0]}")
    assert not await migrate(alone)
    await admin.execute(f"REASSIGN OWNED BY {application[0]} TO current_user")
    await admin.close()
    assert await migrate(owner, application=application[0])
    database = Database(alone)
    assert not await could_rewrite(database)
    await opened(PostgresStore(database), 1)
    await database.close()


def migrated_by_command(**urls: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if not name.endswith("DATABASE_URL")}
    status, said = run(processes.run([command_path("payment-service"), "migrate"], env=inherited | urls))
    assert status == 0, said
    return said


def test_one_role_is_enough_to_begin_with_and_a_second_may_follow(
    new_database: Callable[[], str], application: tuple[str, str], two: Migrated
) -> None:
    owner = new_database()
    name = owner.rpartition("/")[2]
    service = two.application.rpartition("/")[0] + f"/{name}"
    assert "role" not in migrated_by_command(DATABASE_URL=owner)
    said = migrated_by_command(MIGRATION_DATABASE_URL=owner, DATABASE_URL=service)
    assert said.endswith(f"The role {application[0]} may do what the service needs, and no more.\n")
    assert run(execute(service, "SELECT count(*) FROM payments")) == "0"
