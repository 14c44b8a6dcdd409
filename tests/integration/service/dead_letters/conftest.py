from collections.abc import AsyncIterator
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
from runtime.process_settings import BrokerSettings
from service.cli import dead_letters
from service.cli.parser import parser
from service.entrypoints import broker as brokers
from service.settings import OperatorSettings
from tests.kit.brokers import RoleUrl
from tests.kit.databases import Migrated
from tests.kit.lifetimes import closing
from tests.kit.servers import run
from tests.kit.until import until

CREATE, VERIFY, STATUS = CommandType.CREATE_CHECKOUT, CommandType.VERIFY_CHECKOUT, CommandType.PAYMENT_STATUS


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str


def properties(**changes: Any) -> Basic.Properties:
    """Of a create that failed for the last time an hour ago, unless changed."""
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


async def dead_letters_command(*words: str, amqp_url: str, database_url: str) -> int:
    """`payment-service dead-letters <words>`; its exit status."""
    arguments = parser().parse_args(["dead-letters", *words])
    if dead_letters.needs(arguments) is OperatorSettings:
        return await dead_letters.run(arguments, OperatorSettings(amqp_url=amqp_url, database_url=database_url))
    return await dead_letters.run(arguments, BrokerSettings(amqp_url=amqp_url))


class Desk:
    """An operator's desk: the commands, and a plain AMQP client and a database connection beside them."""

    def __init__(self, *, amqp_url: str, database_url: str, capsys: pytest.CaptureFixture[str], channel: Any) -> None:
        self.amqp_url, self.database_url = amqp_url, database_url
        self.channel = channel
        self._capsys = capsys

    async def says(self, *words: str, amqp_url: str = "", database_url: str = "") -> Ended:
        urls = {"amqp_url": amqp_url or self.amqp_url, "database_url": database_url or self.database_url}
        status = await dead_letters_command(*words, **urls)
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

    async def peeked(self) -> DeliveredMessage:
        """The one letter of the create's queue, which stays there."""
        queue = topology.DEAD_LETTER_QUEUES[CREATE].name
        letter = await self.channel.basic_get(queue)
        await self.channel.basic_reject(letter.delivery.delivery_tag, requeue=True)
        await self.wait_for(1, queue)
        return letter

    async def sent(self, count: int = 1, command: CommandType = CREATE) -> list[DeliveredMessage]:
        """The same of a command queue."""
        return await self._taken(topology.COMMAND_QUEUES[command].name, count)

    async def waiting(self, queue: str) -> int:
        return int((await self.channel.queue_declare(queue, passive=True)).message_count)

    async def wait_for(self, count: int, queue: str) -> None:
        async def found() -> bool:
            return await self.waiting(queue) == count

        await until(found, every=0.05)

    async def journal(self) -> list[tuple[Any, ...]]:
        query = "SELECT kind, actor, queue, message_id, reason FROM operator_journal ORDER BY id"
        async with closing(await asyncpg.connect(self.database_url)) as connection:
            return [tuple(row) for row in await connection.fetch(query)]

    async def _taken(self, queue: str, count: int) -> list[DeliveredMessage]:
        await self.wait_for(count, queue)
        return [await self.channel.basic_get(queue, no_ack=True) for _ in range(count)]


@pytest.fixture(scope="session")
def declared_amqp_url(amqp_url: str) -> str:
    run(brokers.declare(amqp_url))
    return amqp_url


@pytest.fixture
async def desk(
    declared_amqp_url: str, role_url: RoleUrl, migrated: Migrated, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[Desk]:
    """All queues empty, the operator's own user; the journal may hold what earlier tests did."""
    connection = await aiormq.connect(declared_amqp_url)
    channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
    for queue in (*topology.COMMAND_QUEUES.values(), *topology.DEAD_LETTER_QUEUES.values()):
        await channel.queue_purge(queue.name)
    operator = role_url("payment-operator")
    yield Desk(amqp_url=operator, database_url=migrated.application, capsys=capsys, channel=channel)
    await connection.close()
