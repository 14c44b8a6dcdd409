"""How long nothing was served: every kind of request is tried all the time, and the longest gap counts."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import aio_pika
import aiohttp
import asyncpg
from aio_pika.abc import AbstractIncomingMessage

from contracts.events import EventKey
from runtime.amqp_nodes import HEARTBEAT_SECONDS, leave_silent_nodes
from tools.chaos.clients import ACTS, PATH, WHO
from tools.chaos.cluster.cluster_system import ClusterSystem
from tools.chaos.facts import AUDIT, event
from tools.chaos.plan import Payer
from tools.chaos.wishes import Attempt, Operation

EVERY_SECONDS = 0.25
CREATE_SECONDS = 15.0
WRITE_SECONDS = 3.0
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
MINOR = 1000
PAID_EVERY = 3
"""Every so many creates one is paid, and nobody asks for it: its outcome comes by the event feed alone. Odd, so that no
bridge makes all of them."""
KINDS = ("creates", "events", "outcomes", "writes")
"""What is tried. An outcome is the event of a payment that was paid."""


@dataclass(kw_only=True)
class Probes:
    """Tries everything until it is cancelled; `served` has the moments of success by kind."""

    system: ClusterSystem
    served: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    delivered: list[tuple[str, bytes]] = field(default_factory=list)
    """Every event that the subscriber took: its id and body."""
    operations: list[Operation] = field(default_factory=list)
    """Every create, with its answer if it had one."""

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
        body = {"bookingId": booking, "userId": 7, "amount": MINOR / 100}
        operation = Operation(kind="create", booking=booking, began=time.monotonic(), minor=MINOR)
        self.operations.append(operation)
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with http.post(f"{bridge}{PATH}/checkout/create", json=body, headers=WHO) as response:
                if response.status == HTTPStatus.OK:
                    operation.answer = await response.json()
                    operation.attempts.append(Attempt(at=operation.began, seconds=0.0, status=response.status))
                    self._serve("creates")
            if operation.acknowledged and booking % PAID_EVERY == 0:
                ((act, details),) = ACTS[Payer.GOOD]
                pay = f"{self.system.sandbox}/_sandbox/sessions/{operation.answer['sessionId']}/{act}"
                async with http.post(pay, json=details):
                    pass

    async def _consume(self) -> None:
        """As another service does it: a durable queue; after an error the next node that answers."""
        url = f"{await asyncio.to_thread(lambda: self.system.amqp_url)}?heartbeat={HEARTBEAT_SECONDS}"
        leave_silent_nodes()  # else the library waits for three heartbeats, and what is measured is this subscriber
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
                    if _is_outcome(message):
                        self._serve("outcomes")

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


def _is_outcome(message: AbstractIncomingMessage) -> bool:
    return message.routing_key == EventKey.COMPLETED and event(message.body)[2]["bookingId"] >= FIRST_BOOKING


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
