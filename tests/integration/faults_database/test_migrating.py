"""T9 Migrations beside those who use the tables, and databases that are newer than the code."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from service.adapters.postgres import (
    Database,
    TablesInUseError,
    UnknownRevisionError,
    current_revision,
    migrate,
    newest_revision,
    revision_problem,
    why,
)
from service.adapters.postgres.database import make_engine
from service.adapters.postgres.migrate import _ONE_AT_A_TIME, Migration, _upgrade
from service.adapters.postgres.sessions import Sessions
from service.domain.errors import StoreUnavailableError
from tests.kit.databases import NewDatabase
from tests.kit.lifetimes import closing
from tests.kit.until import until

EARLIER = "0012"
"""What follows takes locks for which readers are in the way."""
PASSES = 2
FOLLOWS = "9999"


@pytest.fixture
async def url(new_database: NewDatabase) -> str:
    """An empty database of the test's own."""
    return await asyncio.to_thread(new_database)


@pytest.fixture
async def earlier(url: str) -> AsyncIterator[str]:
    """A database that an earlier release has migrated."""
    engine = make_engine(Sessions(url))
    async with engine.connect() as connection:
        await connection.run_sync(_upgrade, EARLIER)
    await engine.dispose()
    return url


async def test_a_migration_behind_an_open_reader_stands_in_nobodys_way(earlier: str) -> None:
    """One who has read `payments` and does not end: others go on meanwhile, and afterwards it is migrated."""
    async with closing(await asyncpg.connect(earlier)) as reader, closing(await asyncpg.connect(earlier)) as other:
        reading = reader.transaction()
        await reading.start()
        await reader.fetch("SELECT count(*) FROM payments")
        migration = asyncio.create_task(migrate(earlier))
        waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'payments'::regclass"
        for _ in range(PASSES):
            await until(lambda: other.fetchval(waiting), every=0.001)
            assert await other.fetchval("SELECT count(*) FROM payments") == 0, "it waits behind the migration, shortly"
            assert not migration.done()
        await reading.rollback()
        assert (await migration).revision == newest_revision()


async def test_a_migration_that_never_gets_its_lock_says_so(earlier: str) -> None:
    async with closing(await asyncpg.connect(earlier)) as reader, reader.transaction():
        await reader.fetch("SELECT count(*) FROM payments")
        with pytest.raises(TablesInUseError, match="pg_stat_activity"):
            await migrate(earlier, tries=2)
    async with closing(Database(earlier)) as database:
        assert await current_revision(database) == EARLIER
    await asyncio.gather(migrate(earlier), migrate(earlier))


async def test_who_waits_to_migrate_keeps_no_transaction_open(url: str) -> None:
    """`CREATE INDEX CONCURRENTLY` of the one that migrates would wait for its end, and it for that one's."""
    looking = await asyncpg.connect(url)
    async with closing(looking), closing(await asyncpg.connect(url)) as first, first.transaction():
        await first.execute(f"SELECT pg_advisory_xact_lock({_ONE_AT_A_TIME})")
        waiting = asyncio.create_task(migrate(url))

        async def has_ended() -> bool:
            ended = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle'"
            return bool(await looking.fetch(f"{ended} AND query LIKE 'COMMIT%'"))

        await until(has_ended)
        assert not waiting.done()
    assert (await waiting).revision == newest_revision()


@pytest.mark.parametrize(
    "whose",
    ["wait_event_type = 'Lock'", "state = 'idle in transaction' AND query = 'SELECT 1'"],
    ids=["that migrates", "by which there is but one"],
)
async def test_a_migration_whose_session_is_lost_says_so_and_is_done_by_the_next(earlier: str, whose: str) -> None:
    """A failover, or an operator who ends what stands in the way: a sentence, and no traceback of a library's."""
    ended = f"""SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND {whose}"""  # noqa: S608
    async with closing(await asyncpg.connect(earlier)) as admin, closing(await asyncpg.connect(earlier)) as reader:
        reading = reader.transaction()
        await reading.start()
        await reader.fetch("SELECT count(*) FROM payments")
        migration = asyncio.create_task(migrate(earlier))
        await until(lambda: admin.fetchval(ended), every=0.02)
        await reading.rollback()
        [outcome] = await asyncio.gather(migration, return_exceptions=True)
    if not isinstance(outcome, Migration):  # it is, if the lock was given up in the moment in which its session ended
        assert isinstance(outcome, StoreUnavailableError), outcome
        assert why(outcome).startswith(("cannot be reached (", "says 57P01: "))
    assert (await migrate(earlier)).revision == newest_revision()


@pytest.mark.parametrize(
    ("oldest", "accepted"), [(newest_revision(), True), ("0015", True), (FOLLOWS, False), (None, False)]
)
async def test_a_newer_database_is_used_if_it_says_that_it_may_be(
    url: str, *, oldest: str | None, accepted: bool
) -> None:
    """A release that is rolled back, or replicas of it that start again after the migration of the next one."""
    await migrate(url)
    async with closing(await asyncpg.connect(url)) as owner, closing(Database(url)) as database:
        await owner.execute("UPDATE alembic_version SET version_num = $1", FOLLOWS)
        await owner.execute("COMMENT ON TABLE alembic_version IS " + (f"'{oldest}'" if oldest else "NULL"))
        problem = await revision_problem(database)
        if accepted:
            assert problem is None
            assert (await migrate(url)).revision == FOLLOWS, "the migration of the older release has nothing to do"
        else:
            assert problem is not None
            with pytest.raises(UnknownRevisionError, match="a newer one"):
                await migrate(url)
        assert await current_revision(database) == FOLLOWS
