from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from service.adapters.store import Database, PostgresStore, migrate
from tests.chaos.proxy import Proxy
from tests.conftest import run


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
    parts = urlsplit(migrated_url)
    proxy = Proxy("database", parts.port or 5432)
    await proxy.start()
    credentials = parts.netloc.rpartition("@")[0]
    url = parts._replace(netloc=f"{credentials}@127.0.0.1:{proxy.port}").geturl()
    database = Database(url)
    yield Far(proxy=proxy, url=url, database=database, store=PostgresStore(database))
    await database.close()
    await proxy.stop()
