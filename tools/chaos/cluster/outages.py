"""How long nothing was served: creates, events and writes are tried all the time, and the longest gap counts."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import aio_pika
import aiohttp
import asyncpg

from tools.chaos.clients import PATH, WHO
from tools.chaos.cluster.cluster_system import ClusterSystem
from tools.chaos.facts import AUDIT

EVERY_SECONDS = 0.25
CREATE_SECONDS = 15.0
WRITE_SECONDS = 3.0
HEARTBEAT_SECONDS = 5
_LOST = (
    aio_pika.exceptions.AMQPError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
    RuntimeError,
)
FIRST_BOOKING = 1_000_000
"""Beyond the bookings of the buyers."""


@dataclass(kw_only=True)
class Probes:
    """Tries everything until it is cancelled; `served` has the moments of success by kind."""

    system: ClusterSystem
    served: dict[str, list[float]] = field(default_factory=lambda: {"creates": [], "events": [], "writes": []})
    delivered: list[tuple[str, bytes]] = field(default_factory=list)
    """Every event that the subscriber took: its id and body."""
    bookings: list[int] = field(default_factory=list)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._create())
            group.create_task(_again_and_again(self._consume))
            group.create_task(_again_and_again(self._write))

    def gap(self, kind: str, began: float, ended: float) -> float:
        """The longest time without a success between two moments."""
        inside = [at for at in self.served[kind] if began <= at <= ended]
        last = max((at for at in self.served[kind] if at < began), default=began)
        return max(after - at for at, after in itertools.pairwise([last, *inside, ended]))

    async def _create(self) -> None:
        """Begins a create four times a second, whatever became of the earlier ones, at both bridges in turn."""
        bridges = itertools.cycle(self.system.bridges)
        limits = aiohttp.ClientTimeout(total=CREATE_SECONDS)
        async with aiohttp.ClientSession(timeout=limits) as http, asyncio.TaskGroup() as group:
            for booking in itertools.count(FIRST_BOOKING):
                group.create_task(self._one_create(http, next(bridges), booking))
                await asyncio.sleep(EVERY_SECONDS)

    async def _one_create(self, http: aiohttp.ClientSession, bridge: str, booking: int) -> None:
        body = {"bookingId": booking, "userId": 7, "amount": 10}
        self.bookings.append(booking)
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with http.post(f"{bridge}{PATH}/checkout/create", json=body, headers=WHO) as response:
                if response.ok:
                    self._serve("creates")

    async def _consume(self) -> None:
        """As another service does it: a durable queue; after an error the next node that answers."""
        url = f"{await asyncio.to_thread(lambda: self.system.amqp_url)}?heartbeat={HEARTBEAT_SECONDS}"
        async with asyncio.timeout(CREATE_SECONDS):
            connection = await aio_pika.connect(url, timeout=3)
        async with connection, connection.channel() as channel:
            await channel.set_qos(100)
            queue = await channel.declare_queue(AUDIT, passive=True)
            async with queue.iterator() as messages:
                async for message in messages:
                    self.delivered.append((message.message_id or "", message.body))
                    await message.ack()
                    self._serve("events")

    async def _write(self) -> None:
        url = self.system.database_url
        connection = await asyncpg.connect(url, timeout=WRITE_SECONDS, command_timeout=WRITE_SECONDS)
        try:
            await self._insert(connection)
        finally:
            connection.terminate()

    async def _insert(self, connection: Any) -> None:
        await connection.execute("CREATE TABLE IF NOT EXISTS cluster_probe (at timestamptz DEFAULT now())")
        while True:
            await connection.execute("INSERT INTO cluster_probe DEFAULT VALUES")
            self._serve("writes")
            await asyncio.sleep(EVERY_SECONDS)

    def _serve(self, kind: str) -> None:
        self.served[kind].append(time.monotonic())


async def _again_and_again(work: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await work()
        except _LOST:
            pass
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # aiormq raises this in waiters of a lost connection
        await asyncio.sleep(EVERY_SECONDS)
