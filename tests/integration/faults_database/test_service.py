"""The whole service while its database is killed or takes no writes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio

from contracts import topology
from service.adapters.postgres import Database, migrate
from service.domain.errors import StoreUnavailableError
from service.entrypoints.middleware import ENDLESS_DELAYS
from tests.integration.service.messages.rig import CREATE, MARK, Rig, a_create, running, until
from tests.kit.lifetimes import closing
from tests.kit.servers import PrivateServer

KILLS = 3
UNAVAILABLE = "SERVICE_UNAVAILABLE"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(amqp_url: str, postgres: PrivateServer) -> AsyncIterator[Rig]:
    """The service on a private database server."""
    await migrate(postgres.url)
    async with running(amqp_url, postgres.url) as rig:
        yield rig


async def answered(rig: Rig, command: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The session of a create that is repeated as any client does."""
    async with asyncio.timeout(60):
        while True:
            reply = await rig.ask(CREATE, command, **changes)
            if reply.type == "checkout.create.reply":
                document: dict[str, Any] = reply.document
                return document
            assert reply.document["retryable"], reply.body
            await asyncio.sleep(0.2)


async def test_a_database_that_is_killed_is_used_again_as_soon_as_it_is_back(rig: Rig, postgres: PrivateServer) -> None:
    """F33 PostgreSQL killed under load: retryable errors, then the same session, without a restart of the service."""
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
            async with asyncio.timeout(60):
                assert await _count(postgres.url, command["bookingId"]) == 1
            assert len(await rig.sessions_of(command["bookingId"])) == 1
    assert (await rig.ready()).status_code == 200


async def _count(url: str, booking_id: int) -> int:
    async with closing(await asyncpg.connect(url)) as connection:
        count: int = await connection.fetchval("SELECT count(*) FROM payments WHERE booking_id = $1", booking_id)
        return count


async def _read_only(rig: Rig, state: str) -> None:
    """Set it for open and new sessions, as a failover leaves it."""
    async with closing(await asyncpg.connect(rig.database_url)) as connection:
        await connection.execute("SET default_transaction_read_only = off")
        await connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {state}")
        await connection.execute("SELECT pg_reload_conf()")


async def test_a_database_that_takes_no_writes_parks_and_fails_nothing(rig: Rig) -> None:
    """F39 Read-only after a failover: not ready; commands come again until it ends, none is dead-lettered or failed."""
    command, last = a_create(), len(topology.RETRY_DELAYS_SECONDS)
    await _read_only(rig, "on")
    try:

        async def status_is(code: int) -> bool:
            return (await rig.ready()).status_code == code

        await until(lambda: status_is(503))
        assert (await rig.ready()).json()["components"]["database"] == {
            "status": "DOWN",
            "details": {"reason": "it accepts no writes"},
        }
        fault = await rig.ask(CREATE, a_create())
        assert (fault.document["code"], fault.document["retryable"]) == (UNAVAILABLE, True)
        mark = await rig.send(CREATE, command)
        tired = await rig.send(CREATE, a_create(), headers={"x-attempts": 3 * last})
        late = await rig.retried(CREATE, tired, delay=ENDLESS_DELAYS - 1)
        assert (late.headers["x-attempts"], late.headers["x-fault-code"]) == (3 * last + 1, UNAVAILABLE)
    finally:
        await _read_only(rig, "off")
    await until(lambda: status_is(200))
    [payment] = await until(lambda: rig.payments_of(command["bookingId"]))
    await rig.told(payment["id"], events=1)
    parked = [each.headers.get(MARK) for each in await rig.dead_letters(CREATE)]
    assert not {mark, tired} & set(parked)
    [failed] = await rig.sql("SELECT count(*) FROM payments WHERE status = 'FAILED'")
    assert failed["count"] == 0


@pytest.mark.parametrize("asked", ["", "?target_session_attrs=any"], ids=["a writable one is asked for", "any will do"])
async def test_sessions_of_a_time_in_which_nothing_could_be_written_do_not_stay(
    postgres: PrivateServer, caplog: pytest.LogCaptureFixture, asked: str
) -> None:
    """T2 Ready as soon as writes are taken again, without a restart, though a session keeps what it began with."""
    name = urlsplit(postgres.url).path[1:]
    async with (
        closing(await asyncpg.connect(postgres.url)) as admin,
        closing(Database(postgres.url + asked)) as database,
    ):
        await asyncio.gather(*(database.ping() for _ in range(20)))
        try:
            await admin.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
            await _end_sessions(admin)
            for _ in range(3):
                found = await asyncio.gather(*(database.ping() for _ in range(30)), return_exceptions=True)
                assert {type(each) for each in found} == {StoreUnavailableError}
        finally:
            await admin.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
        await until(lambda: _answers(database))
        await asyncio.gather(*(database.ping() for _ in range(20)))
    assert caplog.text.count("the database takes no writes: sessions of that time are replaced") == (1 if asked else 0)


async def _end_sessions(admin: asyncpg.Connection) -> None:
    others = "datname = current_database() AND application_name = 'payment-service'"
    await admin.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")  # noqa: S608


async def _answers(database: Database) -> bool:
    with contextlib.suppress(StoreUnavailableError):
        await database.ping()
        return True
    return False
