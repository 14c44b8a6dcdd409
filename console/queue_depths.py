"""How many commands wait in each queue, and who takes them: by passive declarations, which change nothing."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiormq
from aiormq.exceptions import AMQPError, ChannelNotFoundEntity

from contracts import topology
from contracts.topology import Queue
from runtime import amqp_nodes

STEP_SECONDS: Final = 3.0
CONNECT_SECONDS: Final = 1.0
"""The time for each node that AMQP_URL names; `STEP_SECONDS` bounds all of them together."""


@dataclass(frozen=True, kw_only=True)
class Depth:
    """A queue. `ready` is None if it does not exist."""

    name: str
    ready: int | None
    consumers: int


@dataclass(frozen=True, kw_only=True)
class Depths:
    """The queues of commands, with what waits to be tried again, and the dead letters."""

    commands: Sequence[Depth]
    retries: int
    dead_letters: Sequence[Depth]


class QueueDepths:
    """Keeps one connection, and makes a new one when it is lost."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Any = None
        self._lock = asyncio.Lock()

    async def read(self) -> Depths | None:
        """None if RabbitMQ does not answer."""
        async with self._lock:
            try:
                async with asyncio.timeout(STEP_SECONDS):
                    return await self._read()
            except (AMQPError, OSError, TimeoutError, RuntimeError):
                await self.close()
                return None

    async def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            async with asyncio.timeout(STEP_SECONDS):
                await connection.close()

    async def _read(self) -> Depths:
        if self._connection is None or self._connection.is_closed:
            self._connection = await amqp_nodes.connect_to_any(self._url, _connect)
        commands = [await self._depth(queue) for queue in topology.COMMAND_QUEUES.values()]
        retries = [await self._depth(queue) for queues in topology.DELAY_QUEUES.values() for queue in queues]
        letters = [await self._depth(queue) for queue in topology.DEAD_LETTER_QUEUES.values()]
        return Depths(commands=commands, retries=sum(each.ready or 0 for each in retries), dead_letters=letters)

    async def _depth(self, queue: Queue) -> Depth:
        channel = await self._connection.channel()  # which a queue that is not there closes
        try:
            declared = await channel.queue_declare(queue.name, passive=True)
        except ChannelNotFoundEntity:
            return Depth(name=queue.name, ready=None, consumers=0)
        await channel.close()
        return Depth(name=queue.name, ready=declared.message_count, consumers=declared.consumer_count)


async def _connect(node: str) -> Any:
    async with asyncio.timeout(CONNECT_SECONDS):
        return await aiormq.connect(node)
