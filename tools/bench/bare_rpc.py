"""Two request-reply round trips over RabbitMQ to the same echo responder: by plain aio-pika, and by the bridge.

Responder and bridge run in processes of their own; the bridge is called over kept-alive connections.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import aio_pika
import aiormq
import httpx
import uvloop

from contracts import envelope, topology
from contracts.commands import CommandType
from tools.bench.load_generator import OK, Call, http
from tools.devstack import processes

CALLERS = 64
START_SECONDS = 30.0
_SESSION = "cs_test_a1B2c3D4"
_COMMAND = b'{"sessionId":"cs_test_a1B2c3D4"}'
_REPLY = (
    b'{"paymentId":1,"bookingId":2,"paymentStatus":"PENDING","transactionId":"cs_test_a1B2c3D4",'
    b'"amount":540.9,"message":"Waiting for the payer."}'
)


@asynccontextmanager
async def round_trips(amqp_url: str) -> AsyncIterator[tuple[Call, Call]]:
    """A call by aio-pika and a call by the bridge, on a broker without other clients.

    Raises:
        TimeoutError: the responder or the bridge did not start.
    """
    async with (
        _declared(amqp_url),
        _process("-m", "tools.bench.bare_rpc", amqp_url),
        _bridge(amqp_url) as base,
        _bare(amqp_url) as bare,
        http(base) as client,
    ):

        async def by_http(_: int) -> int:
            answer = await client.verify(_SESSION)
            return answer.status if answer.content == _REPLY else -answer.status

        async with asyncio.timeout(START_SECONDS):
            await bare(0)  # waits for the responder
            while await by_http(0) != OK:  # noqa: ASYNC110 - another process, no event to wait for
                await asyncio.sleep(0.1)
        yield bare, by_http


@asynccontextmanager
async def _bare(amqp_url: str) -> AsyncIterator[Call]:
    pending: dict[str, asyncio.Future[bytes]] = {}

    async def on_reply(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        pending.pop(message.correlation_id or "").set_result(message.body)

    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(topology.COMMANDS.name)
        replies = await channel.get_queue(envelope.DIRECT_REPLY_TO)
        await replies.consume(on_reply, no_ack=True)

        async def call(_: int) -> int:
            correlation_id = str(uuid4())
            pending[correlation_id] = reply = asyncio.get_running_loop().create_future()
            command = aio_pika.Message(
                _COMMAND,
                content_type=envelope.CONTENT_TYPE,
                type=CommandType.VERIFY_CHECKOUT,
                message_id=str(uuid4()),
                correlation_id=correlation_id,
                reply_to=envelope.DIRECT_REPLY_TO,
            )
            await exchange.publish(command, CommandType.VERIFY_CHECKOUT)
            return OK if await reply == _REPLY else 0

        yield call


@asynccontextmanager
async def _bridge(amqp_url: str) -> AsyncIterator[str]:
    (port,) = processes.free_ports(1)
    environment = {"AMQP_URL": amqp_url, "BRIDGE_PORT": str(port), "LOG_FORMAT": "json", "LOG_LEVEL": "warning"}
    base = f"http://127.0.0.1:{port}"
    async with _process("-m", "bridge", "run", environment=environment), httpx.AsyncClient(trust_env=False) as client:
        async with asyncio.timeout(START_SECONDS):
            while not await processes.is_serving(client, f"{base}/actuator/health/readiness"):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.1)
        yield base


@asynccontextmanager
async def _process(*arguments: str, environment: dict[str, str] | None = None) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env=os.environ | (environment or {}), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _respond(amqp_url: str) -> None:
    """Answers every verify command until the process is ended."""
    async with aiormq.connect(amqp_url) as connection:
        channel: Any = await connection.channel(publisher_confirms=False)
        await channel.basic_qos(prefetch_count=4 * CALLERS)

        async def answer(message: aiormq.abc.DeliveredMessage) -> None:
            command = message.header.properties
            properties = aiormq.spec.Basic.Properties(
                correlation_id=command.correlation_id, message_type=envelope.reply_type(command.message_type or "")
            )
            await channel.basic_publish(_REPLY, routing_key=command.reply_to or "", properties=properties, wait=False)
            await channel.basic_ack(message.delivery_tag, wait=False)

        await channel.basic_consume(topology.COMMAND_QUEUES[CommandType.VERIFY_CHECKOUT].name, answer)
        await connection.closing


@asynccontextmanager
async def _declared(amqp_url: str) -> AsyncIterator[None]:
    """Declares the part of the service's topology that a verify needs, exactly as the service does."""
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
    uvloop.run(_respond(sys.argv[1]))
