"""The other ends, for real: a service that answers over RabbitMQ as `contracts` say, and a network that can fail."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

import aiormq
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from contracts import envelope, topology
from contracts.commands import CommandType


@dataclass(frozen=True, kw_only=True)
class Command:
    """What arrived."""

    type: str
    body: bytes
    properties: Basic.Properties

    @property
    def headers(self) -> dict[str, Any]:
        return dict(self.properties.headers or {})

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is sent back."""

    body: bytes
    type: str
    headers: dict[str, Any] = field(default_factory=dict)


def reply(command: Command, source: str | None = None, **members: Any) -> Answer:
    """A good reply to a command, with some members replaced."""
    if command.type == CommandType.CREATE_CHECKOUT:
        document = {
            "sessionId": "cs_test_a1",
            "paymentUrl": "https://checkout.stripe.com/c/pay/cs_test_a1",
            "bookingId": command.document["bookingId"],
            "amount": 540.9,
            "status": "pending",
            "message": "Checkout session created.",
            "expiresAt": 1767225600,
        }
    else:
        document = {
            "paymentId": 1001,
            "bookingId": 4711,
            "paymentStatus": "COMPLETED",
            "transactionId": next(iter(command.document.values())),
            "amount": 540.9,
            "message": "The payment is complete.",
        }
    headers = {envelope.STATUS_SOURCE: source} if source else {}
    content = json.dumps(document | members).encode()
    return Answer(body=content, type=envelope.reply_type(command.type), headers=headers)


def fault(code: str, **members: Any) -> Answer:
    """A typed fault."""
    document = {"code": code, "message": "It did not work.", "retryable": False} | members
    return Answer(body=json.dumps(document).encode(), type=envelope.FAULT_TYPE)


Handler = Callable[[Command], Awaitable[Answer | None]]


async def replies_at_once(command: Command) -> Answer | None:
    return reply(command)


class Peer:
    """Consumes the three command queues. `handler` answers; None leaves the caller without an answer."""

    def __init__(self, amqp_url: str) -> None:
        self._url = amqp_url
        self._tags: list[str] = []
        self.handler: Handler = replies_at_once
        self.commands: list[Command] = []

    async def __aenter__(self) -> Self:
        self._connection = await aiormq.connect(self._url)
        self.channel: Any = await self._connection.channel(publisher_confirms=False)
        for exchange in topology.EXCHANGES:
            await self.channel.exchange_declare(exchange.name, exchange_type=exchange.type, durable=True)
        for queue in topology.COMMAND_QUEUES.values():
            await self.channel.queue_declare(queue.name, durable=True, arguments={**queue.arguments})
            await self.bind(CommandType(queue.routing_key))
            await self.channel.queue_purge(queue.name)
            consumer = await self.channel.basic_consume(queue.name, self._on_command)
            self._tags.append(consumer.consumer_tag or "")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()

    async def bind(self, command: CommandType) -> None:
        await self.channel.queue_bind(topology.COMMAND_QUEUES[command].name, topology.COMMANDS.name, command)

    async def unbind(self, command: CommandType) -> None:
        await self.channel.queue_unbind(topology.COMMAND_QUEUES[command].name, topology.COMMANDS.name, command)

    async def fall_silent(self) -> None:
        """The service goes; its queues stay."""
        for tag in self._tags:
            await self.channel.basic_cancel(tag)
        self._tags.clear()

    async def send(self, command: Command, answer: Answer, correlation_id: str | None = None) -> None:
        properties = aiormq.spec.Basic.Properties(
            content_type=envelope.CONTENT_TYPE,
            correlation_id=correlation_id or command.properties.correlation_id,
            message_type=answer.type,
            headers=answer.headers,
        )
        await self.channel.basic_publish(
            answer.body, routing_key=command.properties.reply_to or "", properties=properties, wait=False
        )

    async def _on_command(self, message: DeliveredMessage) -> None:
        properties = message.header.properties
        command = Command(type=properties.message_type or "", body=message.body, properties=properties)
        self.commands.append(command)
        await self.channel.basic_ack(message.delivery_tag)
        answer = await self.handler(command)
        if answer is not None:
            await self.send(command, answer)


class Network:
    """A TCP way to the broker that can be cut, closed and turned into a black hole."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.is_open = True
        self.swallows = False
        self.port = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.is_open:
            writer.close()
            return
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        self._writers |= {writer, far_writer}
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._pump(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                if not self.swallows:
                    sink.write(data)
        except OSError:
            pass
        finally:
            sink.close()

    def cut(self) -> None:
        """Every connection breaks; new ones are refused until `mend`."""
        self.is_open = False
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def mend(self) -> None:
        self.is_open = True
        self.swallows = False

    async def close(self) -> None:
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def network_to(amqp_url: str) -> AsyncIterator[tuple[Network, str]]:
    """The network and the broker's URL behind it."""
    url = urlsplit(amqp_url)
    network = Network(url.hostname or "", url.port or 5672)
    server = await asyncio.start_server(network.accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    credentials = url.netloc.rpartition("@")[0]
    try:
        yield network, url._replace(netloc=f"{credentials}@127.0.0.1:{port}").geturl()
    finally:
        server.close()
        await network.close()
