"""How much of a bare request-reply round trip over RabbitMQ is left when HTTP stands in front of it.

Both sides go to the same echo responder in a process of its own, with as many callers, in alternating slices of one
run: the machine's noise then hits both. `bare` is aio-pika as one would write it down; `http` is the bridge in its own
process, called over kept-alive connections by a client that does as little as possible.
"""

import asyncio
import os
import socket
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast
from uuid import uuid4

import aio_pika
import aiormq
import uvloop

from contracts import envelope, topology
from contracts.commands import CommandType

CALLERS = 64
SLICE_SECONDS = 1.5
SLICES = 10

_COMMAND = b'{"sessionId":"cs_test_a1B2c3D4"}'
_REPLY = (
    b'{"paymentId":1,"bookingId":2,"paymentStatus":"PENDING","transactionId":"cs_test_a1B2c3D4",'
    b'"amount":540.9,"message":"Waiting for the payer."}'
)
_REQUEST = (
    b"GET /api/v1/internal/payments/checkout/verify/cs_test_a1B2c3D4 HTTP/1.1\r\nHost: bench\r\n"
    b"X-User-Id: 7\r\nX-User-Name: bench\r\nX-User-Roles: USER,SERVICE_ACCOUNT\r\n\r\n"
)

Call = Callable[[], Awaitable[None]]


async def measure(amqp_url: str) -> dict[str, float]:
    """Messages per second of both ways, with the lowest and highest slice, and the median ratio of neighbours.

    Raises:
        TimeoutError: something did not start or did not answer.
    """
    async with asyncio.timeout(SLICES * SLICE_SECONDS * 2 + 30):
        return await _measure(amqp_url)


async def _measure(amqp_url: str) -> dict[str, float]:
    async with (
        _declared(amqp_url),
        _process("respond", amqp_url),
        _bridge(amqp_url) as port,
        _bare(amqp_url) as bare,
        _http(port) as http,
    ):
        await bare()  # waits until the responder is there
        await _rate(bare, 1.0)
        await _rate(http, 1.0)
        rates: dict[str, list[float]] = {"bare": [], "http": []}
        for _ in range(SLICES):
            rates["bare"].append(await _rate(bare, SLICE_SECONDS))
            rates["http"].append(await _rate(http, SLICE_SECONDS))
    figures = {"callers": float(CALLERS)}
    for name, values in rates.items():
        figures |= {
            f"{name}_per_second": statistics.median(values),
            f"{name}_lowest": min(values),
            f"{name}_highest": max(values),
        }
    ratios = [http / bare for http, bare in zip(rates["http"], rates["bare"], strict=True)]
    figures |= {"ratio": statistics.median(ratios), "ratio_lowest": min(ratios), "ratio_highest": max(ratios)}
    return figures


async def _rate(call: Call, seconds: float) -> float:
    end = time.perf_counter() + seconds

    async def caller() -> int:
        done = 0
        while time.perf_counter() < end:
            await call()
            done += 1
        return done

    started = time.perf_counter()
    done = await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return sum(done) / (time.perf_counter() - started)


# --- aio-pika alone ---------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _bare(amqp_url: str) -> AsyncIterator[Call]:
    waiting: dict[str, asyncio.Future[bytes]] = {}

    async def on_reply(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        waiting.pop(message.correlation_id or "").set_result(message.body)

    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(topology.COMMANDS.name)
        replies = await channel.get_queue(envelope.DIRECT_REPLY_TO)
        await replies.consume(on_reply, no_ack=True)

        async def call() -> None:
            correlation_id = str(uuid4())
            waiting[correlation_id] = reply = asyncio.get_running_loop().create_future()
            command = aio_pika.Message(
                _COMMAND,
                content_type=envelope.CONTENT_TYPE,
                type=CommandType.VERIFY_CHECKOUT,
                message_id=str(uuid4()),
                correlation_id=correlation_id,
                reply_to=envelope.DIRECT_REPLY_TO,
            )
            await exchange.publish(command, CommandType.VERIFY_CHECKOUT)
            await reply

        yield call


# --- the bridge -------------------------------------------------------------------------------------------------------


class _Client(asyncio.Protocol):
    """One kept-alive connection; counts on answers that come in one or two pieces, as the bridge's do."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[None] | None = None
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, content = self._received.partition(b"\r\n\r\n")
        if separator and len(content) >= len(_REPLY) and self._answer is not None:
            self._received = b""
            if head.startswith(b"HTTP/1.1 200") and content == _REPLY:
                self._answer.set_result(None)
            else:
                self._answer.set_exception(RuntimeError(head.decode()))

    async def call(self) -> None:
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(_REQUEST)
        await self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


@asynccontextmanager
async def _http(port: int) -> AsyncIterator[Call]:
    loop = asyncio.get_running_loop()
    clients = [(await loop.create_connection(_Client, "127.0.0.1", port))[1] for _ in range(CALLERS)]
    free = list(clients)

    async def call() -> None:
        client = free.pop()
        await client.call()
        free.append(client)

    yield call
    for client in clients:
        client.close()


@asynccontextmanager
async def _bridge(amqp_url: str) -> AsyncIterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    environment = {"AMQP_URL": amqp_url, "BRIDGE_PORT": str(port), "LOG_FORMAT": "json"}
    async with _process(module="bridge", argument="run", environment=environment):
        for _ in range(100):
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET /actuator/health/readiness HTTP/1.0\r\n\r\n")
                answer = await reader.read()
                writer.close()
                if b" 200 " in answer:
                    break
            except OSError:
                pass
            await asyncio.sleep(0.1)
        yield port


# --- processes --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _process(
    argument: str, *arguments: str, module: str = "tests.bench.requester", environment: dict[str, str] | None = None
) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        argument,
        *arguments,
        env=os.environ | (environment or {}),
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _respond(amqp_url: str) -> None:
    """Echo every verify command until the process is ended."""
    async with aiormq.connect(amqp_url) as connection:
        channel: Any = await connection.channel(publisher_confirms=False)
        await channel.basic_qos(prefetch_count=4 * CALLERS)

        async def answer(message: aiormq.abc.DeliveredMessage) -> None:
            command = message.header.properties
            properties = aiormq.spec.Basic.Properties(
                correlation_id=command.correlation_id,
                message_type=envelope.reply_type(command.message_type or ""),
            )
            await channel.basic_publish(_REPLY, routing_key=command.reply_to or "", properties=properties, wait=False)
            await channel.basic_ack(message.delivery_tag, wait=False)

        await channel.basic_consume(topology.COMMAND_QUEUES[CommandType.VERIFY_CHECKOUT].name, answer)
        await connection.closing


@asynccontextmanager
async def _declared(amqp_url: str) -> AsyncIterator[None]:
    """The part of the service's topology that verifying needs, exactly as the service declares it."""
    queue = topology.COMMAND_QUEUES[CommandType.VERIFY_CHECKOUT]
    async with aiormq.connect(amqp_url) as connection:
        channel = await connection.channel()
        for exchange in topology.EXCHANGES:
            await channel.exchange_declare(exchange.name, exchange_type=exchange.type, durable=True)
        await channel.queue_declare(queue.name, durable=True, arguments={**queue.arguments})
        await channel.queue_bind(queue.name, topology.COMMANDS.name, queue.routing_key)
        await channel.queue_purge(queue.name)
    yield


if __name__ == "__main__":
    mode, url = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if mode == "respond":
            runner.run(_respond(url))
        else:
            for figure, number in runner.run(measure(url)).items():
                sys.stdout.write(f"{figure:18} {number:9.2f}\n")
