"""T5 The whole service behind a real PgBouncer, in both modes."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from contracts.commands import CommandType
from runtime.aio import cancel
from service.adapters.postgres import GRANTED, Database, current_revision, migrate, newest_revision
from service.adapters.postgres.fitness import listening_problem_of, problem_of
from tests.integration.service.messages.rig import CREATE, STATUS, VERIFY, Rig, a_create, around, serving
from tests.kit.databases import Migrated, NewDatabase
from tests.kit.lifetimes import closing
from tests.kit.poolers import pooled
from tests.kit.until import until

COMMANDS = 40
FEW = 4
ENOUGH = 40
"""In session mode each of ours is one at the server: the pool, the listener, and what it looks with."""
LISTENING = """SELECT 1 FROM pg_stat_activity WHERE datname = current_database()
    AND (query LIKE 'LISTEN%' AND query NOT LIKE '%probe%' OR query = 'SELECT pg_is_in_recovery()')"""
"""What the listener does first, and from time to time. What it looks with for a pooler is no listening."""


@asynccontextmanager
async def behind(amqp_url: str, owner: str, through: str, listen: str | None) -> AsyncIterator[Rig]:
    """The rig, which looks past the pooler, with the service, which does not."""
    async with around(amqp_url, owner) as rig:
        listen_url = None if listen is None else SecretStr(listen)
        settings = rig.settings.model_copy(
            update={"database_url": SecretStr(through), "database_listen_url": listen_url}
        )
        async with serving(settings) as service:
            rig.service = service
            yield rig


async def asked(rig: Rig, questions: Sequence[tuple[CommandType, dict[str, Any]]]) -> list[Any]:
    """The replies: with more commands at once than sessions, and not so many that one is late on a busy machine."""
    some = asyncio.Semaphore(2 * FEW)

    async def one(command: CommandType, body: dict[str, Any]) -> Any:
        async with some:
            reply = await rig.ask(command, body)
        assert reply.type == f"{command.value}.reply", reply.body
        return reply.document

    return await asyncio.gather(*(one(*question) for question in questions))


async def lives_of_payments(rig: Rig) -> None:
    """Creates, repeats, status queries and verifies at once; then some are paid, and told."""
    creates = [(CREATE, a_create()) for _ in range(COMMANDS)]
    sessions = [reply["sessionId"] for reply in await asked(rig, creates)]
    others = [(STATUS, {"transactionId": each}) for each in sessions] + [
        (VERIFY, {"sessionId": each}) for each in sessions
    ]
    again = await asked(rig, [*creates, *others])
    assert [reply["sessionId"] for reply in again[:COMMANDS]] == sessions
    for session in sessions[:5]:
        await rig.sandbox.control(f"sessions/{session}/pay", {"card": "4242424242424242"})
    for session in sessions[:5]:
        payment = await rig.payment(session)
        assert (await rig.told(payment["id"], events=2))[-1].document["data"]["status"] == "COMPLETED"


@pytest.mark.parametrize(("mode", "sessions"), [("transaction", FEW), ("session", ENOUGH)])
async def test_behind_a_pooler_no_command_fails(
    amqp_url: str, migrated: Migrated, tmp_path: Path, caplog: pytest.LogCaptureFixture, *, mode: str, sessions: int
) -> None:
    caplog.set_level(logging.INFO)
    async with pooled(tmp_path, migrated.application, mode=mode, sessions=sessions) as through:
        listen = migrated.application if mode == "transaction" else None
        async with behind(amqp_url, migrated.owner, through, listen) as rig:
            await until(lambda: rig.sql(LISTENING))
            await lives_of_payments(rig)
            assert await rig.is_ready()
    assert "drops notifications" not in caplog.text
    assert "a pooler is between us and the database" in caplog.text
    assert "have no statement_timeout" in caplog.text


async def test_without_an_url_past_the_pooler_the_log_says_so_and_payments_go_on(
    amqp_url: str, migrated: Migrated, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        pooled(tmp_path, migrated.application, mode="transaction", sessions=FEW) as through,
        behind(amqp_url, migrated.owner, through, None) as rig,
    ):
        await until(lambda: "DATABASE_LISTEN_URL must lead to the database itself" in caplog.text)
        await lives_of_payments(rig)
        assert not await rig.sql(LISTENING)


@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_whether_notifications_come_is_no_matter_of_luck(migrated: Migrated, tmp_path: Path, mode: str) -> None:
    """Beside others a pooler in transaction mode hands the same process to a client several times in a row."""
    async with (
        pooled(tmp_path, migrated.application, mode=mode, sessions=ENOUGH) as through,
        closing(Database(through)) as database,
    ):

        async def other() -> None:
            while True:
                await database.ping()

        others = [asyncio.create_task(other()) for _ in range(3)]
        try:
            found = await asyncio.gather(*(listening_problem_of(through, otherwise=through) for _ in range(10)))
        finally:
            await cancel(others)
    assert [bool(problem) for problem in found] == [mode == "transaction"] * 10, found


@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_an_operator_may_use_the_pooler(new_database: NewDatabase, tmp_path: Path, mode: str) -> None:
    async with pooled(tmp_path, await asyncio.to_thread(new_database), mode=mode, sessions=FEW) as through:
        for _ in range(3):
            await asyncio.gather(migrate(through), migrate(through))
            async with closing(Database(through)) as database:
                assert await current_revision(database) == newest_revision()
                assert await problem_of(database, GRANTED) is None
        is_deaf = mode == "transaction"
        for listen in (None, through):
            problem = await listening_problem_of(listen, otherwise=through)
            assert bool(problem and "drops notifications: DATABASE_LISTEN_URL must lead" in problem) is is_deaf
