"""Keeps the topology as it should be: what somebody deletes is declared again, and what cannot be is named."""

import asyncio
import logging
from itertools import islice
from typing import Final

from aio_pika.abc import AbstractRobustConnection
from aiormq.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import ChannelClosed, ChannelNotFoundEntity
from faststream.rabbit import RabbitBroker

from contracts import topology
from runtime.aio import spread, wait_or_timeout
from runtime.broker_check import words_of
from service.application.single_flight import SingleFlight
from service.entrypoints.broker import UNREACHABLE, parts, restore_consumers
from service.entrypoints.publisher import has_ended

LOOK_SECONDS: Final = 5.0
"""Between two looks at the topology; a publication that finds something missing makes one sooner."""
_PASS_SECONDS: Final = 15.0
"""How long one look may take: a queue whose leader is being elected answers late."""
_PAUSE_SECONDS: Final = 0.5
"""Between two looks, however often one is called for."""

_TOLD: Final = 3
"""How many problems are told in full."""
_HINTS: Final = {f"exchange {topology.EVENTS.name}": ": subscribers must bind their queues to it again"}

_log = logging.getLogger(__name__)


class TopologyWatch:
    """Declares the topology after each reconnection, when a publication finds a part missing, and now and then.

    `problems`: why a part cannot be declared, in the broker's words, by the part's name.
    """

    def __init__(self, connection: AbstractRobustConnection) -> None:
        self.problems: dict[str, str] = {}
        self._connection = connection
        self._channel: AbstractChannel | None = None
        self._looks = SingleFlight[None]()
        self._woken = asyncio.Event()
        connection.reconnect_callbacks.add(self.wake)

    @property
    def problem(self) -> str | None:
        """In one line: without its rights the service can declare nothing at all."""
        told = [f"{name}: {text}" for name, text in islice(self.problems.items(), _TOLD)]
        more = len(self.problems) - len(told)
        return "; ".join([*told, *([f"{more} more"] if more else [])]) or None

    def wake(self, *_: object) -> None:
        """Look at once: something seems to be missing."""
        self._woken.set()

    async def run(self, consuming: RabbitBroker, started: asyncio.Event) -> None:
        """Look until cancelled, from when the consumers have `started`, and open their channels that were closed."""
        await started.wait()
        while True:
            # Nobody hurries to what cannot be declared: RabbitMQ logs each refusal.
            await wait_or_timeout(asyncio.Event() if self.problems else self._woken, spread(LOOK_SECONDS))
            self._woken.clear()
            try:
                # To its end: RabbitMQ ends the connection of whoever gives up opening a channel.
                await self._looks.run("look", self.look, seconds=_PASS_SECONDS)
                async with asyncio.timeout(_PASS_SECONDS):
                    await restore_consumers(consuming)
            except UNREACHABLE as error:  # TimeoutError too: nothing is known, and the next look comes soon
                _log.debug("the topology could not be looked at (%s)", type(error).__name__)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def look(self) -> None:
        """Declare every part, and tell what was missing and what cannot be declared.

        Raises:
            UNREACHABLE: the broker is down or was lost.
        """
        transport = self._connection.transport
        if transport is None or transport.connection.is_closed:
            return
        await transport.connection.ready()
        missing, problems = list[str](), dict[str, str]()
        for part in parts():
            for step in filter(None, (part.look, part.declare)):
                try:
                    await step(await self._opened(transport.connection))
                except ChannelNotFoundEntity as error:
                    if step is part.look:
                        missing.append(part.name)
                    else:
                        problems[part.name] = words_of(error)
                except ChannelClosed as error:
                    problems[part.name] = words_of(error)
                    break
        for name in missing:
            if name not in problems:
                _log.warning("the %s was missing and is declared again%s", name, _HINTS.get(name, ""))
        self._replace(problems)

    async def _opened(self, connection: AbstractConnection) -> AbstractChannel:
        """A channel of the watch's own: RabbitMQ closes it with each refusal, and each pass may end half-way."""
        if self._channel is None or has_ended(self._channel):
            self._channel = await connection.channel(publisher_confirms=False)
        return self._channel

    def _replace(self, problems: dict[str, str]) -> None:
        changed, self.problems = problems != self.problems, problems
        if changed and problems:
            _log.error("what is needed at RabbitMQ cannot be declared: %s", self.problem)
        elif changed:
            _log.info("everything that is needed at RabbitMQ is there again")
