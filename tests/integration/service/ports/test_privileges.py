"""S21: the service's role can do its work, and nothing to the record that its work does not need."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest

from service.adapters.postgres import Database, NoSuchRoleError, PostgresStore, could_rewrite, current_revision, migrate
from service.adapters.postgres.privileges import GRANTED
from service.adapters.postgres.tables import metadata
from service.bootstrap import built
from tests.integration.service.messages.rig import settings_of
from tests.integration.service.ports.test_store import opened
from tests.kit.databases import Migrated
from tests.kit.lifetimes import closing
from tests.kit.servers import run
from tools.devstack import processes
from tools.devstack.postgres_server import execute
from tools.devstack.stack import command_path

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
    """A connection by the service's role. The database holds a payment with its history."""
    async with closing(Database(two.application)) as database:
        if not await PostgresStore(database).payments_of_booking(1):
            await opened(PostgresStore(database), 1)
    async with closing(await asyncpg.connect(two.application)) as connection:
        yield connection


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
        for column in ("amount_minor", "currency", "booking_id", "user_id", "success_url", "livemode")
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


# --- the table of grants --------------------------------------------------------------------------------------------


def test_every_table_is_granted_and_only_the_pruners_can_lose_rows() -> None:
    assert set(GRANTED) == {*metadata.tables, "alembic_version"}
    losing = {table for table, privileges in GRANTED.items() if "DELETE" in privileges}
    assert losing == {"request_keys", "outbox", "budget_demand", "gateway_health", "places"}
    assert not {privilege for privileges in GRANTED.values() for privilege in privileges} & {"UPDATE", "TRUNCATE"}


GRANTS = """
    SELECT table_name, privilege_type AS word FROM information_schema.role_table_grants WHERE grantee = $1
    UNION SELECT table_name, 'UPDATE ' || column_name FROM information_schema.role_column_grants
    WHERE grantee = $1 AND privilege_type = 'UPDATE'
"""


def in_single_words(table: str, privileges: tuple[str, ...]) -> set[tuple[str, str]]:
    words = set()
    for privilege in privileges:
        kind, _, columns = privilege.rstrip(")").partition(" (")
        words |= {(table, f"{kind} {column}") for column in columns.split(", ")} if columns else {(table, kind)}
    return words


async def test_each_migrate_grants_exactly_what_the_table_says(two: Migrated, application: tuple[str, str]) -> None:
    role = application[0]
    async with closing(await asyncpg.connect(two.owner)) as admin:
        await admin.execute(f"GRANT ALL ON payments, journal TO {role}")
        await admin.execute(f"REVOKE INSERT ON outbox FROM {role}")
        assert (await migrate(two.owner, application=role)).granted
        granted = {tuple(row) for row in await admin.fetch(GRANTS, role)}
    assert granted == set().union(*(in_single_words(*each) for each in GRANTED.items()))


async def test_a_role_that_is_not_there_is_named_and_nothing_is_changed(new_database: Callable[[], str]) -> None:
    url = await asyncio.to_thread(new_database)
    with pytest.raises(NoSuchRoleError, match="The role no_such_role does not exist"):
        await migrate(url, application="no_such_role")
    async with closing(Database(url)) as database:
        assert await current_revision(database) is None


# --- one role or two ------------------------------------------------------------------------------------------------


async def test_the_service_warns_at_its_start_when_its_role_could_change_the_record(
    two: Migrated, amqp_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    warnings = {}
    for url in (two.owner, two.application):
        async with closing(Database(url)) as database:
            could = await could_rewrite(database)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            async with built(settings_of(amqp_url, url, "http://127.0.0.1:1")):
                warnings[could] = [record.message for record in caplog.records if "role" in record.message]
    warning = "the role of DATABASE_URL could change the record: see MIGRATION_DATABASE_URL"
    assert warnings == {True: [warning], False: []}


def by_the_service(two: Migrated, owner: str) -> str:
    """The URL of the owner's database by the service's role."""
    return two.application.rpartition("/")[0] + f"/{owner.rpartition('/')[2]}"


async def test_a_database_with_one_role_can_be_given_a_second(
    new_database: Callable[[], str], application: tuple[str, str], two: Migrated
) -> None:
    owner = await asyncio.to_thread(new_database)
    service = by_the_service(two, owner)
    async with closing(await asyncpg.connect(owner)) as admin:
        if not await admin.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
            pytest.skip("the user of DATABASE_URL is no administrator")
        await admin.execute(f"GRANT CREATE ON SCHEMA public TO {application[0]}")
        assert not (await migrate(service)).granted
        await admin.execute(f"REASSIGN OWNED BY {application[0]} TO current_user")
    assert (await migrate(owner, application=application[0])).granted
    async with closing(Database(service)) as database:
        assert not await could_rewrite(database)
        await opened(PostgresStore(database), 1)


def migrated_by_command(**urls: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if not name.endswith("DATABASE_URL")}
    status, said = run(processes.run([command_path("payment-service"), "migrate"], env=inherited | urls))
    assert status == 0, said
    return said


def test_one_role_is_enough_to_begin_with_and_a_second_may_follow(
    new_database: Callable[[], str], application: tuple[str, str], two: Migrated
) -> None:
    owner = new_database()
    service = by_the_service(two, owner)
    assert "role" not in migrated_by_command(DATABASE_URL=owner)
    said = migrated_by_command(MIGRATION_DATABASE_URL=owner, DATABASE_URL=service)
    assert said.endswith(f"The role {application[0]} may do what the service needs, and no more.\n")
    assert run(execute(service, "SELECT count(*) FROM payments")) == "0"
