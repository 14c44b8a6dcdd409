"""A database that was put back to an older copy of itself, and nobody noticed."""

import asyncio
from collections.abc import Callable

from service.adapters.postgres import Database, PostgresStore
from tests.integration.service.ports.test_store import BOOKINGS, begun
from tests.kit.databases import Databases, Migrated
from tests.kit.lifetimes import closing
from tests.kit.service import a_draft

LARGEST_IN_JSON = 2**53 - 1
"""The largest integer that every reader of JSON keeps, JavaScript's included."""


async def given_out(url: str, *, payments: int) -> list[int]:
    async with closing(Database(url)) as database:
        store = PostgresStore(database)
        return [(await begun(store, a_draft(booking_id=next(BOOKINGS)))).payment.id for _ in range(payments)]


async def test_an_older_copy_of_the_database_gives_out_none_of_the_ids_that_were_given_out_since(
    new_migrated: Callable[[], Migrated], databases_of_run: Databases
) -> None:
    lost = await asyncio.to_thread(new_migrated)
    before = await given_out(lost.application, payments=3)
    backup = await asyncio.to_thread(databases_of_run.make, lost.owner)
    since = await given_out(lost.application, payments=40)
    after = await given_out(backup, payments=40)
    assert before + since + after == sorted({*before, *since, *after})
    assert 0 < before[0] < after[-1] <= LARGEST_IN_JSON
