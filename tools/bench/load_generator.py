"""The load: callers over raw kept-alive HTTP, open and closed loops, latencies as HDR histograms."""

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

from hdrh.histogram import HdrHistogram

PATH = "/api/v1/internal/payments"
WHO = "X-User-Id: 7\r\nX-User-Name: bench\r\nX-User-Roles: USER,SERVICE_ACCOUNT\r\n"
LOST = 0
"""The status of a request whose connection ended without an answer."""
OK = 200
LONGEST_SECONDS = 600
_MICROSECONDS = 1_000_000

Call = Callable[[int], Awaitable[int]]
"""One request, given its number; returns the HTTP status of the answer."""

bookings = itertools.count(int(time.time() * 1000))
"""Booking ids that no other run has used."""


class Latencies:
    """Durations from 1 µs to 10 min, to three digits."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, LONGEST_SECONDS * _MICROSECONDS, 3)

    def __len__(self) -> int:
        return int(self._histogram.get_total_count())

    def record(self, seconds: float) -> None:
        self._histogram.record_value(min(max(int(seconds * _MICROSECONDS), 1), LONGEST_SECONDS * _MICROSECONDS))

    def merge(self, other: "Latencies") -> None:
        self._histogram.add(other._histogram)  # noqa: SLF001 - of the same class

    def at(self, percentile: float) -> float | None:
        """Seconds; None if nothing was recorded."""
        return self._histogram.get_value_at_percentile(percentile) / _MICROSECONDS if len(self) else None

    def ms(self, percentile: float) -> float | None:
        seconds = self.at(percentile)
        return None if seconds is None else round(seconds * 1000, 2)

    def curve(self) -> dict[str, float | None]:
        """Milliseconds at the usual percentiles."""
        return {f"{percentile:g}": self.ms(percentile) for percentile in (50, 75, 90, 95, 99, 99.9, 100)}


@dataclass(kw_only=True)
class Outcome:
    """The result of a load; `latencies` are those of requests answered 200."""

    seconds: float = 0.0
    latencies: Latencies = field(default_factory=Latencies)
    statuses: Counter[int] = field(default_factory=Counter)
    missed: int = 0
    """Requests that were due and never sent, because all slots were busy."""

    @property
    def served(self) -> int:
        return self.statuses[OK]

    @property
    def per_second(self) -> float:
        return round(self.served / self.seconds, 1) if self.seconds else 0.0

    @property
    def errors(self) -> int:
        return self.statuses.total() - self.served

    def add(self, status: int, seconds: float) -> None:
        self.statuses[status] += 1
        if status == OK:
            self.latencies.record(seconds)


async def open_loop(call: Call, *, rate: float, seconds: float, at_most: int = 4000) -> Outcome:
    """Sends `rate` requests a second, whether or not earlier ones are answered.

    Latency counts from when a request was due: a delay by this process or by `at_most` requests under way belongs to it
    (otherwise the worst moments would have the fewest samples: coordinated omission). Requests that are due and not
    begun at the end are `missed`.
    """
    outcome = Outcome()
    slots = asyncio.Semaphore(at_most)
    started = time.perf_counter()

    async def one(number: int, due: float) -> None:
        try:
            status = await call(number)
        finally:
            slots.release()
        outcome.add(status, time.perf_counter() - due)

    total = round(rate * seconds)
    async with asyncio.TaskGroup() as group:
        async for number, due in ticks(total, rate=rate):
            await slots.acquire()
            if time.perf_counter() > started + seconds:
                slots.release()
                outcome.missed = total - number
                break
            group.create_task(one(number, due))
    outcome.seconds = time.perf_counter() - started  # the last answers come later than the last request
    return outcome


async def ticks(count: int, *, rate: float) -> AsyncIterator[tuple[int, float]]:
    """Numbers and the moments when they are due (time.perf_counter()); yields none before its moment."""
    started = time.perf_counter()
    for number in range(count):
        due = started + number / rate
        if (early := due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        yield number, due


async def closed_loop(call: Call, *, callers: int, seconds: float) -> Outcome:
    """Each caller sends its next request when the last one is answered: measures throughput, not latency."""
    numbers = itertools.count()
    outcome, started = Outcome(), time.perf_counter()

    async def caller() -> None:
        while (began := time.perf_counter()) < started + seconds:
            outcome.add(await call(next(numbers)), time.perf_counter() - began)

    await asyncio.gather(*(caller() for _ in range(callers)))
    outcome.seconds = time.perf_counter() - started
    return outcome


# --- HTTP -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Answer:
    """`at` is when the last byte arrived (time.time())."""

    status: int
    head: bytes = b""
    content: bytes = b""
    at: float = 0.0

    def header(self, name: str) -> str | None:
        _, found, rest = self.head.lower().partition(f"\r\n{name.lower()}:".encode())
        return rest.partition(b"\r\n")[0].strip().decode() if found else None

    @property
    def body(self) -> dict[str, Any]:
        return cast("dict[str, Any]", json.loads(self.content))


class _Connection(asyncio.Protocol):
    """One kept-alive connection with minimal work, so that the load costs little."""

    def __init__(self) -> None:
        self.is_open = False
        self._answer: asyncio.Future[Answer] | None = None
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, content = self._received.partition(b"\r\n\r\n")
        if not separator or self._answer is None or self._answer.done():
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(content) >= length:
            self._received = b""
            self._answer.set_result(Answer(status=int(head[9:12]), head=head, content=content, at=time.time()))

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        self.is_open = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(Answer(status=LOST, at=time.time()))

    async def send(self, request: bytes) -> Answer:
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        self._transport.close()


class Http:
    """A client of one server with as many kept-alive connections as there are concurrent requests."""

    def __init__(self, base: str) -> None:
        self._port = urlsplit(base).port or 80
        self._free: list[_Connection] = []
        self._all: set[_Connection] = set()

    async def send(self, request: bytes) -> Answer:
        """The answer; `LOST` if there is none."""
        try:
            connection = await self._connection()
        except OSError:
            return Answer(status=LOST, at=time.time())
        try:
            answer = await connection.send(request)
        except BaseException:
            self._drop(connection)
            raise
        if connection.is_open:
            self._free.append(connection)
        else:
            self._drop(connection)
        return answer

    async def get(self, path: str, headers: str = WHO) -> Answer:
        return await self.send(f"GET {path} HTTP/1.1\r\nHost: bench\r\n{headers}\r\n".encode())

    async def post(self, path: str, body: Any, headers: str = WHO) -> Answer:
        content = json.dumps(body)
        head = f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n{headers}"
        return await self.send(f"POST {path} HTTP/1.1\r\nHost: bench\r\n{head}\r\n{content}".encode())

    async def create(self, booking: int) -> Answer:
        """Creates a checkout as the Booking Service does."""
        body = {"bookingId": booking, "userId": 7, "amount": 449.97, "successUrl": None, "cancelUrl": None}
        return await self.post(f"{PATH}/checkout/create", body)

    async def verify(self, session: str, prefer: str = "") -> Answer:
        return await self.get(f"{PATH}/checkout/verify/{session}", f"{WHO}Prefer: {prefer}\r\n" if prefer else WHO)

    async def status(self, session: str) -> Answer:
        return await self.get(f"{PATH}/status/{session}")

    async def pay(self, session: str) -> bool:
        """Whether the sandbox took a good card."""
        answer = await self.post(f"/_sandbox/sessions/{session}/pay", {"card": "4242 4242 4242 4242"}, "")
        return answer.status == OK

    def close(self) -> None:
        for connection in self._all:
            connection.close()

    async def _connection(self) -> _Connection:
        while self._free:
            connection = self._free.pop()
            if connection.is_open:
                return connection
            self._drop(connection)
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, "127.0.0.1", self._port)
        self._all.add(connection)
        return connection

    def _drop(self, connection: _Connection) -> None:
        connection.close()
        self._all.discard(connection)


def creates_of(*clients: Http) -> Call:
    """Creates of new bookings, by each client in turn."""

    async def call(number: int) -> int:
        return (await clients[number % len(clients)].create(next(bookings))).status

    return call


@asynccontextmanager
async def http(base: str) -> AsyncIterator[Http]:
    """A client that closes its connections at the end."""
    client = Http(base)
    try:
        yield client
    finally:
        client.close()
