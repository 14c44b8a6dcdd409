"""RabbitMQ through FastStream: the two connections, the topology, and everything that the service publishes."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from aio_pika import IncomingMessage, connect
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, ChannelPreconditionFailed, DeliveryError
from aiormq.exceptions import ChannelAccessRefused
from faststream import BaseMiddleware
from faststream.rabbit import Channel, ExchangeType, QueueType, RabbitBroker, RabbitExchange, RabbitQueue
from pamqp.commands import Basic
from yarl import URL

from contracts import envelope, events, topology
from service.application.ports import OutboxRow
from service.entrypoints import wire

GRACE_SECONDS: Final = 15.0
"""How long handlers may finish after SIGTERM: above the gateway's timeout, below an orchestrator's usual 30 s."""
PUBLISH_SECONDS: Final = 5.0
_CONNECT_SECONDS: Final = 5.0
_HEARTBEAT_SECONDS: Final = 5
_CHECK_SECONDS: Final = 2.0

UNREACHABLE: Final = CONNECTION_EXCEPTIONS
"""What a connection raises when the broker is not there, or has gone: AMQPError, OSError with TimeoutError, others."""

DEFAULT_EXCHANGE: Final = RabbitExchange("")

_MAX_EVENT_BYTES: Final = 16 * 2**20
"""RabbitMQ's own default from 4.0 on. Over its bound it ends the channel, with all that is on its way there.
Copies of commands are not held to it: as large as they are, the broker took them."""


class TopologyRefusedError(Exception):
    """The broker will not have an exchange, queue or binding that is needed; the text is the broker's."""


class UnpublishedError(Exception):
    """The broker did not confirm that it keeps the message."""


class BrokerLostError(UnpublishedError):
    """The broker could not be reached, or did not answer in time. That says nothing about the message."""


def connect_url(url: str) -> str:
    """The URL with a short heartbeat (RabbitMQ's own notices a dead peer after minutes), unless it names one."""
    parsed = URL(url)
    return str(parsed if "heartbeat" in parsed.query else parsed.update_query(heartbeat=_HEARTBEAT_SECONDS))


def rabbit_broker(url: str, *, middlewares: tuple[type[BaseMiddleware] | Any, ...] = ()) -> RabbitBroker:
    """A connection. Consuming and publishing have one each: a broker alarm stops reading from whoever publishes."""
    wire.survive_unreadable_properties()
    return RabbitBroker(
        connect_url(url),
        timeout=_CONNECT_SECONDS,
        reconnect_interval=1.0,
        graceful_timeout=GRACE_SECONDS,
        default_channel=Channel(publisher_confirms=True),
        middlewares=middlewares,
        apply_types=False,  # its injection takes a thread for each message, and builds what is built already
        logger=None,
    )


def exchange(data: topology.Exchange) -> RabbitExchange:
    """FastStream's word for an exchange of ours."""
    return RabbitExchange(data.name, type=ExchangeType(data.type), durable=True)


def queue(data: topology.Queue) -> RabbitQueue:
    """FastStream's word for a queue of ours."""
    arguments: Any = {name: value for name, value in data.arguments.items() if name != "x-queue-type"}
    return RabbitQueue(
        data.name, queue_type=QueueType.QUORUM, durable=True, routing_key=data.routing_key, arguments=arguments
    )


async def declare(url: str) -> None:
    """Declare every exchange, queue and binding of the topology. Repeating it changes nothing.

    On a connection that is gone afterwards, whatever happened: FastStream's would go on reconnecting for ever.

    Raises:
        TopologyRefusedError: somebody made a queue with other arguments, or we may not declare it.
        UNREACHABLE: the broker is not there, or ended meanwhile.
    """
    async with await connect(connect_url(url), timeout=_CONNECT_SECONDS) as connection:
        channel = await connection.channel()
        try:
            for data in topology.EXCHANGES:
                await channel.declare_exchange(data.name, data.type, durable=True)
            for queue_data in topology.QUEUES:
                declared = await channel.declare_queue(
                    queue_data.name, durable=True, arguments={**queue_data.arguments}
                )
                if queue_data.exchange is not None:
                    await declared.bind(queue_data.exchange.name, routing_key=queue_data.routing_key)
        except (ChannelAccessRefused, ChannelPreconditionFailed) as error:
            raise TopologyRefusedError(str(error)) from error


async def consuming(broker: RabbitBroker) -> bool:
    """Whether every command queue has a consumer, as RabbitMQ sees it: after a node was lost they may stay missing."""
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            connection = await broker.connect()
            # A channel of its own: asking for a queue that is gone closes it.
            async with connection.channel() as channel:
                for data in topology.COMMAND_QUEUES.values():
                    found = await channel.declare_queue(data.name, passive=True)
                    if not found.declaration_result.consumer_count:
                        return False
    except UNREACHABLE:
        return False
    return True


async def publishing(broker: RabbitBroker) -> bool:
    """Whether RabbitMQ answers on the connection: in an alarm it reads nothing from who has published."""
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            connection = await broker.connect()
            async with connection.channel():
                return True
    except UNREACHABLE:
        return False


class Publisher:
    """Everything that the service says. Each call returns when the broker has confirmed, or raises in time."""

    def __init__(self, broker: RabbitBroker, *, user: str | None = None) -> None:
        """`user`: whom the broker knows us as, which it checks on every message; None if we do not know."""
        self._broker = broker
        self._user = user
        self._events = exchange(topology.EVENTS)
        self._dead_letters = exchange(topology.DEAD_LETTERS)

    async def event(self, row: OutboxRow) -> None:
        """Publish an event. Its id is the message's, so a second copy is recognised."""
        if len(row.body) > _MAX_EVENT_BYTES:
            raise UnpublishedError(f"over {_MAX_EVENT_BYTES} bytes")
        await self._publish(
            row.body,
            exchange=self._events,
            routing_key=row.routing_key,
            persist=True,
            mandatory=False,  # nobody has to subscribe
            message_id=row.event_id,
            correlation_id=row.headers.get(envelope.REQUEST_ID),
            content_type=events.CONTENT_TYPE,
            message_type=events.EventKey(row.routing_key).event_type,
            timestamp=row.created_at,
            headers=dict(row.headers),
        )

    async def answer(
        self, command: IncomingMessage, body: bytes, *, message_type: str, headers: dict[str, str]
    ) -> None:
        """Reply to a command. Its sender may have left by now, and then the reply is dropped."""
        await self._publish(
            body,
            exchange=DEFAULT_EXCHANGE,
            routing_key=command.reply_to or "",
            mandatory=False,
            correlation_id=command.correlation_id,
            content_type=envelope.CONTENT_TYPE,
            message_type=message_type,
            timestamp=datetime.now(UTC),
            headers=headers,
        )

    async def dead_letter(self, command: IncomingMessage, *, queue_name: str, headers: Mapping[str, Any]) -> None:
        """Park a command as it came, with the reason in its headers."""
        await self._copy(command, exchange=self._dead_letters, routing_key=queue_name, headers=headers)

    async def again(self, command: IncomingMessage, *, delay_queue: str, headers: Mapping[str, Any]) -> None:
        """Put a command into a delay queue, from which it comes back by itself."""
        await self._copy(command, exchange=DEFAULT_EXCHANGE, routing_key=delay_queue, headers=headers)

    async def _copy(
        self, command: IncomingMessage, *, exchange: RabbitExchange, routing_key: str, headers: Mapping[str, Any]
    ) -> None:
        await self._publish(
            command.body,
            exchange=exchange,
            routing_key=routing_key,
            persist=True,
            mandatory=True,
            message_id=command.message_id,
            correlation_id=command.correlation_id,
            content_type=command.content_type,
            content_encoding=command.content_encoding,
            message_type=command.type,
            timestamp=command.timestamp,
            reply_to=command.reply_to,
            headers={**self._with_sender(wire.carried(command.headers), command), **headers},
        )

    def _with_sender(self, headers: dict[str, Any], command: IncomingMessage) -> dict[str, Any]:
        """Headers that say who sent a command, whose copy must carry our `user_id`. A copy of ours has it already."""
        if command.user_id is not None and command.user_id == self._user:
            return headers
        others = {name: value for name, value in headers.items() if name != envelope.SENDER}
        return others if command.user_id is None else {**others, envelope.SENDER: command.user_id}

    async def _publish(self, body: bytes, **options: Any) -> None:
        try:
            # FastStream's own timeout is not effective while the broker blocks publishers.
            async with asyncio.timeout(PUBLISH_SECONDS):
                confirmation = await self._broker.publish(body, user_id=self._user, **options)
        except DeliveryError as error:
            raise UnpublishedError("nacked") from error
        except UNREACHABLE as error:
            raise BrokerLostError(type(error).__name__) from error
        except Exception as error:
            raise UnpublishedError(type(error).__name__) from error
        if not isinstance(confirmation, Basic.Ack):
            raise UnpublishedError("returned as unroutable")
