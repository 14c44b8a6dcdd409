from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import pytest

from service.adapters.postgres import Database, PostgresStore
from tests.kit.databases import Migrated
from tests.kit.lifetimes import closing
from tools.chaos.proxy import Proxy, behind_proxy


@pytest.fixture(scope="module")
def migrated_url(migrated: Migrated) -> str:
    """For the owner of the tables: these tests change them."""
    return migrated.owner


@dataclass(kw_only=True)
class Far:
    """The store behind a network that breaks on demand."""

    proxy: Proxy
    url: str
    database: Database
    store: PostgresStore


@pytest.fixture
async def far(migrated_url: str) -> AsyncIterator[Far]:
    async with behind_proxy(migrated_url) as (proxy, url), closing(Database(url)) as database:
        yield Far(proxy=proxy, url=url, database=database, store=PostgresStore(database))


@pytest.fixture
async def admin(migrated_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection that no fault touches."""
    async with closing(await asyncpg.connect(migrated_url)) as connection:
        yield connection
