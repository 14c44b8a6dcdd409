"""A search for which too much has to be read: the database ends it, and works."""

from collections.abc import AsyncIterator
from http import HTTPStatus
from uuid import uuid4

import asyncpg
import pytest

from service.adapters.postgres import Database, PostgresStore
from tests.integration.console.conftest import Browser
from tests.integration.service.ports.test_store import opened
from tests.kit.databases import Migrated
from tests.kit.lifetimes import closing


@pytest.fixture
async def slow(migrated: Migrated) -> AsyncIterator[None]:
    """Each payment that is read takes longer than a statement may."""
    async with closing(Database(migrated.application)) as database:
        await opened(PostgresStore(database), uuid4().int % 2**40)
    async with closing(await asyncpg.connect(migrated.owner)) as owner:
        await owner.execute(
            "CREATE POLICY slow ON payments USING (pg_sleep(5) IS NOT NULL);"
            " ALTER TABLE payments ENABLE ROW LEVEL SECURITY"
        )
        yield
        await owner.execute("ALTER TABLE payments DISABLE ROW LEVEL SECURITY; DROP POLICY slow ON payments")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/search?status=PENDING", "Name a booking or a user, or when it was begun, by the day."),
        ("/search?status=PENDING&since=2026-01-01T00:00", "Name a booking or a user, or a shorter time."),
        ("/export.csv?status=PENDING", "Name a booking or a user, or when it was begun, by the day."),
        ("/find?q=request-1", "Name a booking or a user, or when it was begun, by the day."),
    ],
)
@pytest.mark.usefixtures("slow")
async def test_a_search_that_takes_too_long_says_so_and_what_to_narrow(browser: Browser, path: str, words: str) -> None:
    answer = await browser.get(path)
    assert answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert f"The search took too long and was ended. {words}" in answer.text
    assert "does not answer" not in answer.text
