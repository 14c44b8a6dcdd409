"""The RPC client: many request-reply calls at once over one connection to RabbitMQ.

Replies come by *direct reply-to*: RabbitMQ hands them straight to the channel that published the command, without a
queue. When that channel ends, its pending calls fail at once; `broker_connection` opens a new one.
"""

import asyncio
import contextlib
import itertools
import logging
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Self
from uuid import uuid4

from aiormq.abc import ChannelFrame, DeliveredMessage
from aiormq.channel import Channel
from aiormq.exceptions import PublishError

from bridge import errors
from bridge.broker_connection import BrokerConnection
from bridge.errors import BridgeError, CallerGoneError
from bridge.pending_calls import CallResult, LongPoll, PendingCall, RpcObserver
from bridge.service_clock import ServiceClock
from contracts import body, envelope, topology
from contracts.commands import CommandType
from contracts.faults import read_fault
from runtime import connection_urls, tracing
from runtime.amqp_frames import Publication

_log = logging.getLogger(__name__)

COMMAND_SHARE: Final = 0.8
"""The share of `max_in_flight` that one command may take: while creates queue, there is room for status calls."""
LONG_POLL_GRACE_SECONDS: Final = 5.0
"""How long after its time a deferred reply is still awaited. Then the service that deferred it has died."""
_RESULTS: Final[Mapping[errors.Refusal, CallResult]] = {
    errors.NO_SERVICE: CallResult.UNROUTABLE,
    errors.DEADLINE_EXCEEDED: CallResult.EXPIRED,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """A reply's body as it came, and its headers."""

    body: bytes
    headers: Mapping[str, object]


@dataclass(kw_only=True)
class RpcClient:
    """Sends commands and waits for their replies; an async context manager that connects and reconnects by itself.

    The nodes of `amqp_url` are tried in turn. `timeout_seconds` bounds a call as a whole, from publishing to the reply;
    `max_in_flight` bounds the number of pending calls. Long polls have their own time and bound, `max_long_polls`.
    """

    amqp_url: str = field(repr=False)  # holds a password
    timeout_seconds: float
    max_in_flight: int
    max_long_polls: int
    observer: RpcObserver
    clock: ServiceClock = field(default_factory=ServiceClock)
    long_polls: int = field(default=0, init=False)
    """The number of calls whose reply the service may defer."""
    _user_id: str | None = field(init=False)
    _calls: dict[str, PendingCall] = field(default_factory=dict, init=False)
    _of_command: Counter[CommandType] = field(default_factory=Counter, init=False)
    _tags: Iterator[int] = field(default_factory=lambda: itertools.count(1), init=False, repr=False)
    _is_stopping: bool = field(default=False, init=False)
    _heard_at: float = field(default=0.0, init=False)
    _connection: BrokerConnection = field(init=False)
    _task: asyncio.Task[None] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._user_id = connection_urls.amqp_user(self.amqp_url)
        self._connection = BrokerConnection(
            amqp_url=self.amqp_url,
            on_reply=self._on_reply,
            on_lost=self._fail,
            is_waiting=self._is_waiting,
            is_unheard=self._is_unheard,
        )

    async def __aenter__(self) -> Self:
        """Start connecting; returns at once, whether or not there is a broker."""
        self._task = asyncio.create_task(self._connection.run(), name="rpc-connection")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connection; pending calls fail with `UNAVAILABLE`."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    @property
    def ready(self) -> bool:
        """Whether the client is connected, can receive replies, and the broker has the exchange and takes messages."""
        channel = self._connection.channel
        return channel is not None and not channel.is_closed

    @property
    def distrust(self) -> str | None:
        """Why no certificate at the broker's addresses is trusted; None while there is no such problem."""
        return self._connection.distrust

    @property
    def in_flight(self) -> int:
        """The number of pending calls, long polls excepted."""
        return len(self._calls) - self.long_polls

    @property
    def can_long_poll(self) -> bool:
        """Whether there is room for one more long poll."""
        return self.long_polls < self.max_long_polls and not self._is_stopping

    def end_long_polls(self) -> None:
        """Fail every long poll now, with `DEADLINE_EXCEEDED`, and allow no new ones."""
        self._is_stopping = True
        for call in self._calls.values():
            if call.is_long_poll:
                call.fail(BridgeError(errors.DEADLINE_EXCEEDED))

    async def call(
        self, command: CommandType, content: bytes, headers: Mapping[str, str], *, long_poll: LongPoll | None = None
    ) -> Reply:
        """Send a command and wait for its reply.

        Raises:
            CallerGoneError: the caller of a long poll hung up; the command may have been executed.
            BridgeError: BUSY, as `max_in_flight` calls are pending, or the share (`COMMAND_SHARE`) of this command;
                UNAVAILABLE or DEADLINE_EXCEEDED, and the command may have been executed; NO_SERVICE, and it was not;
                BAD_REPLY; or the service's fault.
        """
        share = math.ceil(COMMAND_SHARE * self.max_in_flight)
        if long_poll is None and (self.in_flight >= self.max_in_flight or self._of_command[command] >= share):
            self.observer.on_call(CallResult.BUSY)
            raise BridgeError(errors.BUSY)
        if (channel := self._connection.channel) is None or channel.is_closed:
            self.observer.on_call(CallResult.UNAVAILABLE)
            raise BridgeError(errors.UNAVAILABLE)
        try:
            with tracing.span(f"send {command}", "producer") as span:
                message = await self._exchange(channel, command, content, span.carried(headers), long_poll)
        except CallerGoneError:
            self.observer.on_call(CallResult.GONE)
            raise
        except BridgeError as error:
            self.observer.on_call(_RESULTS.get(error.refusal, CallResult.UNAVAILABLE))
            raise
        self.observer.on_call(CallResult.ANSWERED)
        return _parse(command, message)

    async def _exchange(
        self,
        channel: Channel,
        command: CommandType,
        content: bytes,
        headers: Mapping[str, str],
        long_poll: LongPoll | None,
    ) -> DeliveredMessage:
        seconds = self.timeout_seconds if long_poll is None else long_poll.seconds + LONG_POLL_GRACE_SECONDS
        publication, sent = self._publication(command, content, headers, seconds), time.monotonic()
        deadline = asyncio.timeout(seconds)
        reply: asyncio.Future[DeliveredMessage] = asyncio.get_running_loop().create_future()
        is_long_poll = long_poll is not None
        call = PendingCall(
            calls=self._calls,
            channel=channel,
            message_id=publication.message_id,
            correlation_id=publication.correlation_id or "",
            tag=next(self._tags),
            deadline=deadline,
            reply=reply,
            is_long_poll=is_long_poll,
        )
        self._count(command, 1, is_long_poll=is_long_poll)
        try:
            with contextlib.suppress(TimeoutError):
                async with deadline:
                    if long_poll is not None:
                        long_poll.watch(call.hang_up)
                    with call:
                        payload = publication.encode(channel.number, channel.max_content_size)
                        await channel.write_queue.put(ChannelFrame(payload=payload, should_close=False))
                        del publication, payload  # thousands may wait here
                        await reply
            # A reply that comes in the same turn of the loop as the deadline, or as the end of the connection, counts.
            if reply.done() and not reply.cancelled():
                message = reply.result()
                self.clock.note(message.header.properties.timestamp, waited_seconds=time.monotonic() - sent)
                return message
        except PublishError:
            self._connection.warnings.warn(f"RabbitMQ returned a command: no queue takes a {command}")
            raise BridgeError(errors.NO_SERVICE) from None
        finally:
            self._count(command, -1, is_long_poll=is_long_poll)
            if long_poll is not None:
                long_poll.watch(None)
        if call.failure is None and not is_long_poll and self._heard_at < (deadline.when() or 0) - seconds:
            self._connection.doubt(channel)  # nothing has come since this call began
            self.clock.forget()
        raise call.failure or BridgeError(errors.DEADLINE_EXCEEDED)

    def _count(self, command: CommandType, change: int, *, is_long_poll: bool) -> None:
        if is_long_poll:
            self.long_polls += change
        else:
            self._of_command[command] += change

    def _publication(
        self, command: CommandType, content: bytes, headers: Mapping[str, str], seconds: float
    ) -> Publication:
        now, is_known = self.clock.now()
        if not is_known:
            headers = {**headers, envelope.CLOCK_UNKNOWN: "true"}
        sent_at = int(now)  # AMQP's timestamp has whole seconds; the fraction goes into the expiration
        return Publication(
            exchange=topology.COMMANDS.name,
            routing_key=command.value,
            mandatory=True,
            body=content,
            content_type=envelope.CONTENT_TYPE,
            message_type=command.value,
            headers=headers,
            message_id=str(uuid4()),
            correlation_id=str(uuid4()),
            reply_to=envelope.DIRECT_REPLY_TO,
            sent_at=sent_at,
            expiration_ms=int((now - sent_at + seconds) * 1000),
            user_id=self._user_id,
        )  # not persistent: a command with a deadline is worthless after a restart of the broker

    async def _on_reply(self, message: DeliveredMessage) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        call = self._calls.get(message.header.properties.correlation_id or "")
        if call is None or call.reply.done():
            self.observer.on_stray_reply()
            return
        call.reply.set_result(message)

    def _fail(self, channel: Channel | None) -> None:
        """No reply will come to this channel; None: to any."""
        for call in self._calls.values():
            if channel is None or call.channel is channel:
                call.fail(BridgeError(errors.UNAVAILABLE))

    def _is_waiting(self, channel: Channel) -> bool:
        return any(call.channel is channel for call in self._calls.values())

    def _is_unheard(self, channel: Channel, seconds: float, since: float) -> bool:
        if self._heard_at > since:
            return False
        ends = asyncio.get_running_loop().time() + self.timeout_seconds - seconds
        return any(
            call.channel is channel and not call.is_long_poll and (call.deadline.when() or ends) < ends
            for call in self._calls.values()
        )


def _parse(command: CommandType, message: DeliveredMessage) -> Reply:
    properties = message.header.properties
    if properties.message_type == envelope.FAULT_TYPE:
        try:
            fault = read_fault(message.body)
        except body.InvalidBodyError:
            raise BridgeError(errors.BAD_REPLY) from None
        if envelope.REASON in (properties.headers or {}):  # the envelope is ours, not the caller's
            _log.error("The service refuses the bridge's envelope: %s", fault.message)
            raise BridgeError(errors.INTERNAL)
        raise BridgeError(errors.by_fault(fault))
    if properties.message_type != envelope.reply_type(command):
        raise BridgeError(errors.BAD_REPLY)
    return Reply(body=message.body, headers=properties.headers or {})
