"""T17 The primary dies under load, its standby takes over: the service finds it, and nothing acknowledged is lost."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio

from service.adapters.postgres import migrate
from tests.integration.service.messages.rig import CREATE, Rig, a_create, running
from tests.kit.lifetimes import closing
from tests.kit.pairs import DATABASE, Pair, a_pair
from tests.kit.until import until

pytestmark = pytest.mark.asyncio(loop_scope="module")
CALLERS = 4
LISTENING = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'LISTEN%' OR query = 'SELECT pg_is_in_recovery()'"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    async with a_pair(Path(tmp_path_factory.mktemp("failover"))) as pair:
        yield pair


async def buying(rig: Rig, sessions: list[str], done: asyncio.Event) -> None:
    """One caller after the other: each repeats its create until it is answered, with the same key."""
    while not done.is_set():
        command, key = a_create(), str(uuid4())
        while (
            reply := await rig.ask(CREATE, command, headers={"idempotency-key": key})
        ).type != f"{CREATE.value}.reply":
            assert reply.document["retryable"], reply.body
            await asyncio.sleep(0.1)
        sessions.append(reply.document["sessionId"])


async def test_a_failover_under_load_loses_nothing_and_needs_no_restart(
    amqp_url: str, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    await migrate(pair.url)
    async with running(amqp_url, pair.url) as rig:
        sessions: list[str] = []
        done = asyncio.Event()
        load = [asyncio.create_task(buying(rig, sessions, done)) for _ in range(CALLERS)]
        await until(lambda: len(sessions) >= 4 * CALLERS)
        await pair.fail_over()
        acknowledged, promoted_at = list(sessions), time.monotonic()
        await until(rig.is_ready)
        logging.getLogger(__name__).info("ready %.1f s after the promotion", time.monotonic() - promoted_at)
        enough = len(sessions) + 4 * CALLERS
        await until(lambda: len(sessions) >= enough)
        done.set()
        await asyncio.gather(*load)
        async with closing(await asyncpg.connect(pair.standby.url(DATABASE))) as promoted:
            rows = await promoted.fetch("SELECT session_id FROM payments WHERE session_id = ANY($1)", sessions)
            assert {row["session_id"] for row in rows} == set(sessions)
            assert set(acknowledged) <= set(sessions)
            await until(lambda: promoted.fetchval(LISTENING))
        await paid(rig, sessions[0])
        await paid(rig, sessions[-1])
    assert "cannot listen for notifications" in caplog.text  # it had a session; whether others were in use is chance


async def paid(rig: Rig, session: str) -> None:
    await rig.sandbox.control(f"sessions/{session}/pay", {"card": "4242424242424242"})

    def told() -> list[Any]:
        return [
            each.document
            for each in rig.events
            if each.document["data"]["transactionId"] == session and each.document["data"]["status"] == "COMPLETED"
        ]

    await until(told)
