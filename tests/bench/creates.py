"""Creates per second through the whole system while Stripe takes 300 ms, against the bare SDK doing the same calls.

Both meet the same sandbox process, in alternating slices of one run. The load is a closed loop: each caller sends its
next create when the last one is answered, so `callers / 0.3 s` is what no system can exceed.
"""

import asyncio
import itertools
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import aiohttp
import httpx
import psutil
import stripe

LATENCY_SECONDS = 0.3
CALLERS = (10, 50, 200, 400)
SLICE_SECONDS = 8.0
WARM_UP_SECONDS = 1.5

Call = Callable[[], Awaitable[bool]]
"""One create; whether it was answered with a checkout."""

_bookings = itertools.count(int(time.time() * 1000))


async def measure(stack: dict[str, Any]) -> list[dict[str, Any]]:
    """A row per number of callers; `stack` is what stack.json says."""
    async with httpx.AsyncClient(trust_env=False) as client:
        await client.post(f"{stack['sandbox']}/_sandbox/config", json={"latency_ms": int(LATENCY_SECONDS * 1000)})
    rows = []
    for callers in CALLERS:
        async with _bare(stack["sandbox"], callers) as bare:
            alone = await _load(bare, callers, {})
        async with _http(stack["bridge"], callers) as create:
            through = await _load(create, callers, stack["pids"])
        row = {
            "callers": callers,
            "ceiling_per_second": round(callers / LATENCY_SECONDS, 1),
            "bare_sdk_per_second": alone["per_second"],
            "creates_per_second": through["per_second"],
            "ratio_to_bare_sdk": round(through["per_second"] / alone["per_second"], 2),
            "errors": through["errors"],
            "p50_ms": through["p50_ms"],
            "p99_ms": through["p99_ms"],
            "cores_used": through["cores_used"],
            "cpu_ms_per_create": through["cpu_ms_per_create"],
        }
        rows.append(row)
        sys.stderr.write(f"  {callers} callers: {row['creates_per_second']}/s\n")
    return rows


async def _load(call: Call, callers: int, pids: dict[str, int]) -> dict[str, Any]:
    """Run `callers` loops for a slice, after a warm-up."""
    await _loops(call, callers, WARM_UP_SECONDS)
    before = _cpu(pids)
    started = time.perf_counter()
    latencies, errors = await _loops(call, callers, SLICE_SECONDS)
    seconds = time.perf_counter() - started
    used = {name: (after - before[name]) / seconds for name, after in _cpu(pids).items()}
    ours = sum(used[name] for name in used if name in {"bridge", "service", "rabbitmq", "postgres"})
    return {
        "errors": errors,
        "per_second": round(len(latencies) / seconds, 1),
        "p50_ms": round(statistics.median(latencies) * 1000, 1),
        "p99_ms": round(statistics.quantiles(latencies, n=100)[98] * 1000, 1),
        "cores_used": {name: round(share, 2) for name, share in used.items()},
        "cpu_ms_per_create": round(ours * 1000 * seconds / len(latencies), 2),
    }


async def _loops(call: Call, callers: int, seconds: float) -> tuple[list[float], int]:
    """The latencies of the creates that succeeded, and how many did not."""
    end = time.perf_counter() + seconds

    async def caller() -> list[float]:
        latencies = []
        while (started := time.perf_counter()) < end:
            if await call():
                latencies.append(time.perf_counter() - started)
            else:
                errors.append(1)
        return latencies

    errors: list[int] = []
    done = await asyncio.gather(*(caller() for _ in range(callers)))
    return [latency for each in done for latency in each], len(errors)


def _cpu(pids: dict[str, int]) -> dict[str, float]:
    """Seconds of processor time so far: each part with its children, and this process (the load)."""
    seconds = {name: _tree_seconds(psutil.Process(pid)) for name, pid in pids.items() if name != "epmd"}
    return {**seconds, "load": _seconds(psutil.Process())}


def _tree_seconds(process: psutil.Process) -> float:
    return sum(_seconds(each) for each in (process, *process.children(recursive=True)))


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


# --- the bare SDK -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _bare(sandbox: str, callers: int) -> AsyncIterator[Call]:
    """The same request as the service's, sent by the SDK and nothing else."""
    stripe.enable_telemetry = False
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=callers)) as session:
        http_client = stripe.AIOHTTPClient(session=session)
        client = stripe.StripeClient("sk_test_benchmark0001", http_client=http_client, base_addresses={"api": sandbox})

        async def call() -> bool:
            price = {"currency": "inr", "unit_amount": 44997, "product_data": {"name": "Booking"}}
            params: Any = {
                "mode": "payment",
                "line_items": [{"price_data": price, "quantity": 1}],
                "success_url": "http://127.0.0.1/success",
                "client_reference_id": str(next(_bookings)),
            }
            await client.v1.checkout.sessions.create_async(params)
            return True

        yield call


# --- the whole system over HTTP ---------------------------------------------------------------------------------------


class _Client(asyncio.Protocol):
    """One kept-alive connection that does as little as possible, so that the load costs little."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[bytes] | None = None
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, content = self._received.partition(b"\r\n\r\n")
        if not separator or self._answer is None:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(content) >= length:
            self._received = b""
            self._answer.set_result(head)

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or ConnectionError("closed"))

    async def create(self) -> bool:
        booking = next(_bookings)
        content = json.dumps(
            {"bookingId": booking, "userId": 7, "amount": 449.97, "successUrl": None, "cancelUrl": None}
        ).encode()
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(
            b"POST /api/v1/internal/payments/checkout/create HTTP/1.1\r\nHost: bench\r\nX-User-Id: 7\r\n"
            b"X-User-Roles: USER,SERVICE_ACCOUNT\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(content), content)
        )
        head = await self._answer
        return head.startswith(b"HTTP/1.1 200")

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


@asynccontextmanager
async def _http(bridge: str, callers: int) -> AsyncIterator[Call]:
    loop = asyncio.get_running_loop()
    port = int(bridge.rpartition(":")[2])
    clients = [(await loop.create_connection(_Client, "127.0.0.1", port))[1] for _ in range(callers)]
    free = list(clients)

    async def call() -> bool:
        client = free.pop()
        created = await client.create()
        free.append(client)
        return created

    yield call
    for client in clients:
        client.close()
