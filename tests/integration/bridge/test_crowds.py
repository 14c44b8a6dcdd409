"""B10 Callers who are slow, silent, endless or many: others are served meanwhile, and the bridge stays small."""

import asyncio
import logging
import resource
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import httpx
import psutil
import pytest

from tests.integration.bridge.conftest import BASE, IDENTITY, until
from tests.integration.bridge.processes import running
from tests.integration.bridge.test_uvicorn_protocol import GOOD, head
from tests.kit.lifetimes import beside

_log = logging.getLogger(__name__)

HALF_OPEN = 1000
SLOW_HEADS = SLOW_BODIES = 50
SLOW_READERS, ANSWERS = 5, 400
HUGE_BODIES, HUGE_BYTES, PIECE_BYTES = 20, 50_000_000, 65_536
MAX_GROWTH_MB = 150
"""Of the bridge's memory under all of them. One fifth of what the huge bodies are together would break it."""
FILES = HALF_OPEN + 500
GONE_SECONDS = 60.0
CLOSED = 0
"""No answer: the connection was ended."""

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
def many_files() -> None:
    """So many sockets, here and in the processes started from here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FILES:
        pytest.skip(f"needs {FILES} open files at once (ulimit -Hn is {hard})")
    if soft != resource.RLIM_INFINITY and soft < FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, hard))


@asynccontextmanager
async def connected(port: int, buffer_bytes: int | None = None) -> AsyncIterator[Connection]:
    connection = socket.socket()
    connection.setblocking(False)  # noqa: FBT003 - its only argument
    if buffer_bytes is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=connection)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def answered(reader: asyncio.StreamReader) -> int:
    """The status of the one answer, or CLOSED."""
    line = b""
    with suppress(ConnectionError):
        line = await reader.readline()
        await reader.read()
    return int(line.split()[1]) if line else CLOSED


async def sending(port: int, beginning: bytes, piece: bytes = b"", times: int = 0, pause: float = 0.0) -> int:
    """The beginning, then the piece so often, for as long as the bridge takes it; what that ends with."""

    async def pour(writer: asyncio.StreamWriter) -> None:
        writer.write(beginning)
        with suppress(ConnectionError):
            for _ in range(times):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause)

    async with connected(port) as (reader, writer):
        pouring = asyncio.create_task(pour(writer))
        try:
            return await answered(reader)
        finally:
            pouring.cancel()


async def dripping(port: int, beginning: bytes) -> int:
    return await sending(port, beginning, b"x", times=10_000, pause=0.5)


async def not_reading(port: int, enough: asyncio.Event) -> int:
    """Asks for the document again and again and takes none of the answers."""
    async with connected(port, buffer_bytes=4096) as (_, writer):
        writer.write(b"GET /v3/api-docs HTTP/1.1\r\nHost: bridge\r\n\r\n" * ANSWERS)
        await enough.wait()
    return CLOSED


@dataclass(kw_only=True)
class Watch:
    """A caller who behaves, and what the bridge takes of the machine meanwhile."""

    port: int
    pid: int
    statuses: Counter[int] = field(default_factory=Counter)
    peak_mb: float = 0.0

    @property
    def memory_mb(self) -> float:
        return float(psutil.Process(self.pid).memory_info().rss) / 2**20

    @property
    def connections(self) -> int:
        """To the bridge's port, on the bridge's side."""
        found = psutil.Process(self.pid).net_connections("tcp")
        return sum(each.laddr.port == self.port and bool(each.raddr) for each in found)

    async def goes_on(self) -> None:
        """Calls, one after another."""
        base = f"http://127.0.0.1:{self.port}{BASE}"
        async with httpx.AsyncClient(base_url=base, headers=IDENTITY, timeout=60) as client:
            while True:
                created = await client.post(
                    "/checkout/create", content=GOOD, headers={"Content-Type": "application/json"}
                )
                status = await client.get("/status/cs_test_a1")
                self.statuses.update([created.status_code, status.status_code])
                self.peak_mb = max(self.peak_mb, self.memory_mb)


def crowds(port: int) -> dict[str, list[Callable[[], Awaitable[int]]]]:
    """Each crowd's calls; what each ends with."""
    return {
        "silent": [lambda: sending(port, b"")] * (HALF_OPEN // 2),
        "half a head": [lambda: sending(port, b"GET / HTTP/1.1\r\nX-Half: ")] * (HALF_OPEN // 2),
        "slow head": [lambda: dripping(port, b"GET / HTTP/1.1\r\nX-Slow: ")] * SLOW_HEADS,
        "slow body": [lambda: dripping(port, head("Content-Length: 1000"))] * SLOW_BODIES,
        **{name: [call] * HUGE_BODIES for name, call in endless(port, HUGE_BYTES // PIECE_BYTES).items()},
    }


def endless(port: int, pieces: int) -> dict[str, Callable[[], Awaitable[int]]]:
    """So much of a body of 50 MB, of a length that is said before and of one that is not."""
    length, chunked = head(f"Content-Length: {HUGE_BYTES}"), head("Transfer-Encoding: chunked")
    piece = b"x" * PIECE_BYTES
    return {
        "50 MB": lambda: sending(port, length, piece, pieces),
        "50 MB in chunks": lambda: sending(port, chunked, b"%x\r\n%b\r\n" % (PIECE_BYTES, piece), pieces),
    }


@pytest.mark.usefixtures("many_files", "peer")
async def test_bad_crowds_disturb_nobody_and_are_gone_in_the_end(amqp_url: str) -> None:
    # No line for each call: nobody reads them here, and a full pipe would stop the bridge.
    async with running(amqp_url, LOG_LEVEL="warning") as bridge:
        port = bridge.port
        watch = Watch(port=port, pid=bridge.process.pid)
        async with beside(watch.goes_on()):
            before, enough = watch.memory_mb, asyncio.Event()
            readers = [asyncio.create_task(not_reading(port, enough)) for _ in range(SLOW_READERS)]
            calls = crowds(port)
            async with asyncio.timeout(GONE_SECONDS * 2):
                results = await asyncio.gather(*(asyncio.gather(*(call() for call in each)) for each in calls.values()))
            ended = dict(zip(calls, map(Counter, results), strict=True))
            served = watch.statuses.total()
            enough.set()
            await asyncio.gather(*readers)
            # One is left, that of the caller who behaves.
            await until(lambda: watch.connections <= 1 and watch.statuses.total() > served, GONE_SECONDS)
            statuses = {name: await call() for name, call in endless(port, 1).items()}
        growth = watch.peak_mb - before
        _log.info("served %s; crowds %s; memory %.0f MB + %.0f MB", watch.statuses, ended, before, growth)
        assert set(watch.statuses) == {200}
        assert set(ended["silent"]) == {CLOSED}
        for slow in ("half a head", "slow head", "slow body"):
            assert set(ended[slow]) == {408}, slow
        # Whoever goes on sending to a connection that is closed may lose the answer; whoever stops to read has it.
        assert set(statuses.values()) == {413}
        for name in statuses:
            assert set(ended[name]) <= {413, CLOSED}
        assert growth < MAX_GROWTH_MB
        assert bridge.process.returncode is None
