"""RabbitMQ: the two connections, and the exchanges, queues and bindings that must be there."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from aio_pika import Channel, RobustConnection, connect, connect_robust
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, ChannelPreconditionFailed
from aiormq.abc import AbstractChannel
from aiormq.exceptions import ChannelAccessRefused, ChannelClosed
from faststream import BaseMiddleware
from faststream.rabbit import ExchangeType, QueueType, RabbitBroker, RabbitExchange, RabbitQueue
from yarl import URL

from contracts import topology
from runtime import amqp_compat, amqp_receiver
from runtime.amqp_nodes import HEARTBEAT_SECONDS, connect_to_any, leave_silent_nodes, node_urls
from runtime.broker_check import words_of
from runtime.health import NotReadyError
from service.application.ports import PUBLISH_SECONDS
from service.entrypoints.cluster_connection import connection_class
from service.entrypoints.connection_log import ConnectionLog

GRACE_SECONDS: Final = 15.0
"""How long handlers may take after SIGTERM: more than the gateway's timeout, less than an orchestrator's usual 30 s."""
_CONNECT_SECONDS: Final = 5.0
CHECK_SECONDS: Final = 2.0
"""How long the health page waits for RabbitMQ."""

_log = logging.getLogger(__name__)

UNREACHABLE: Final = CONNECTION_EXCEPTIONS
"""What a connection raises when the broker is down or was lost: AMQPError, OSError with TimeoutError, others."""


class TopologyRefusedError(Exception):
    """The broker refuses an exchange, queue or binding; the text is the broker's."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """An exchange, a queue or a binding: to declare it changes nothing if it is there.

    `look` is refused if it is missing; RabbitMQ has no such question about a binding.
    """

    name: str
    declare: Callable[[AbstractChannel], Awaitable[Any]]
    look: Callable[[AbstractChannel], Awaitable[Any]] | None = None


def parts() -> Iterator[Part]:
    """The whole topology, in an order in which each part needs only those before it."""
    for data in topology.EXCHANGES:
        yield _exchange_part(data)
    for each in topology.QUEUES:
        yield _queue_part(each)
        if each.exchange is not None:
            yield _binding_part(each, each.exchange)


def _exchange_part(data: topology.Exchange) -> Part:
    return Part(
        name=f"exchange {data.name}",
        declare=lambda channel: channel.exchange_declare(data.name, exchange_type=data.type, durable=True),
        look=lambda channel: channel.exchange_declare(data.name, passive=True),
    )


def _queue_part(data: topology.Queue) -> Part:
    arguments: Any = {**data.arguments}
    return Part(
        name=f"queue {data.name}",
        declare=lambda channel: channel.queue_declare(data.name, durable=True, arguments=arguments),
        look=lambda channel: channel.queue_declare(data.name, passive=True),
    )


def _binding_part(data: topology.Queue, source: topology.Exchange) -> Part:
    return Part(
        name=f"binding of {data.name} to {source.name}",
        declare=lambda channel: channel.queue_bind(data.name, source.name, routing_key=data.routing_key),
    )


def connect_url(url: str) -> str:
    """A node's URL with a short heartbeat (by default a dead peer is noticed after minutes), unless it names one."""
    parsed = URL(url)
    return str(parsed if "heartbeat" in parsed.query else parsed.update_query(heartbeat=HEARTBEAT_SECONDS))


class CommandBroker(RabbitBroker):
    """FastStream's, which may be started until that succeeds, and then once more by the application that it is of.

    FastStream itself would consume twice; and after a start that failed it keeps a connection that comes back for ever,
    and channels without their prefetch. Consuming and publishing have a connection each: in an alarm the broker blocks
    connections that publish.
    """

    def __init__(self, url: str, *, middlewares: tuple[type[BaseMiddleware] | Any, ...] = ()) -> None:
        super().__init__(
            node_urls(url)[0],
            graceful_timeout=GRACE_SECONDS,
            middlewares=middlewares,
            apply_types=False,  # its injection costs a thread per message and is not needed
            logger=None,
        )
        self._url: Final = url

    async def start(self) -> None:
        """Consume, unless it does already.

        Raises:
            UNREACHABLE: the broker is down or was lost.
        """
        if self.running:
            return
        try:
            await super().start()
        except BaseException:
            if self._connection is not None:
                # Before the rest: on a lost connection no consumer can be cancelled.
                await disconnect(self._connection.close)
                await disconnect(self.stop)
            raise

    async def _connect(self) -> RobustConnection:
        connection = await connected(self._url, use="commands")
        try:
            self.config.connect(connection)
            self._channel = await self.config.channel_manager.get_channel()
        except BaseException:
            self.config.disconnect()
            await disconnect(connection.close)
            raise
        return connection


def exchange(data: topology.Exchange) -> RabbitExchange:
    """An exchange of the topology for FastStream."""
    return RabbitExchange(data.name, type=ExchangeType(data.type), durable=True)


def queue(data: topology.Queue) -> RabbitQueue:
    """A queue of the topology for FastStream."""
    arguments: Any = {name: value for name, value in data.arguments.items() if name != "x-queue-type"}
    return RabbitQueue(
        data.name, queue_type=QueueType.QUORUM, durable=True, routing_key=data.routing_key, arguments=arguments
    )


async def declare(url: str) -> None:
    """Declare every exchange, queue and binding of the topology. Repeating it changes nothing.

    It uses a connection of its own, which is closed whatever happens: FastStream's would reconnect for ever.

    Raises:
        TopologyRefusedError: a queue exists with other arguments, or we may not declare it.
        UNREACHABLE: the broker is down or was lost.
    """
    async with await connect_to_any(
        url, lambda node: connect(connect_url(node), timeout=_CONNECT_SECONDS)
    ) as connection:
        channel = await connection.channel(publisher_confirms=False)
        underlying = await channel.get_underlay_channel()
        try:
            for part in parts():
                await part.declare(underlying)
        except (ChannelAccessRefused, ChannelPreconditionFailed) as error:
            raise TopologyRefusedError(str(error)) from error


async def connected(url: str, *, use: str = "events and answers") -> RobustConnection:
    """A connection that comes back by itself; what aiormq opens on it does not. `use`: what it is for, in the log.

    Raises:
        UNREACHABLE: the broker is down or was lost.
    """
    amqp_compat.survive_unreadable_properties()
    amqp_receiver.receive_at_once()
    leave_silent_nodes()
    of_any_node: Any = connection_class(url)
    connection: RobustConnection = await connect_robust(
        connect_url(node_urls(url)[0]),
        timeout=_CONNECT_SECONDS,
        reconnect_interval=1.0,
        connection_class=of_any_node,
    )
    log = ConnectionLog(use)
    connection.close_callbacks.add(log.on_close)
    connection.reconnect_callbacks.add(log.on_reconnected)
    return connection


async def disconnect(close: Callable[[], Awaitable[Any]]) -> None:
    """Close a connection, even if RabbitMQ does not answer, when the library leaves it half closed."""
    for _ in range(2):
        try:
            async with asyncio.timeout(PUBLISH_SECONDS):
                await close()
        except UNREACHABLE as error:
            _log.warning("the connection to RabbitMQ was not closed cleanly (%s)", type(error).__name__)
        else:
            return


async def check_consumers(broker: RabbitBroker) -> None:
    """Raise NotReadyError unless this process consumes every command queue, and RabbitMQ sees it so; or UNREACHABLE.

    After the loss of a node consumers may stay missing. It is not to be cancelled: RabbitMQ ends the connection of
    whoever gives up opening a channel.
    """
    connection = await broker.connect()
    for name, consumer in await _consumer_channels(broker):
        if consumer.is_closed or not (await consumer.get_underlay_channel()).consumers:
            raise NotReadyError(f"queue {name} is not consumed")
        # A channel for each: a passive declare of a missing queue closes it.
        async with Channel(connection, publisher_confirms=False) as channel:
            try:
                found = await channel.declare_queue(name, passive=True)
            except ChannelClosed as error:
                raise NotReadyError(words_of(error)) from error
            if not found.declaration_result.consumer_count:
                raise NotReadyError(f"queue {name} has no consumer")


async def restore_consumers(broker: RabbitBroker) -> None:
    """Open the consumers' channels that were closed and could not be opened again at once."""
    for _, channel in await _consumer_channels(broker):
        await channel.restore()


async def _consumer_channels(broker: RabbitBroker) -> list[tuple[str, Any]]:
    """The channel of each command queue."""
    subscribers: Any = broker.subscribers
    return [(each.queue.name, await broker.config.channel_manager.get_channel(each.channel)) for each in subscribers]
