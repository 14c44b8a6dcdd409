"""The dead-letter queues over AMQP.

Messages are taken and not acknowledged: they stay invisible to others while the channel is open, and go back to their
places when it closes, however that happens. AMQP has no other way to look. One consumer takes them all: what was taken
by `basic.get` goes back too, but in any order (each get is a consumer of its own to a quorum queue).

Below aio-pika's own messages: its class refuses some that a broker delivers, and a dead letter may be one of those.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any, Final

import aio_pika
from aio_pika.exceptions import AMQPError, ChannelClosed, ChannelNotFoundEntity, DeliveryError
from pamqp.commands import Basic

from contracts import addresses, topology
from contracts.commands import CommandType
from service.adapters.dead_letters.letter import Letter

STEP_SECONDS: Final = 5.0
"""The longest wait for any one answer of the broker."""

MAX_PROPERTIES_BYTES: Final = 64 * 1024
"""They travel in one frame: RabbitMQ ends the connection over 128 KiB."""

MAX_HELD: Final = 10_000
"""Letters of one queue in our hands at once. They are in memory, with their bodies."""


class BrokerError(Exception):
    """The broker cannot be used, or not for this; the text is a sentence for an operator."""


class UnreplayableError(Exception):
    """This letter can never be sent again; the text says why, and nothing was done."""


class DeadLetterQueues:
    """One look at the queues, on one channel."""

    def __init__(self, channel: Any, *, user: str | None = None, max_held: int = MAX_HELD) -> None:
        self._channel = channel
        self._user = user
        self._max_held = max_held
        self._held = 0
        self.unseen = 0

    async def letters(self, commands: Iterable[CommandType]) -> AsyncGenerator[Letter]:
        """What lies in the commands' dead-letter queues, oldest first.

        Only as many as there are at the start: a letter that is replayed may be parked again at once, behind the
        others, and would be met for ever. What lies behind more than `max_held` that stay is counted in `unseen`.

        Raises:
            BrokerError: a queue is missing, must not be read, or the broker is gone.
        """
        number = 0
        for command in commands:
            name = topology.DEAD_LETTER_QUEUES[command].name
            waiting, self._held = await self._waiting(name), 0
            inbox: asyncio.Queue[Any] = asyncio.Queue()
            if waiting:
                await self._consume(name, inbox, min(waiting, self._max_held))
            for seen in range(waiting):
                if self._held == self._max_held:
                    self.unseen += waiting - seen
                    break
                message = await self._next(name, inbox)
                if message is None:
                    break
                number, self._held = number + 1, self._held + 1
                yield Letter(
                    command=command,
                    number=number,
                    tag=message.delivery.delivery_tag,
                    properties=message.header.properties,
                    body=message.body,
                )

    async def _waiting(self, name: str) -> int:
        with _told(f"read {name}"):
            async with asyncio.timeout(STEP_SECONDS):
                declared = await self._channel.queue_declare(name, passive=True)
        return declared.message_count or 0

    async def _consume(self, name: str, inbox: asyncio.Queue[Any], prefetch: int) -> None:
        with _told(f"read {name}"):
            async with asyncio.timeout(STEP_SECONDS):
                await self._channel.basic_qos(prefetch_count=prefetch)
                await self._channel.basic_consume(name, inbox.put)

    async def _next(self, name: str, inbox: asyncio.Queue[Any]) -> Any:
        """The next message; None if somebody else took the rest meanwhile."""
        try:
            async with asyncio.timeout(STEP_SECONDS):
                return await inbox.get()
        except TimeoutError:
            await self._waiting(name)  # is the broker there at all?
            return None

    def prepared(self, letter: Letter, *, now: datetime) -> Basic.Properties:
        """The properties with which the letter can be sent again.

        Raises:
            UnreplayableError: it has no message id, or headers that can be read and not written.
        """
        if not letter.properties.message_id:
            # The client would invent an id, and then the service takes for new what it may have done before.
            raise UnreplayableError("it has no message id, by which a repeat is recognised")
        properties = letter.replayed(now, user=self._user)
        try:
            size = len(properties.marshal())
        except Exception as error:  # the library reads more than it writes, and says so in many ways
            raise UnreplayableError(f"its headers cannot be written ({type(error).__name__})") from error
        if size > MAX_PROPERTIES_BYTES:
            raise UnreplayableError(f"its headers are over {MAX_PROPERTIES_BYTES} bytes")
        return properties

    async def replay(self, letter: Letter, properties: Basic.Properties) -> None:
        """Send the command again, and take the letter away once the broker has confirmed that it keeps the command.

        Raises:
            BrokerError: it may or may not have been sent; the letter stays where it is.
        """
        key = topology.COMMAND_QUEUES[letter.command].routing_key
        with _told(f"send {key} again"):
            async with asyncio.timeout(STEP_SECONDS):
                await self._channel.basic_publish(
                    letter.body,
                    exchange=topology.COMMANDS.name,
                    routing_key=key,
                    properties=properties,
                    mandatory=True,
                )
        await self.remove(letter)

    async def remove(self, letter: Letter) -> None:
        """Take the letter away for good.

        Raises:
            BrokerError: the broker is gone; the letter may be there still.
        """
        with _told("take the letter away"):
            async with asyncio.timeout(STEP_SECONDS):
                await self._channel.basic_ack(letter.tag)
        self._held -= 1


@asynccontextmanager
async def opened(url: str, *, max_held: int = MAX_HELD) -> AsyncGenerator[DeadLetterQueues]:
    """The queues of the broker at `url`. Whatever was not taken away is back in its place at the end.

    Raises:
        BrokerError: it cannot be reached, or was lost before all was done.
    """
    for name in ("aio_pika", "aiormq"):  # an error is told once, in our words
        logging.getLogger(name).addHandler(logging.NullHandler())
    with _told("connect"):
        async with asyncio.timeout(STEP_SECONDS):
            connection = await aio_pika.connect(url, timeout=STEP_SECONDS)
    try:
        with _told("open a channel"):
            async with asyncio.timeout(STEP_SECONDS):
                channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
                underlay = await channel.get_underlay_channel()
        yield DeadLetterQueues(underlay, user=addresses.amqp_user(url), max_held=max_held)
        # Answered after all that was said before: from here on, what was taken away is away.
        with _told("end"):
            async with asyncio.timeout(STEP_SECONDS):
                await channel.close()
    finally:
        await _closed(connection)


async def _closed(connection: Any) -> None:
    try:
        async with asyncio.timeout(STEP_SECONDS):
            await connection.close()
    except (AMQPError, OSError, TimeoutError, RuntimeError):
        pass  # the broker gives everything back by itself when the connection is gone


@contextmanager
def _told(what: str) -> Generator[None]:
    """Turns what the client raises into a sentence. The URL is in none of them: it holds a password."""
    try:
        yield
    except ChannelNotFoundEntity:
        raise BrokerError(
            f"Cannot {what}: RabbitMQ (AMQP_URL) does not have it. payment-service run declares all queues."
        ) from None
    except ChannelClosed as error:  # for lack of rights, as a rule
        raise BrokerError(f"Cannot {what}: RabbitMQ refuses it ({type(error).__name__}).") from None
    except DeliveryError:
        raise BrokerError(f"Cannot {what}: RabbitMQ did not take it (no such queue, or the queue is full).") from None
    except (AMQPError, OSError, TimeoutError, RuntimeError) as error:
        where = "cannot be reached" if what == "connect" else "did not answer or was lost"
        why = addresses.distrust(error) or f"{where} ({type(error).__name__})"
        raise BrokerError(f"Cannot {what}: RabbitMQ (AMQP_URL) {why}.") from None
