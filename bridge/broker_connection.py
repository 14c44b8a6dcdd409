"""The bridge's connection to RabbitMQ, kept up, and on it the channel by which commands go and replies come.

Direct reply-to hands replies to the channel that published the command. So consumer and publisher are one channel, and
a reply to a lost channel is lost with it: no library may restore anything silently.
"""

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, cast

import aiormq
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity

from contracts import envelope, topology
from runtime import amqp_nodes, amqp_receiver, broker_check, connection_urls
from runtime.aio import Backoff, LogOnChange, ThinnedOut, spread

_log = logging.getLogger(__name__)

CONNECT_SECONDS: Final = 5.0
CLOSE_SECONDS: Final = 1.0
WATCH_SECONDS: Final = 0.5
"""The interval between two looks at the connection."""
BLOCKED_SECONDS: Final = 1.0
"""How long the broker may stop reading from us (memory or disk alarm) before calls fail instead of waiting."""
FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 2.0
TRUSTED_SECONDS: Final = 5.0
"""How long a new channel is not doubted: to replace it sooner would mend nothing."""
UNHEARD_SECONDS: Final = 3.0
"""How long calls wait for a first reply by a new channel before it is replaced: it may never have worked. The
connection's next channel gets twice as long: perhaps nobody answers at all."""
KEPT_SECONDS: Final = 30.0
"""How long a replaced channel is kept at least: late replies come by it, and are counted."""


@dataclass(kw_only=True)
class BrokerConnection:
    """Connects and reconnects in its task `run`, to the nodes of `amqp_url` in turn.

    `on_lost`: replies to this channel will never come (None: to any). `is_waiting`: whether a call waits for one.
    `is_unheard`: whether a call by this channel has waited for so many seconds, and no reply has come since a moment.
    """

    amqp_url: str = field(repr=False)  # holds a password
    on_reply: Callable[[DeliveredMessage], Coroutine[Any, Any, None]]
    on_lost: Callable[[Channel | None], None]
    is_waiting: Callable[[Channel], bool]
    is_unheard: Callable[[Channel, float, float], bool]
    channel: Channel | None = field(default=None, init=False)
    """What commands can be sent by; None if there is no connection, no exchange, or the broker takes nothing."""
    distrust: str | None = field(default=None, init=False)
    """Why no certificate at the broker's addresses is trusted; None while there is no such problem."""
    warnings: ThinnedOut = field(default_factory=lambda: ThinnedOut(_log), init=False)
    _doubted: Channel | None = field(default=None, init=False)
    _replaced: list[tuple[Channel, float]] = field(default_factory=list, init=False)
    _may_look: bool = field(default=True, init=False)

    def doubt(self, channel: Channel) -> None:
        """Nothing comes back by this channel: replace it.

        So does a channel of RabbitMQ 3.10 end that was opened while quorum queues had no leader. New calls go by a new
        channel; those that wait for a reply to the old one go on waiting.
        """
        self._doubted = channel

    async def run(self) -> None:
        """Connect, watch, and start over after a growing, jittered pause. Ends only at an untrusted certificate."""
        backoff = Backoff(first_seconds=FIRST_PAUSE_SECONDS, longest_seconds=LONGEST_PAUSE_SECONDS)
        amqp_receiver.receive_at_once()
        amqp_nodes.leave_silent_nodes()
        nodes, distrusted = amqp_nodes.node_urls(self.amqp_url), set[str]()
        was_connected = False
        for node in itertools.cycle(nodes):
            where, pause = f"RabbitMQ at {amqp_nodes.address(node)}", None
            try:
                async with contextlib.AsyncExitStack() as stack:
                    connection = await self._connect(node, stack)
                    _log.info("Connected to %s.", where)
                    backoff.reset()
                    was_connected, pause = True, spread(amqp_nodes.RECONNECT_SECONDS)
                    await self._use(connection, where)
            except Exception as error:  # noqa: BLE001 - whatever it was, without this task nothing ever works again
                # A broker that was trusted before will be trusted again; one that never was needs an operator.
                if not was_connected and (why := connection_urls.distrust(error)) is not None:
                    distrusted.add(node)
                    if len(distrusted) == len(nodes):
                        self.distrust = why
                        return
                self.warnings.warn(f"{'Lost' if pause else 'No connection to'} {where}: {_said_by(error)}")
            finally:
                self._lose()
            await asyncio.sleep(pause or backoff.next_seconds())

    async def _connect(self, node: str, stack: contextlib.AsyncExitStack) -> aiormq.Connection:
        separator = "&" if "?" in node else "?"
        named = f"{node}{separator}heartbeat={amqp_nodes.HEARTBEAT_SECONDS}&name=payment-bridge"
        connection = aiormq.Connection(named)
        async with asyncio.timeout(CONNECT_SECONDS):
            await connection.connect()
            stack.push_async_callback(connection.close)
        return connection

    async def _use(self, connection: aiormq.Connection, where: str) -> None:
        """Keep one channel open; raises what ended the connection."""
        backoff = Backoff(first_seconds=FIRST_PAUSE_SECONDS, longest_seconds=LONGEST_PAUSE_SECONDS)
        closed, unheard_seconds = connection.closing, UNHEARD_SECONDS
        while True:
            try:
                channel = await self._open(connection)
                backoff.reset()
                await self._watch(connection, channel, where, unheard_seconds)
                unheard_seconds *= 2
            except Exception as error:
                self.channel = None
                if not closed.done():  # channel and connection end together, the channel first
                    await asyncio.wait([closed], timeout=backoff.next_seconds())
                if closed.done():
                    raise (None if closed.cancelled() else closed.exception()) or error from None
                if isinstance(error, TimeoutError):
                    raise
                self.warnings.warn(f"{where} closed the channel: {_said_by(error)}")

    async def _open(self, connection: aiormq.Connection) -> Channel:
        async with asyncio.timeout(CONNECT_SECONDS):
            channel = cast("Channel", await connection.channel(publisher_confirms=False))
            if self._may_look:
                try:
                    await channel.exchange_declare(topology.COMMANDS.name, passive=True)
                except (
                    ChannelAccessRefused
                ):  # needs no right where this was tried; elsewhere the first command will tell
                    self._may_look = False
                    channel = cast("Channel", await connection.channel(publisher_confirms=False))
            # Publishing before this consumer exists would be a channel error (PRECONDITION_FAILED).
            await channel.basic_consume(envelope.DIRECT_REPLY_TO, self.on_reply, no_ack=True)
        channel.closing.add_done_callback(lambda _: self.on_lost(channel))
        return channel

    async def _watch(self, connection: aiormq.Connection, channel: Channel, where: str, unheard_seconds: float) -> None:
        """Return when the channel is to be replaced, raise what ended it; follow whether the broker takes messages.

        Under a memory or disk alarm the broker stops reading from us: no error, only silence.
        """
        closing, alarm, clock = channel.closing, LogOnChange(_log), asyncio.get_running_loop().time
        opened_at = clock()
        while not closing.done():
            try:
                async with asyncio.timeout(BLOCKED_SECONDS):
                    await connection.ready()
            except TimeoutError:
                alarm.failed("%s takes no messages at the moment (alarm).", where)
                self._lose()
            else:
                alarm.works("%s takes messages again.", where)
                self.channel = channel
                await self._close_replaced()
                doubted, self._doubted = self._doubted is channel, None
                doubted = doubted and clock() > opened_at + TRUSTED_SECONDS
                if doubted or self.is_unheard(channel, unheard_seconds, opened_at):
                    self.warnings.warn(f"No reply comes from {where}: the channel is replaced")
                    self._replaced.append((channel, time.monotonic()))
                    return
            await asyncio.wait([closing], timeout=WATCH_SECONDS)
        closing.result()

    async def _close_replaced(self) -> None:
        old = time.monotonic() - KEPT_SECONDS
        for channel, at in [each for each in self._replaced if each[1] < old and not self.is_waiting(each[0])]:
            self._replaced.remove((channel, at))
            with contextlib.suppress(Exception):  # a broken channel raises anything
                async with asyncio.timeout(CLOSE_SECONDS):
                    await channel.close()

    def _lose(self) -> None:
        self.channel = None
        self.on_lost(None)


def _said_by(error: BaseException) -> str:
    """What the broker or the system said: code and text, a missing exchange by its name. No URL is in it."""
    if isinstance(error, ChannelNotFoundEntity):
        return " ".join(map(str, ("404", *error.args)))
    return broker_check.words_of(error)
