"""Everything that the service publishes: events, answers and copies of commands, each on a channel of its own.

RabbitMQ ends a channel for one bad publication (to an exchange that is missing, without the right), with everything on
it. So no use shares a channel with another, and no library restores one: the next publication opens a new one.
"""

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast
from uuid import uuid4

from aio_pika import Channel, DeliveryMode, IncomingMessage, Message
from aio_pika.abc import AbstractRobustConnection
from aio_pika.exceptions import DeliveryError
from aiormq.abc import AbstractChannel, AbstractConnection, ChannelFrame
from aiormq.channel import Channel as AmqpChannel
from aiormq.exceptions import ChannelAccessRefused, ChannelClosed, ChannelNotFoundEntity, ConnectionInternalError
from pamqp.commands import Basic

from contracts import envelope, events, topology
from runtime import amqp_compat, tracing
from runtime.aio import LogOnChange, cancel
from runtime.amqp_frames import Publication
from runtime.broker_check import words_of
from runtime.health import NotReadyError
from service.application.ports import (
    PUBLISH_SECONDS,
    BrokerFailedError,
    BrokerLostError,
    OutboxRow,
    UnpublishedError,
)
from service.application.single_flight import SingleFlight
from service.entrypoints import command_envelope
from service.entrypoints.broker import CHECK_SECONDS, UNREACHABLE

_log = logging.getLogger(__name__)

_DEFAULT_EXCHANGE: Final = ""

_MAX_EVENT_BYTES: Final = 16 * 2**20
"""RabbitMQ's default from 4.0 on, above which it closes the channel with everything on it.
It does not apply to copies of commands, which the broker has accepted before."""


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A command that is published anew, to a queue that must be there, with whatever headers its sender gave it."""

    exchange: str
    routing_key: str
    message: Message

    async def send(self, channel: AmqpChannel) -> object:
        """The broker's confirm, or what it says of a queue that is not there."""
        return await channel.basic_publish(
            self.message.body,
            exchange=self.exchange,
            routing_key=self.routing_key,
            properties=self.message.properties,
            mandatory=True,
            wait=False,  # or others would wait inside, and write when the channel has ended
        )


class PublishingChannel:
    """One use's channel. If it was closed, refused a message or kept silent, the next publication opens a new one."""

    def __init__(self, use: str, connection: AbstractRobustConnection, *, on_missing: Callable[[], None]) -> None:
        """`use`: what is published, for the log; `on_missing`: told when an exchange, queue or right seems to be."""
        self._use = use
        self._change = LogOnChange(_log)
        self._connection = connection
        self._on_missing = on_missing
        self._opening = SingleFlight[AmqpChannel]()
        self._channel: AmqpChannel | None = None
        self._confirmed_at = 0.0
        self._abandoned = set[asyncio.Task[None]]()

    async def publish(self, message: Publication | Copy) -> None:
        """Return when the broker has confirmed the message, or raise UnpublishedError in time."""
        try:
            await self._publish(message)
        except BrokerLostError as error:
            self._change.failed("%s cannot be published (%s); trying again", self._use, error)
            raise
        self._change.works("%s are published again", self._use)

    async def _publish(self, message: Publication | Copy) -> None:
        channel, began_at = None, time.monotonic()
        try:
            # The library's own timeout has no effect while the broker blocks publishers.
            async with asyncio.timeout(PUBLISH_SECONDS):
                channel = await self.open()
                confirmation = await (message.send(channel) if isinstance(message, Copy) else _send(channel, message))
                self._confirmed_at = time.monotonic()
        except BrokerLostError:
            raise
        except DeliveryError as error:  # also if a queue's leader has died, and then for ever on this channel
            self._abandon(channel)
            raise UnpublishedError("nacked") from error
        except (ChannelNotFoundEntity, ChannelAccessRefused) as error:
            self._on_missing()
            raise BrokerLostError(words_of(error)) from error
        except ChannelClosed as error:  # because of one of the messages on it, perhaps another one
            raise UnpublishedError(words_of(error)) from error
        except TimeoutError as error:
            if self._confirmed_at < began_at:  # otherwise it is busy and not silent
                self._abandon(channel)
            raise BrokerLostError(f"RabbitMQ confirms nothing within {PUBLISH_SECONDS:g} s") from error
        except UNREACHABLE as error:
            kind = BrokerFailedError if isinstance(error, ConnectionInternalError) else BrokerLostError
            raise kind(words_of(error)) from error
        except Exception as error:
            raise UnpublishedError(type(error).__name__) from error
        if not isinstance(confirmation, Basic.Ack):
            self._on_missing()
            raise BrokerLostError(f"no queue for {message.routing_key}")

    async def open(self) -> AmqpChannel:
        """The channel, as soon as the broker takes messages: what is sent in an alarm arrives when it is over."""
        transport = self._connection.transport
        if transport is None or transport.connection.is_closed:
            raise BrokerLostError("there is no connection to RabbitMQ")
        await transport.connection.ready()
        if self._channel is None or has_ended(self._channel):
            # Once for all who wait, and to its end: RabbitMQ ends the connection of whoever gives up opening a channel.
            return await self._opening.run("channel", functools.partial(self._opened, transport.connection))
        return self._channel

    async def _opened(self, connection: AbstractConnection) -> AmqpChannel:
        self._channel = cast("AmqpChannel", await connection.channel(on_return_raises=False))
        return self._channel

    async def close(self) -> None:
        """End what still waits to be closed."""
        await cancel(self._abandoned)

    def _abandon(self, channel: AmqpChannel | None) -> None:
        """Use it no more, and close it when nobody can be waiting on it any longer."""
        if channel is not None and channel is self._channel:
            self._channel = None
            task = asyncio.create_task(_close_later(channel), name="abandoned-channel")
            self._abandoned.add(task)
            task.add_done_callback(self._abandoned.discard)


async def _send(channel: AmqpChannel, publication: Publication) -> object:
    """The broker's confirm of a publication; aiormq's own way to it, without its encoder and layers."""
    async with channel.lock:  # the broker counts as we write
        tag, confirmation = channel.delivery_tag + 1, channel.create_future()
        channel.confirmations[tag] = confirmation
        payload = publication.encode(channel.number, channel.max_content_size)
        try:
            await channel.write_queue.put(ChannelFrame(payload=payload, should_close=False))
        except BaseException:
            del channel.confirmations[tag]
            confirmation.cancel()
            raise
        channel.delivery_tag = tag
    return await confirmation


def has_ended(channel: AbstractChannel) -> bool:
    """Whether RabbitMQ has closed the channel.

    aiormq agrees to that before it says so, and RabbitMQ ends the connection for what is written between.
    """
    ending: asyncio.Event = channel._Channel__close_event  # type: ignore[attr-defined]  # noqa: SLF001
    return channel.is_closed or ending.is_set()


async def _close_later(channel: AbstractChannel) -> None:
    await asyncio.sleep(PUBLISH_SECONDS)
    try:
        async with asyncio.timeout(PUBLISH_SECONDS):
            await channel.close()
    except UNREACHABLE:
        return  # it ends with the connection


class Publisher:
    """Publishes everything. Each call returns when the broker has confirmed, or raises UnpublishedError in time."""

    def __init__(
        self,
        connection: AbstractRobustConnection,
        *,
        now: Callable[[], datetime],
        user: str | None = None,
        on_missing: Callable[[], None] = lambda: None,
    ) -> None:
        """`now`: the clock by which deadlines are judged, and which the bridge learns from the dates of answers.

        `user`: our own user, which the broker checks on every message; None if it is not known.
        `on_missing`: told when an exchange or queue seems to be missing, or a right.
        """
        self._connection = connection
        self._now = now
        self._user = user
        self._probes = SingleFlight[None]()
        self._events = PublishingChannel("events", connection, on_missing=on_missing)
        self._answers = PublishingChannel("answers", connection, on_missing=on_missing)
        self._copies = PublishingChannel("retries and dead letters", connection, on_missing=on_missing)

    async def event(self, row: OutboxRow) -> None:
        """Publish an event. Its id is the message id, so subscribers recognise a second copy."""
        if len(row.body) > _MAX_EVENT_BYTES:
            raise UnpublishedError(f"over {_MAX_EVENT_BYTES} bytes")
        parent = row.headers.get(envelope.TRACE_PARENT)
        with tracing.span(
            f"send {row.routing_key}",
            "producer",
            {"messaging.message.id": row.event_id, "payment.payment_id": row.payment_id},
            parent=parent if envelope.is_trace_parent(parent) else None,
        ) as span:
            await self._event(row, span.carried(row.headers))

    async def _event(self, row: OutboxRow, headers: Mapping[str, Any]) -> None:
        publication = Publication(
            exchange=topology.EVENTS.name,
            routing_key=row.routing_key,
            mandatory=False,  # there may be no subscriber
            body=row.body,
            content_type=events.CONTENT_TYPE,
            message_type=events.EventKey(row.routing_key).event_type,
            headers=headers,
            persistent=True,
            sent_at=int(row.created_at.timestamp()),
            message_id=row.event_id,
            correlation_id=row.headers.get(envelope.REQUEST_ID, row.event_id),
            user_id=self._user,
        )
        await self._events.publish(publication)

    async def answer(
        self, body: bytes, *, reply_to: str, correlation_id: str | None, message_type: str, headers: dict[str, str]
    ) -> None:
        """Reply to a command, confirmed before its acknowledgement goes by another connection (docs/decisions/0002)."""
        publication = Publication(
            exchange=_DEFAULT_EXCHANGE,
            routing_key=reply_to,
            mandatory=False,
            body=body,
            content_type=envelope.CONTENT_TYPE,
            message_type=message_type,
            headers=headers,
            sent_at=int(self._now().timestamp()),
            message_id=uuid4().hex,
            correlation_id=correlation_id,
            user_id=self._user,
        )
        await self._answers.publish(publication)

    async def dead_letter(self, command: IncomingMessage, *, queue_name: str, headers: Mapping[str, Any]) -> None:
        """Dead-letter a command, with the reason in its headers."""
        await self._copy(command, exchange=topology.DEAD_LETTERS.name, routing_key=queue_name, headers=headers)

    async def retry(self, command: IncomingMessage, *, delay_queue: str, headers: Mapping[str, Any]) -> None:
        """Put a command into a delay queue, which returns it to its command queue, and keep its sender's deadline."""
        if (seconds := command_envelope.expiration_seconds(command)) is not None:
            headers = {envelope.EXPIRATION: round(seconds * 1000), **headers}
        await self._copy(command, exchange=_DEFAULT_EXCHANGE, routing_key=delay_queue, headers=headers)

    async def check(self) -> None:
        """Raise NotReadyError unless every channel that is published on is open, and the broker answers."""
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                for each in (self._events, self._answers, self._copies):
                    await each.open()
                await self._probes.run("probe", self._probe)
        except TimeoutError as error:
            raise NotReadyError("RabbitMQ takes no messages, as in a memory or disk alarm") from error
        except (UnpublishedError, *UNREACHABLE) as error:
            raise NotReadyError(words_of(error)) from error

    async def _probe(self) -> None:
        """Asked on a channel of its own, and to the end: to give up waiting for an answer closes a channel."""
        async with Channel(self._connection, publisher_confirms=False):
            pass

    async def close(self) -> None:
        """End what still waits; the connection is the caller's."""
        for each in (self._events, self._answers, self._copies):
            await each.close()

    async def _copy(
        self, command: IncomingMessage, *, exchange: str, routing_key: str, headers: Mapping[str, Any]
    ) -> None:
        """Publish a command anew: with its own body and identity, and with what no broker acts on.

        Not its `expiration`, which would end a dead letter, nor its `priority`.
        """
        message = Message(
            command.body,
            delivery_mode=DeliveryMode.PERSISTENT,
            message_id=command.message_id,
            correlation_id=command.correlation_id,
            content_type=command.content_type,
            content_encoding=command.content_encoding,
            type=command.type,
            timestamp=command.timestamp or self._now(),
            reply_to=command.reply_to,
            headers={**self._with_sender(amqp_compat.carried(command.headers), command), **headers},
            user_id=self._user,
        )
        await self._copies.publish(Copy(exchange=exchange, routing_key=routing_key, message=message))

    def _with_sender(self, headers: dict[str, Any], command: IncomingMessage) -> dict[str, Any]:
        """Headers with the command's sender: the copy has our `user_id`. A copy of a copy has the header already."""
        if command.user_id is not None and command.user_id == self._user:
            return headers
        others = {name: value for name, value in headers.items() if name != envelope.SENDER}
        return others if command.user_id is None else {**others, envelope.SENDER: command.user_id}
