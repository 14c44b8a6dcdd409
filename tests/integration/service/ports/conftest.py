from collections.abc import AsyncIterator, Callable

import pytest

from service.adapters.store import Database
from tests.conftest import Migrated
from tests.integration.sandbox.harness import Running, running_sandbox


@pytest.fixture(scope="session")
def migrated(new_migrated: Callable[[], Migrated]) -> Migrated:
    """A database of this worker's own with our tables; tests share it, each with bookings of its own."""
    return new_migrated()


@pytest.fixture(scope="session")
def migrated_url(migrated: Migrated) -> str:
    """The same, by the service's role."""
    return migrated.application


@pytest.fixture
async def database(migrated_url: str) -> AsyncIterator[Database]:
    database = Database(migrated_url)
    yield database
    await database.close()


@pytest.fixture
async def owner(migrated: Migrated) -> AsyncIterator[Database]:
    """The same database by the role that owns the tables."""
    database = Database(migrated.owner)
    yield database
    await database.close()


@pytest.fixture
async def sandbox() -> AsyncIterator[Running]:
    async with running_sandbox() as running:
        yield running
