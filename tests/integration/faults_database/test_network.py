"""A database that cannot be reached, or whose answers are lost."""

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text

from service.adapters.postgres.database import POOL_SIZE
from service.application.ports import Relation
from service.domain.errors import ConcurrentChangeError, StoreUnavailableError
from service.domain.status import decide
from tests.integration.faults_database.conftest import Far
from tests.integration.service.messages.rig import until
from tests.integration.service.ports.test_store import BOOKINGS, an_opening, begun, changed, opened
from tests.kit.clock import NOW
from tests.kit.service import a_draft, message_key
from tools.chaos.proxy import Mode

CUTS = 60
CANCELS = 300


async def test_behind_a_black_hole_every_statement_ends(far: Far) -> None:
    """F34 Every statement is bounded, on an open connection and on a new one."""
    await asyncio.gather(*(far.database.ping() for _ in range(5)))
    await far.proxy.set(Mode.BLACK_HOLE)

    async def one() -> None:
        with pytest.raises(StoreUnavailableError):
            await far.store.payment(1)

    async with asyncio.timeout(60):
        await asyncio.gather(*(one() for _ in range(40)))
        await far.database.close()  # which makes new connections when it is used again
    await far.proxy.set(Mode.NORMAL)
    await far.database.ping()


async def _answer_lost(far: Far, admin: Any, work: Coroutine[Any, Any, Any], done: str, *arguments: Any) -> None:
    """The database commits the statement, and the connection is cut before the answer arrives."""
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


async def test_a_commit_whose_answer_is_lost_is_read_again_and_never_assumed(
    far: Far, admin: asyncpg.Connection
) -> None:
    """F35 The connection is cut during the commit: the outcome is loaded again, never assumed."""
    for _ in range(CUTS // 2):
        # To prepare a statement waits for the lock as well, so each new connection prepares them before.
        await opened(far.store, next(BOOKINGS))
        draft, key = a_draft(booking_id=next(BOOKINGS)), message_key()
        committed = "SELECT 1 FROM payments WHERE booking_id = $1"
        await _answer_lost(far, admin, begun(far.store, draft, key), committed, draft.booking_id)
        repeated = await begun(far.store, a_draft(booking_id=draft.booking_id), key)
        assert repeated.relation is Relation.REPEATED
        assert repeated.payment.reference == draft.reference

        payment, opening = repeated.payment, an_opening()
        await opened(far.store, next(BOOKINGS))
        recorded = "SELECT 1 FROM payments WHERE id = $1 AND version = 1"
        await _answer_lost(far, admin, changed(far.store, payment, opening), recorded, payment.id)
        with pytest.raises(ConcurrentChangeError):  # a repeat loads and decides again
            await changed(far.store, payment, opening)
        kept = await far.store.payment(payment.id)
        assert kept is not None
        assert (kept.version, kept.session_id) == (1, opening.session_id)
        assert decide(kept, opening, at=NOW) is None
        assert await admin.fetchval("SELECT count(*) FROM outbox WHERE payment_id = $1", payment.id) == 1


async def test_connections_of_cancelled_callers_come_back(far: Far, admin: asyncpg.Connection) -> None:
    """F37 Tasks are cancelled at random: the pool keeps all of its connections, none in a transaction."""
    chance = random.Random(37)  # noqa: S311 - the same in every run
    for _ in range(CANCELS // 30):
        tasks = [asyncio.create_task(begun(far.store, a_draft(booking_id=next(BOOKINGS)))) for _ in range(30)]
        for task in chance.sample(tasks, len(tasks)):
            await asyncio.sleep(chance.random() * 0.004)
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert not isinstance(result, Exception), result
    pool: Any = far.database.engine.pool
    assert pool.checkedout() == 0
    async with asyncio.timeout(60):
        await asyncio.gather(*(far.database.run(text("SELECT pg_sleep(0.1)"), {}) for _ in range(2 * POOL_SIZE)))
    left = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in trans%'"
    assert await admin.fetchval(left) == 0
