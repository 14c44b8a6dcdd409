import argparse
import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiormq
import asyncpg
import pytest
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from contracts import topology
from contracts.commands import CommandType
from service import dead_letters
from service.entrypoints import broker as brokers
from service.settings import BrokerSettings, OperatorSettings
from tests.conftest import Migrated, RoleUrl, run

CREATE, VERIFY, STATUS = CommandType.CREATE_CHECKOUT, CommandType.VERIFY_CHECKOUT, CommandType.PAYMENT_STATUS


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str


def properties(**changes: Any) -> Basic.Properties:
    """Of a create that failed for the last time an hour ago, unless told otherwise."""
    members: dict[str, Any] = {
        "message_id": "m-1",
        "correlation_id": "c-1",
        "content_type": "application/json",
        "message_type": "checkout.create",
        "timestamp": datetime.now(UTC).replace(microsecond=0),
        "delivery_mode": 2,
        "headers": {},
    }
    return Basic.Properties(**members | changes)


class Desk:
    """An operator's desk: the commands, and a plain AMQP client and a database connection beside them."""

    def __init__(self, *, amqp_url: str, database_url: str, capsys: pytest.CaptureFixture[str], channel: Any) -> None:
        self.amqp_url, self.database_url = amqp_url, database_url
        self.channel = channel
        self._capsys = capsys

    async def says(self, *words: str, amqp_url: str = "", database_url: str = "") -> Ended:
        """`payment-service dead-letters <words>`."""
        parser = argparse.ArgumentParser()
        dead_letters.add_parser(parser.add_subparsers())
        arguments = parser.parse_args(["dead-letters", *words])
        urls = {"amqp_url": amqp_url or self.amqp_url, "database_url": database_url or self.database_url}
        needed = dead_letters.needs(arguments)
        settings = OperatorSettings(**urls) if needed is OperatorSettings else BrokerSettings(amqp_url=urls["amqp_url"])
        status = await dead_letters.run(arguments, settings)
        captured = self._capsys.readouterr()
        return Ended(status=status, out=captured.out, err=captured.err)

    async def park(self, body: bytes = b"{}", command: CommandType = CREATE, **changes: Any) -> None:
        await self.channel.basic_publish(
            body,
            exchange=topology.DEAD_LETTERS.name,
            routing_key=topology.COMMAND_QUEUES[command].name,
            properties=changes.pop("exactly", None) or properties(**changes),
            mandatory=True,
        )

    async def send(self, **changes: Any) -> None:
        """To the create's command queue."""
        await self.channel.basic_publish(
            b"{}",
            exchange=topology.COMMANDS.name,
            routing_key=CREATE.value,
            properties=properties(**changes),
            mandatory=True,
        )

    async def parked(self, count: int = 1, command: CommandType = CREATE) -> list[DeliveredMessage]:
        """The letters of a queue, once there are as many; they are gone from it then."""
        return await self._taken(topology.DEAD_LETTER_QUEUES[command].name, count)

    async def sent(self, count: int = 1, command: CommandType = CREATE) -> list[DeliveredMessage]:
        """The same of a command queue."""
        return await self._taken(topology.COMMAND_QUEUES[command].name, count)

    async def waiting(self, queue: str) -> int:
        return int((await self.channel.queue_declare(queue, passive=True)).message_count)

    async def wait_for(self, count: int, queue: str) -> None:
        async with asyncio.timeout(20):
            while await self.waiting(queue) != count:  # noqa: ASYNC110 - a broker has no event for it
                await asyncio.sleep(0.05)

    async def journal(self) -> list[tuple[Any, ...]]:
        columns = "kind, actor, queue, message_id, reason"
        connection = await asyncpg.connect(self.database_url)
        rows = await connection.fetch(f"SELECT {columns} FROM operator_journal ORDER BY id")  # noqa: S608
        await connection.close()
        return [tuple(row) for row in rows]

    async def _taken(self, queue: str, count: int) -> list[DeliveredMessage]:
        await self.wait_for(count, queue)
        return [await self.channel.basic_get(queue, no_ack=True) for _ in range(count)]


@pytest.fixture(scope="session")
def declared_amqp_url(amqp_url: str) -> str:
    run(brokers.declare(amqp_url))
    return amqp_url


@pytest.fixture(scope="module")
def operators(new_migrated: Callable[[], Migrated]) -> Migrated:
    return new_migrated()


@pytest.fixture
async def desk(
    declared_amqp_url: str, role_url: RoleUrl, operators: Migrated, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[Desk]:
    """All queues empty, the operator's own user; the journal may hold what earlier tests did."""
    connection = await aiormq.connect(declared_amqp_url)
    channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
    for queue in (*topology.COMMAND_QUEUES.values(), *topology.DEAD_LETTER_QUEUES.values()):
        await channel.queue_purge(queue.name)
    operator = role_url("payment-operator")
    yield Desk(amqp_url=operator, database_url=operators.application, capsys=capsys, channel=channel)
    await connection.close()
