from collections.abc import AsyncIterator, Callable

import pytest

from service.adapters.postgres import Database
from tests.integration.service.ports.test_store import BOOKINGS
from tests.kit.databases import Migrated
from tests.kit.lifetimes import closing
from tests.kit.service import ScriptedServer, scripted_server


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
    async with closing(Database(migrated_url)) as database:
        yield database


@pytest.fixture
def booking() -> int:
    return next(BOOKINGS)


@pytest.fixture
async def owner(migrated: Migrated) -> AsyncIterator[Database]:
    """The same database by the role that owns the tables."""
    async with closing(Database(migrated.owner)) as database:
        yield database


@pytest.fixture
async def script() -> AsyncIterator[ScriptedServer]:
    async with scripted_server() as server:
        yield server
