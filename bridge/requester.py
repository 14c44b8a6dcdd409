"""The requester: many request-reply calls at once over one connection to RabbitMQ.

Replies come by *direct reply-to*: RabbitMQ hands them straight to the channel that published the command, without a
queue. So consumer and publisher must be the same channel, and a reply to a lost channel is lost with it. That is why
nothing here is restored behind the scenes: when connection or channel ends, every waiting call fails at once, and the
connection task builds both anew, consumer first.
"""

import asyncio
import contextlib
import itertools
import logging
import math
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self, cast
from uuid import uuid4

import aiormq
from aiormq.abc import ChannelFrame, DeliveredMessage
from aiormq.channel import Channel
from aiormq.exceptions import PublishError

from bridge.calls import Call, Counters, Hold, Waiting
from bridge.errors import (
    BadReplyError,
    BrokerUnavailableError,
    BusyError,
    CallerGoneError,
    DeadlineExceededError,
    FaultError,
    NoServiceError,
)
from bridge.wire import Publication
from contracts import addresses, body, envelope
from contracts.commands import CommandType
from contracts.faults import Fault

_log = logging.getLogger(__name__)

HEARTBEAT_SECONDS: Final = 5
CONNECT_SECONDS: Final = 5.0
WATCH_SECONDS: Final = 0.5
"""How often the connection is looked at."""
BLOCKED_SECONDS: Final = 1.0
"""How long the broker may refuse to read from us (memory or disk alarm) before calls fail instead of waiting."""
FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 2.0
ONE_COMMANDS_SHARE: Final = 0.8
"""Of `max_in_flight`, for calls of one command: while creates queue, there is room for reading how a payment stands."""
HELD_GRACE_SECONDS: Final = 5.0
"""How long after its time a held answer is still waited for. Then the service that held it has died."""


class _Connection(aiormq.Connection):
    """aiormq gives a silent peer three heartbeats and three seconds; two find it dead within 15 s."""

    HEARTBEAT_GRACE_MULTIPLIER = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """A reply's body as it came, and its headers."""

    body: bytes
    headers: Mapping[str, object]


@dataclass(kw_only=True)
class Requester:
    """Sends commands and waits for their replies; an async context manager that connects by itself and stays so.

    `timeout_seconds` bounds a call altogether, from publishing to the reply, and `max_in_flight` how many wait for
    theirs. Held calls have a time of their own and are counted apart, up to `max_held`.
    """

    amqp_url: str = field(repr=False)  # holds a password
    timeout_seconds: float
    max_in_flight: int
    max_held: int = 10_000
    counters: Counters = field(default_factory=Counters)
    distrust: str | None = field(default=None, init=False)
    """Set if whoever answers at the broker's address shows a certificate that cannot be trusted: says why."""
    _user_id: str | None = field(init=False)
    _calls: dict[str, Call] = field(default_factory=dict, init=False)
    _of_command: Counter[CommandType] = field(default_factory=Counter, init=False)
    _tags: Iterator[int] = field(default_factory=lambda: itertools.count(1), init=False, repr=False)
    _held: int = field(default=0, init=False)
    _holds_none: bool = field(default=False, init=False)
    _channel: Channel | None = field(default=None, init=False)
    _task: asyncio.Task[None] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._user_id = addresses.amqp_user(self.amqp_url)

    async def __aenter__(self) -> Self:
        """Start connecting; returns at once, whether or not there is a broker."""
        self._task = asyncio.create_task(self._stay_connected(), name="requester-connection")
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Close the connection; whoever still waits gets `BrokerUnavailableError`."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def given_up(self) -> None:
        """Return when `distrust` has been set, and no connection is tried any more; otherwise never."""
        if self._task is not None:
            await asyncio.wait([self._task])

    @property
    def ready(self) -> bool:
        """Connected, replies can be received, and the broker takes messages."""
        return self._channel is not None

    @property
    def in_flight(self) -> int:
        """Calls that wait for their reply, without the held ones."""
        return len(self._calls) - self._held

    @property
    def held(self) -> int:
        """Calls whose answer the service may hold."""
        return self._held

    @property
    def can_hold(self) -> bool:
        """Whether there is room for one more held call."""
        return self._held < self.max_held and not self._holds_none

    def let_go(self) -> None:
        """End every held call now, with `DeadlineExceededError`; from now on there is room for none."""
        self._holds_none = True
        for call in self._calls.values():
            if call.is_held:
                call.fail(DeadlineExceededError())

    async def call(
        self, command: CommandType, content: bytes, headers: Mapping[str, str], *, hold: Hold | None = None
    ) -> Reply:
        """Send a command and wait for its reply.

        Raises:
            CallerGoneError: of a held call, whose command may have been executed.
            BusyError: `max_in_flight` calls are waiting, or their share (`ONE_COMMANDS_SHARE`) of this command.
            BrokerUnavailableError: no connection, or it was lost; the command may have been executed.
            NoServiceError: no queue takes the command; it was not executed.
            DeadlineExceededError: no reply in time; the command may have been executed.
            FaultError: the service answered with a fault.
            BadReplyError: the service's answer cannot be understood.
        """
        share = math.ceil(ONE_COMMANDS_SHARE * self.max_in_flight)
        if hold is None and (self.in_flight >= self.max_in_flight or self._of_command[command] >= share):
            self.counters.busy += 1
            raise BusyError
        if (channel := self._channel) is None or channel.is_closed:
            self.counters.unavailable += 1
            raise BrokerUnavailableError
        message = await self._exchange(channel, command, content, headers, hold)
        self.counters.answered += 1
        return _read(command, message)

    async def _exchange(
        self,
        channel: Channel,
        command: CommandType,
        content: bytes,
        headers: Mapping[str, str],
        hold: Hold | None,
    ) -> DeliveredMessage:
        seconds = self.timeout_seconds if hold is None else hold.seconds + HELD_GRACE_SECONDS
        if hold is None:
            self._of_command[command] += 1
        else:
            self._held += 1
        publication = self._publication(command, content, headers, seconds)
        reply: asyncio.Future[DeliveredMessage] = asyncio.get_running_loop().create_future()
        call: Call | None = None
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds) as deadline:
                    call = Call(reply=reply, deadline=deadline, is_held=hold is not None)
                    if hold is not None:
                        hold.watch(call.leave)
                    with Waiting(self._calls, channel, publication, next(self._tags), call):
                        await channel.write_queue.put(_frame(publication, channel))
                        del publication  # thousands may wait here
                        await reply
            # What comes in the same turn of the loop as the deadline, or as the end of the connection, is an answer.
            if reply.done() and not reply.cancelled():
                return reply.result()
        except PublishError:
            self.counters.unroutable += 1
            raise NoServiceError from None
        finally:
            if hold is None:
                self._of_command[command] -= 1
            else:
                self._held -= 1
                hold.watch(None)
        failure = call.failure if call is not None and call.failure is not None else DeadlineExceededError()
        match failure:
            case CallerGoneError():
                self.counters.gone += 1
            case DeadlineExceededError():
                self.counters.expired += 1
            case _:
                self.counters.unavailable += 1
        raise failure

    def _publication(
        self, command: CommandType, content: bytes, headers: Mapping[str, str], seconds: float
    ) -> Publication:
        now = time.time()
        sent_at = int(now)  # AMQP's timestamp has whole seconds; the fraction goes into the expiration
        return Publication(
            command=command,
            body=content,
            headers=headers,
            message_id=str(uuid4()),
            correlation_id=str(uuid4()),
            sent_at=sent_at,
            expiration_ms=int((now - sent_at + seconds) * 1000),
            user_id=self._user_id,
        )

    async def _on_reply(self, message: DeliveredMessage) -> None:
        call = self._calls.get(message.header.properties.correlation_id or "")
        if call is None or call.reply.done():
            self.counters.stray += 1
            return
        call.reply.set_result(message)

    def _fail_all(self) -> None:
        self._channel = None
        for call in self._calls.values():
            call.fail(BrokerUnavailableError())

    async def _stay_connected(self) -> None:
        """The connection task: connect, watch, and start over with a growing, jittered pause."""
        pause, met = FIRST_PAUSE_SECONDS, False
        while True:
            try:
                async with contextlib.AsyncExitStack() as stack:
                    connection, channel = await self._connect(stack)
                    _log.info("Connected to RabbitMQ.")
                    pause, met = FIRST_PAUSE_SECONDS, True
                    await self._watch(connection, channel)
            except Exception as error:  # noqa: BLE001 - whatever it was, without this task nothing ever works again
                # A broker that was good before will be good again; one that never was needs an operator.
                if not met and (why := addresses.distrust(error)) is not None:
                    self.distrust = why
                    return
                _log.warning("No connection to RabbitMQ: %s", type(error).__name__)
            finally:
                self._fail_all()
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def _connect(self, stack: contextlib.AsyncExitStack) -> tuple[_Connection, Channel]:
        separator = "&" if "?" in self.amqp_url else "?"
        connection = _Connection(f"{self.amqp_url}{separator}heartbeat={HEARTBEAT_SECONDS}&name=payment-bridge")
        async with asyncio.timeout(CONNECT_SECONDS):
            await connection.connect()
            stack.push_async_callback(connection.close)
            channel = cast("Channel", await connection.channel(publisher_confirms=False))
            # Publishing before this consumer exists would be a channel error (PRECONDITION_FAILED).
            await channel.basic_consume(envelope.DIRECT_REPLY_TO, self._on_reply, no_ack=True)
        return connection, channel

    async def _watch(self, connection: _Connection, channel: Channel) -> None:
        """Return when connection or channel has ended; meanwhile follow whether the broker takes messages.

        Under a memory or disk alarm the broker stops reading from us: no error, only silence.
        """
        closing = channel.closing
        while not closing.done():
            try:
                async with asyncio.timeout(BLOCKED_SECONDS):
                    await connection.ready()
                self._channel = channel
            except TimeoutError:
                if self._channel is not None:
                    _log.warning("RabbitMQ takes no messages at the moment (alarm).")
                self._fail_all()
            await asyncio.wait([closing], timeout=WATCH_SECONDS)


def _frame(publication: Publication, channel: Channel) -> ChannelFrame:
    payload = publication.encode(channel.number, channel.max_content_size)
    return ChannelFrame(payload=payload, should_close=False)


def _read(command: CommandType, message: DeliveredMessage) -> Reply:
    properties = message.header.properties
    if properties.message_type == envelope.FAULT_TYPE:
        try:
            fault = body.read(Fault, message.body)
        except body.InvalidBodyError:
            raise BadReplyError from None
        raise FaultError(fault)
    if properties.message_type != envelope.reply_type(command):
        raise BadReplyError
    return Reply(body=message.body, headers=properties.headers or {})
