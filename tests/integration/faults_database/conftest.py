from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest

from service.adapters.store import Database, PostgresStore, migrate
from tests.conftest import run
from tests.proxy import Proxy, behind_proxy


@pytest.fixture(scope="module")
def migrated_url(new_database: Callable[[], str]) -> str:
    """A database of this module's own."""
    url = new_database()
    run(migrate(url))
    return url


@dataclass(kw_only=True)
class Far:
    """The store behind a network that can be broken."""

    proxy: Proxy
    url: str
    database: Database
    store: PostgresStore


@pytest.fixture
async def far(migrated_url: str) -> AsyncIterator[Far]:
    async with behind_proxy(migrated_url) as (proxy, url):
        database = Database(url)
        yield Far(proxy=proxy, url=url, database=database, store=PostgresStore(database))
        await database.close()
