"""The whole service while its database dies, or takes no writes."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio

from contracts import topology
from service.adapters.store import migrate
from service.entrypoints.delivery import AWAY_DELAYS
from tests.conftest import PrivatePostgres
from tests.integration.service.messages.rig import CREATE, MARK, Rig, a_create, running, until

pytestmark = pytest.mark.asyncio(loop_scope="module")
KILLS = 3
UNAVAILABLE = "SERVICE_UNAVAILABLE"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(amqp_url: str, postgres: PrivatePostgres) -> AsyncIterator[Rig]:
    """The service on a database server of its own."""
    await migrate(postgres.url)
    async with running(amqp_url, postgres.url) as rig:
        yield rig


async def answered(rig: Rig, command: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The session of a create that is repeated for as long as it may be, as any client does."""
    async with asyncio.timeout(60):
        while True:
            reply = await rig.ask(CREATE, command, **changes)
            if reply.type == "checkout.create.reply":
                document: dict[str, Any] = reply.document
                return document
            assert reply.document["retryable"], reply.body
            await asyncio.sleep(0.2)


async def test_a_database_that_is_killed_is_used_again_as_soon_as_it_is_back(
    rig: Rig, postgres: PrivatePostgres
) -> None:
    """F33 PostgreSQL killed under load: retryable errors, then the same session, and no restart of ours."""
    for _ in range(KILLS):
        commands = [(a_create(), str(uuid4())) for _ in range(10)]
        load = [
            asyncio.create_task(answered(rig, command, headers={"idempotency-key": key})) for command, key in commands
        ]
        await asyncio.to_thread(postgres.kill)
        await asyncio.to_thread(postgres.start)
        sessions = [each["sessionId"] for each in await asyncio.gather(*load)]
        assert len(set(sessions)) == len(commands)
        for command, _ in commands:
            async with asyncio.timeout(30):
                assert await _count(postgres.url, command["bookingId"]) == 1
            assert len(await rig.sessions_of(command["bookingId"])) == 1
    assert (await rig.ready()).status_code == 200


async def _count(url: str, booking_id: int) -> int:
    connection = await asyncpg.connect(url)
    try:
        count: int = await connection.fetchval("SELECT count(*) FROM payments WHERE booking_id = $1", booking_id)
        return count
    finally:
        await connection.close()


async def _read_only(rig: Rig, state: str) -> None:
    """For the sessions that are there and those to come: as a failover leaves it."""
    connection = await asyncpg.connect(rig.settings.database_url.get_secret_value())
    await connection.execute("SET default_transaction_read_only = off")
    await connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {state}")
    await connection.execute("SELECT pg_reload_conf()")
    await connection.close()


async def test_a_database_that_takes_no_writes_parks_and_fails_nothing(rig: Rig) -> None:
    """F39 Read-only after a failover: not ready, commands come again for as long as it takes, none parked or failed."""
    command, last = a_create(), len(topology.RETRY_DELAYS_SECONDS)
    await _read_only(rig, "on")
    try:

        async def status_is(code: int) -> bool:
            return (await rig.ready()).status_code == code

        await until(lambda: status_is(503))
        assert (await rig.ready()).json()["components"]["database"] == {"status": "DOWN"}
        fault = await rig.ask(CREATE, a_create())
        assert (fault.document["code"], fault.document["retryable"]) == (UNAVAILABLE, True)
        mark = await rig.send(CREATE, command)
        tired = await rig.send(CREATE, a_create(), headers={"x-attempts": 3 * last})
        [late] = await until(lambda: _delayed(rig, tired))
        assert (late.headers["x-attempts"], late.headers["x-fault-code"]) == (3 * last + 1, UNAVAILABLE)
    finally:
        await _read_only(rig, "off")
    await until(lambda: status_is(200))
    [payment] = await until(lambda: rig.payments_of(command["bookingId"]), 30)
    await rig.told(payment["id"], events=1)
    parked = [each.headers.get(MARK) for each in await rig.dead_letters(CREATE)]
    assert not {mark, tired} & set(parked)
    [failed] = await rig.sql("SELECT count(*) FROM payments WHERE status = 'FAILED'")
    assert failed["count"] == 0


async def _delayed(rig: Rig, mark: str) -> list[Any]:
    return [each for each in await rig.delayed(CREATE, delay=AWAY_DELAYS - 1) if each.headers.get(MARK) == mark]
