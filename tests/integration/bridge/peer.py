"""The other end, for real: a service that answers over RabbitMQ as `contracts` say."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

import aiormq
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from contracts import envelope, topology
from contracts.commands import CommandType
from service.entrypoints import broker as brokers


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


class Gate:
    """A handler that answers once it is open."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()

    async def __call__(self, command: Command) -> Answer | None:
        await self.opened.wait()
        return reply(command)


class Peer:
    """Consumes the three command queues. `handler` answers; None leaves the caller without an answer."""

    def __init__(self, amqp_url: str) -> None:
        self._url = amqp_url
        self._tags: list[str] = []
        self.handler: Handler = replies_at_once
        self.commands: list[Command] = []
        self.is_dated = False
        """Whether its answers tell its clock, as a service's do."""

    async def __aenter__(self) -> Self:
        self._connection = await aiormq.connect(self._url)
        self.channel: Any = await self._connection.channel(publisher_confirms=False)
        await brokers.declare(self._url)
        for queue in topology.COMMAND_QUEUES.values():
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
            timestamp=datetime.now(UTC) if self.is_dated else None,
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
