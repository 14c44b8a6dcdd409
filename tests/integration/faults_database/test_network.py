"""A database that is there but cannot be reached, or takes its answer with it."""

import asyncio
import itertools
import os
import random
from collections.abc import Coroutine
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text

from service.adapters.store import PostgresStore
from service.adapters.store.database import POOL_SIZE
from service.application.ports import Relation
from service.domain.errors import ConcurrentChangeError, StoreUnavailableError
from service.domain.outcomes import Opened
from service.domain.payment import Payment
from service.domain.status import decide
from tests.integration.faults_database.conftest import Far
from tests.integration.service.messages.rig import until
from tests.integration.service.ports.test_store import an_opening, begun
from tests.proxy import Mode
from tests.service_support import NOW, a_draft, context, message_key

CUTS = 60
CANCELS = 300
_bookings = itertools.count(os.getpid() * 1_000_000 + 700_001)


async def test_behind_a_black_hole_every_statement_ends(far: Far) -> None:
    """F34 Every statement is bounded, on a connection that is there and on one that has to be made."""
    await asyncio.gather(*(far.database.ping() for _ in range(5)))
    await far.proxy.set(Mode.BLACK_HOLE)

    async def one() -> None:
        with pytest.raises(StoreUnavailableError):
            await far.store.payment(1)

    async with asyncio.timeout(30):
        await asyncio.gather(*(one() for _ in range(40)))
    await far.proxy.set(Mode.NORMAL)
    await far.database.ping()


async def _answer_lost(far: Far, admin: Any, work: Coroutine[Any, Any, Any], done: str, *arguments: Any) -> None:
    """The statement is done by the database and committed, and the connection is cut before the answer is through."""
    waiting = "SELECT 1 FROM pg_locks WHERE relation = 'payments'::regclass AND NOT granted"
    transaction = admin.transaction()
    await transaction.start()
    await admin.execute("LOCK TABLE payments IN SHARE MODE")
    task = asyncio.create_task(work)
    await until(lambda: admin.fetchval(waiting))
    await far.proxy.set(Mode.SLOW, delay_seconds=60)  # from here on no answer arrives
    await transaction.rollback()
    await until(lambda: admin.fetchval(done, *arguments))
    far.proxy.reset()
    with pytest.raises(StoreUnavailableError):
        await task
    await far.proxy.set(Mode.NORMAL)


async def test_a_commit_whose_answer_is_lost_is_read_again_and_never_assumed(far: Far, migrated_url: str) -> None:
    """F35 The connection is cut while the commit is in flight: the outcome is read again, never assumed."""
    admin = await asyncpg.connect(migrated_url)
    for _ in range(CUTS // 2):
        # A statement's preparation would wait for the lock by itself, so each new connection prepares them here.
        await _record(far.store, await _another(far.store), an_opening())
        draft, key = a_draft(booking_id=next(_bookings)), message_key()
        committed = "SELECT 1 FROM payments WHERE booking_id = $1"
        await _answer_lost(far, admin, begun(far.store, draft, key), committed, draft.booking_id)
        repeated = await begun(far.store, a_draft(booking_id=draft.booking_id), key)
        assert repeated.relation is Relation.REPEATED
        assert repeated.payment.reference == draft.reference

        payment, opening = repeated.payment, an_opening()
        await _record(far.store, await _another(far.store), an_opening())
        recorded = "SELECT 1 FROM payments WHERE id = $1 AND version = 1"
        await _answer_lost(far, admin, _record(far.store, payment, opening), recorded, payment.id)
        with pytest.raises(ConcurrentChangeError):  # so whoever repeats reads again, and decides again
            await _record(far.store, payment, opening)
        kept = await far.store.payment(payment.id)
        assert kept is not None
        assert (kept.version, kept.session_id) == (1, opening.session_id)
        assert decide(kept, opening, at=NOW) is None
        assert await admin.fetchval("SELECT count(*) FROM outbox WHERE payment_id = $1", payment.id) == 1
    await admin.close()


async def _another(store: PostgresStore) -> Payment:
    return (await begun(store, a_draft(booking_id=next(_bookings)), message_key())).payment


async def _record(store: PostgresStore, payment: Payment, outcome: Opened) -> None:
    change = decide(payment, outcome, at=NOW)
    assert change is not None
    await store.record(change, context=context())


async def test_connections_of_cancelled_callers_come_back(far: Far, migrated_url: str) -> None:
    """F37 Tasks cancelled at random: the pool has all of its connections afterwards, none in a transaction."""
    chance = random.Random(37)  # noqa: S311 - the same in every run
    for _ in range(CANCELS // 30):
        tasks = [
            asyncio.create_task(begun(far.store, a_draft(booking_id=next(_bookings)), message_key())) for _ in range(30)
        ]
        for task in chance.sample(tasks, len(tasks)):
            await asyncio.sleep(chance.random() * 0.004)
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert not isinstance(result, Exception), result
    pool: Any = far.database.engine.pool
    assert pool.checkedout() == 0
    async with asyncio.timeout(30):
        await asyncio.gather(*(far.database.run(text("SELECT pg_sleep(0.1)"), {}) for _ in range(2 * POOL_SIZE)))
    admin = await asyncpg.connect(migrated_url)
    left = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in trans%'"
    assert await admin.fetchval(left) == 0
    await admin.close()
