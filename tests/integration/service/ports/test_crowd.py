"""Creates come in crowds, and share a part of the pool: whatever they wait for, a read finds a connection."""

import asyncio
import itertools
import os
from contextlib import AsyncExitStack

import pytest

from service.adapters.store import POOL_SIZE, Database, PostgresStore
from service.adapters.store.database import CROWD_SIZE
from service.domain.errors import StoreUnavailableError
from tests.service_support import a_draft, message_key

_bookings = itertools.count(os.getpid() * 1_000_000 + 1)


async def test_while_creates_hold_their_share_reads_are_answered_and_the_next_create_is_refused(
    database: Database,
) -> None:
    store = PostgresStore(database)
    async with AsyncExitStack() as stack:
        for _ in range(CROWD_SIZE):
            await stack.enter_async_context(database.crowd())
            await stack.enter_async_context(database.transaction())
        refused = asyncio.create_task(
            store.begin(a_draft(booking_id=next(_bookings)), keys=[message_key()], request_id="request-1")
        )
        reads = await asyncio.gather(*(store.payment_of_session("cs_test_nobody") for _ in range(100)))
        assert reads == [None] * 100
        assert CROWD_SIZE <= database.in_use <= POOL_SIZE
        with pytest.raises(StoreUnavailableError):
            await refused
    begun = await store.begin(a_draft(booking_id=next(_bookings)), keys=[message_key()], request_id="request-1")
    assert begun.payment.id


async def test_a_create_that_is_cut_off_while_it_waits_takes_nothing_along(database: Database) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(CROWD_SIZE):
            await stack.enter_async_context(database.crowd())
        waiting = asyncio.create_task(stack.enter_async_context(database.crowd()))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
    async with AsyncExitStack() as stack:
        for _ in range(CROWD_SIZE):
            await stack.enter_async_context(database.crowd())
