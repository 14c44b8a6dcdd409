"""How long nothing was served: every kind of request is tried all the time, and the longest gap counts."""

import asyncio
import itertools
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
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
from tools.chaos.facts import AUDIT, event
from tools.chaos.plan import Payer
from tools.chaos.wishes import Attempt, Operation

EVERY_SECONDS = 0.25
CREATE_SECONDS = 15.0
WRITE_SECONDS = 3.0
_LOST = (
    *aio_pika.exceptions.CONNECTION_EXCEPTIONS,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
FIRST_BOOKING = 1_000_000
"""Beyond the bookings of the buyers."""
MINOR = 1000
PAID_EVERY = 3
"""Every so many creates one is paid, and nobody asks for it: its outcome comes by the event feed alone. Odd, so that no
bridge makes all of them."""
KINDS = ("creates", "verifies", "events", "outcomes", "writes")
"""What is tried. An event is a create's; an outcome is the event of a payment that was paid."""


@dataclass(frozen=True, kw_only=True)
class Success:
    """What was tried and served, in seconds of the monotonic clock."""

    began: float
    at: float


@dataclass(kw_only=True)
class Probes:
    """Tries everything while it is `running`, past the links that faults hit; `served` has the successes by kind."""

    bridges: list[str]
    sandbox: str
    database_url: str
    amqp_url: Callable[[], str]
    """Of a node that answers."""
    every_seconds: float = EVERY_SECONDS
    served: dict[str, list[Success]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    delivered: list[tuple[str, bytes]] = field(default_factory=list)
    """Every event that the subscriber took: its id and body."""
    operations: list[Operation] = field(default_factory=list)
    """Every create, with its answer if it had one; their bookings are consecutive."""
    _paid: dict[int, float] = field(default_factory=dict)
    """When each paid booking was."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Whatever ends the probes too early ends the block."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._begin_again_and_again(self._create)),
                group.create_task(self._begin_again_and_again(self._verify)),
                group.create_task(_again_and_again(self._consume)),
                group.create_task(_again_and_again(self._write)),
            ]
            yield
            for task in tasks:
                task.cancel()

    def gap(self, kind: str, began: float, ended: float) -> float:
        """The longest time without a success between two moments."""
        moments = [each.at for each in self.served[kind]]
        inside = [at for at in moments if began <= at <= ended]
        last = max((at for at in moments if at < began), default=began)
        return max(after - at for at, after in itertools.pairwise([last, *inside, ended]))

    def first(self, kind: str, since: float) -> float | None:
        """Seconds from a moment to the first success of what was begun after it; None if there is none yet."""
        return min((each.at - since for each in self.served[kind] if each.began >= since), default=None)

    async def _begin_again_and_again(
        self, call: Callable[[aiohttp.ClientSession, str], Coroutine[Any, Any, None]]
    ) -> None:
        """Begins a call several times a second, whatever became of the earlier ones, at all bridges in turn."""
        limits = aiohttp.ClientTimeout(total=CREATE_SECONDS)
        async with aiohttp.ClientSession(timeout=limits) as http, asyncio.TaskGroup() as group:
            for bridge in itertools.cycle(self.bridges):
                group.create_task(call(http, bridge))
                await asyncio.sleep(self.every_seconds)

    async def _create(self, http: aiohttp.ClientSession, bridge: str) -> None:
        booking = FIRST_BOOKING + len(self.operations)
        body = {"bookingId": booking, "userId": 7, "amount": MINOR / 100}
        operation = Operation(kind="create", booking=booking, began=time.monotonic(), minor=MINOR)
        self.operations.append(operation)
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with http.post(f"{bridge}{PATH}/checkout/create", json=body, headers=WHO) as response:
                if response.status == HTTPStatus.OK:
                    operation.answer = await response.json()
                    operation.attempts.append(Attempt(at=operation.began, seconds=0.0, status=response.status))
                    self._serve("creates", operation.began)
            if operation.acknowledged and booking % PAID_EVERY == 0:
                ((act, details),) = ACTS[Payer.GOOD]
                pay = f"{self.sandbox}/_sandbox/sessions/{operation.answer['sessionId']}/{act}"
                self._paid[booking] = time.monotonic()
                async with http.post(pay, json=details):
                    pass

    async def _verify(self, http: aiohttp.ClientSession, bridge: str) -> None:
        began = time.monotonic()
        latest = next((each for each in reversed(self.operations) if each.acknowledged), None)
        if latest is None:
            return
        url = f"{bridge}{PATH}/checkout/verify/{latest.answer['sessionId']}"
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with http.get(url, headers=WHO) as response:
                if response.status == HTTPStatus.OK:
                    self._serve("verifies", began)

    async def _consume(self) -> None:
        """As another service does it: a durable queue; after an error the next node that answers."""
        url = f"{await asyncio.to_thread(self.amqp_url)}?heartbeat={HEARTBEAT_SECONDS}"
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
                    self._take(message)

    async def _write(self) -> None:
        url = self.database_url
        connection = await asyncpg.connect(url, timeout=WRITE_SECONDS, command_timeout=WRITE_SECONDS)
        try:
            await self._insert(connection)
        finally:
            connection.terminate()

    async def _insert(self, connection: Any) -> None:
        await connection.execute("CREATE TABLE IF NOT EXISTS cluster_probe (at timestamptz DEFAULT now())")
        while True:
            began = time.monotonic()
            await connection.execute("INSERT INTO cluster_probe DEFAULT VALUES")
            self._serve("writes", began)
            await asyncio.sleep(self.every_seconds)

    def _take(self, message: AbstractIncomingMessage) -> None:
        booking = event(message.body)[2]["bookingId"]
        number = booking - FIRST_BOOKING
        self._serve("events", self.operations[number].began if number >= 0 else -math.inf)
        if message.routing_key == EventKey.COMPLETED and booking in self._paid:
            self._serve("outcomes", self._paid[booking])

    def _serve(self, kind: str, began: float) -> None:
        self.served[kind].append(Success(began=began, at=time.monotonic()))


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
