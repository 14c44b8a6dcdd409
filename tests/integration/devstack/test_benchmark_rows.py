"""What the benchmark writes into the tables by itself, past the service."""

import asyncpg
import pytest

from service.adapters.postgres import Database, PostgresStore
from tests.integration.service.ports.test_store import an_opening, begun, changed
from tests.kit.databases import Migrated, NewMigrated
from tests.kit.lifetimes import closing
from tests.kit.service import a_draft
from tools.bench.verifies import add_unpaid
from tools.devstack.postgres_server import execute


@pytest.fixture
def made(new_migrated: NewMigrated) -> Migrated:
    return new_migrated()


async def test_the_benchmark_fills_the_tables_of_this_release_with_unpaid_payments(made: Migrated) -> None:
    if await execute(made.owner, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") != "t":
        pytest.skip("only a superuser may pass over the triggers of the tables")
    async with closing(Database(made.application)) as database:
        store = PostgresStore(database)
        await changed(store, (await begun(store, a_draft())).payment, an_opening())
    await add_unpaid(made.owner, 5)
    connection = await asyncpg.connect(made.owner)
    assert await connection.fetchval("SELECT count(*) FROM payments WHERE session_id LIKE 'cs_test_copy%'") == 5
    await connection.close()
