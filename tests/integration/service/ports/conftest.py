from collections.abc import AsyncIterator, Callable

import pytest

from service.adapters.store import Database, migrate
from tests.conftest import run
from tests.integration.sandbox.harness import Running, running_sandbox


@pytest.fixture(scope="session")
def migrated_url(new_database: Callable[[], str]) -> str:
    """A database of this worker's own with our tables; tests share it, each with bookings of its own."""
    url = new_database()
    run(migrate(url))
    return url


@pytest.fixture
async def database(migrated_url: str) -> AsyncIterator[Database]:
    database = Database(migrated_url)
    yield database
    await database.close()


@pytest.fixture
async def sandbox() -> AsyncIterator[Running]:
    async with running_sandbox() as running:
        yield running
