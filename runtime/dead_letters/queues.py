"""The dead-letter queues over AMQP.

Messages are consumed and not acknowledged: they are invisible to others while the channel is open, and return to their
places when it closes, for whatever reason. AMQP has no other way to look. One consumer takes them all: messages taken
by `basic.get` return, too, but in any order, as each get is a consumer of its own to a quorum queue.

It uses aiormq and not aio-pika, whose message class refuses some messages that a broker delivers.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any, Final

import aio_pika
from aio_pika.exceptions import AMQPError, ChannelClosed, ChannelNotFoundEntity, DeliveryError
from pamqp.commands import Basic

from contracts import topology
from contracts.commands import CommandType
from runtime import amqp_nodes, connection_urls
from runtime.dead_letters.letter import Letter

STEP_SECONDS: Final = 5.0
"""The longest wait for one answer of the broker."""

RETURN_SECONDS: Final = 2.0
"""The longest wait until letters that were only looked at can be seen again; another operator may hold them by then."""

MAX_PROPERTIES_BYTES: Final = 64 * 1024
"""They fit in one frame: RabbitMQ closes the connection over 128 KiB."""

MAX_HELD: Final = 10_000
"""Unacknowledged letters of one queue at once. They are in memory, with their bodies."""


class BrokerError(Exception):
    """The broker is unavailable or refuses; the text is a sentence for an operator."""


class UnreplayableError(Exception):
    """The letter can never be sent again; the text says why, and nothing was changed."""


class DeadLetterQueues:
    """The queues, for one action on one channel. What uses the broker raises BrokerError if it is lost or refuses."""

    def __init__(self, channel: Any, *, user: str | None = None, max_held: int = MAX_HELD) -> None:
        self._channel = channel
        self._user = user
        self._max_held = max_held
        self._held = 0
        self._staying: dict[str, int] = {}
        self.unseen = 0

    async def letters(self, commands: Iterable[CommandType]) -> AsyncGenerator[Letter]:
        """The letters in the commands' dead-letter queues, oldest first.

        Only as many as there are at the start: a replayed letter may be dead-lettered again at once, and would be
        found again for ever. Letters behind more than `max_held` that stay are only counted, in `unseen`.
        """
        number = 0
        for command in commands:
            name = topology.DEAD_LETTER_QUEUES[command].name
            waiting, self._held = await self._waiting(name), 0
            self._staying[name] = waiting
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

    async def count(self) -> int:
        """How many letters there are in all queues."""
        return sum([await self._waiting(queue.name) for queue in topology.DEAD_LETTER_QUEUES.values()])

    async def _waiting(self, name: str) -> int:
        async with _step(f"read {name}"):
            declared = await self._channel.queue_declare(name, passive=True)
        return declared.message_count or 0

    async def _consume(self, name: str, inbox: asyncio.Queue[Any], prefetch: int) -> None:
        async with _step(f"read {name}"):
            await self._channel.basic_qos(prefetch_count=prefetch)
            await self._channel.basic_consume(name, inbox.put)

    async def _next(self, name: str, inbox: asyncio.Queue[Any]) -> Any:
        """The next message; None if another consumer took the rest."""
        try:
            async with asyncio.timeout(STEP_SECONDS):
                return await inbox.get()
        except TimeoutError:
            await self._waiting(name)  # raises if the broker was lost
            return None

    def prepared(self, letter: Letter, *, now: datetime) -> Basic.Properties:
        """The properties with which the letter can be sent again, or UnreplayableError with the reason."""
        if not letter.properties.message_id:
            # The client would invent an id, and the service would repeat what it may have done.
            raise UnreplayableError("it has no message id, by which a repeat is recognised")
        properties = letter.replayed(now, user=self._user)
        try:
            size = len(properties.marshal())
        except Exception as error:  # the library decodes more than it encodes, and raises many types
            raise UnreplayableError(f"its headers cannot be written ({type(error).__name__})") from error
        if size > MAX_PROPERTIES_BYTES:
            raise UnreplayableError(f"its headers are over {MAX_PROPERTIES_BYTES} bytes")
        return properties

    async def replay(self, letter: Letter, properties: Basic.Properties) -> None:
        """Send the command again, and remove the letter once the broker has confirmed; until then the letter stays."""
        key = topology.COMMAND_QUEUES[letter.command].routing_key
        async with _step(f"send {key} again"):
            exchange = topology.COMMANDS.name
            await self._channel.basic_publish(
                letter.body, exchange=exchange, routing_key=key, properties=properties, mandatory=True
            )
        await self.remove(letter)

    async def remove(self, letter: Letter) -> None:
        """Remove the letter for good; if the broker is lost, it may still be there."""
        async with _step("remove the letter"):
            await self._channel.basic_ack(letter.tag)
        self._held -= 1
        self._staying[letter.queue] -= 1

    async def close(self, connection: Any) -> None:
        """End what was begun: removed letters are gone, and the others can be seen by whoever looks next.

        RabbitMQ confirms the end of a channel before its letters are back, and counts none of them in between.
        """
        async with _step("end"):
            await self._channel.close()  # answered after all acknowledgements
            self._channel = await (await connection.channel()).get_underlay_channel()
            with suppress(TimeoutError):
                async with asyncio.timeout(RETURN_SECONDS):
                    for name, staying in self._staying.items():
                        while await self._waiting(name) < staying:  # noqa: ASYNC110 - RabbitMQ tells no event
                            await asyncio.sleep(0.01)


@asynccontextmanager
async def opened(url: str, *, max_held: int = MAX_HELD) -> AsyncGenerator[DeadLetterQueues]:
    """The queues of the broker at `url`. At the end, letters that were not removed are back in their places."""
    for name in ("aio_pika", "aiormq"):  # an error is printed once, in our words
        logging.getLogger(name).addHandler(logging.NullHandler())
    async with _step("connect", tries=len(amqp_nodes.node_urls(url))):
        connection = await amqp_nodes.connect_to_any(url, lambda node: aio_pika.connect(node, timeout=STEP_SECONDS))
    try:
        async with _step("open a channel"):
            channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
            underlay = await channel.get_underlay_channel()
        queues = DeadLetterQueues(underlay, user=connection_urls.amqp_user(url), max_held=max_held)
        yield queues
        await queues.close(connection)
    finally:
        # The broker returns everything to its place even if the connection is not closed cleanly.
        with suppress(AMQPError, OSError, TimeoutError, RuntimeError):
            async with asyncio.timeout(STEP_SECONDS):
                await connection.close()


@asynccontextmanager
async def _step(what: str, *, tries: int = 1) -> AsyncGenerator[None]:
    """Bounds one step, and turns the client's errors into sentences. None has the URL, which holds a password."""
    try:
        async with asyncio.timeout(tries * STEP_SECONDS):
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
        why = connection_urls.distrust(error) or f"{where} ({type(error).__name__})"
        raise BrokerError(f"Cannot {what}: RabbitMQ (AMQP_URL) {why}.") from None
