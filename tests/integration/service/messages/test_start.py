"""The service starts while RabbitMQ itself is starting, or says in one sentence why it cannot."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

import pytest

from contracts import topology
from service.bootstrap import StartError
from tests.integration.service.messages.rig import CREATE, Rig, a_create, around, serving, until

CUTS = 10
"""Connections that end early: during the handshake, then at every step of declaring the first queues."""

SERVICE_CONNECTIONS = 2
"""It consumes and publishes on separate ones; what was begun in vain must not stay."""

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Link:
    """Connections so far, and those that are open."""

    all: int = 0
    open: int = 0


@asynccontextmanager
async def broker_that_ends_connections(amqp_url: str, *, cuts: int) -> AsyncIterator[tuple[str, Link]]:
    """The broker behind a link that ends the n-th connection after the broker's n-th piece, the first ones only."""
    parts = urlsplit(amqp_url)
    link = Link()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, link.all, link.open = link.all, link.all + 1, link.open + 1
        broker_reader, broker_writer = await asyncio.open_connection(parts.hostname, parts.port)

        async def commands() -> None:
            with suppress(ConnectionError):
                while piece := await reader.read(65536):
                    broker_writer.write(piece)
            broker_writer.close()

        sending = asyncio.create_task(commands())
        pieces = 0
        with suppress(ConnectionError):
            while (number >= cuts or pieces < number) and (piece := await broker_reader.read(65536)):
                writer.write(piece)
                pieces += 1
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        broker_writer.close()
        writer.close()
        link.open -= 1

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    credentials = parts.netloc.rpartition("@")[0]
    async with server:
        yield parts._replace(netloc=f"{credentials}@127.0.0.1:{port}").geturl(), link


async def _is_ready(rig: Rig) -> bool:
    return (await rig.ready()).status_code == HTTPStatus.OK


async def test_a_broker_that_ends_while_the_service_connects_and_declares_delays_the_start_and_no_more(
    amqp_url: str, migrated_url: str
) -> None:
    """F19 Broker restarted: the service comes up by itself, whatever step the end of a connection falls upon."""
    async with (
        broker_that_ends_connections(amqp_url, cuts=CUTS) as (broken_url, link),
        around(amqp_url, migrated_url) as rig,
        serving(rig.settings.model_copy(update={"amqp_url": type(rig.settings.amqp_url)(broken_url)})) as rig.service,
    ):
        assert link.all > CUTS
        await until(lambda: _is_ready(rig))
        assert (await rig.ask(CREATE, a_create())).type == "checkout.create.reply"
        await until(lambda: link.open == SERVICE_CONNECTIONS)


async def test_a_queue_that_somebody_made_with_other_arguments_fails_the_start_at_once_with_a_sentence(
    amqp_url: str, migrated_url: str
) -> None:
    queue = topology.QUEUES[-1]
    async with around(amqp_url, migrated_url) as rig:
        await rig.looking.queue_delete(queue.name)
        await rig.looking.queue_declare(queue.name, durable=True)
        try:
            with pytest.raises(StartError, match=rf"RabbitMQ \(AMQP_URL\) refuses .*{queue.name}"):
                async with serving(rig.settings):
                    pass
        finally:
            await rig.looking.queue_delete(queue.name)
            await rig.looking.queue_declare(queue.name, durable=True, arguments={**queue.arguments})
            if queue.exchange is not None:
                await rig.looking.queue_bind(queue.name, queue.exchange.name, queue.routing_key)
