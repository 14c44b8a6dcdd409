"""A service starts while RabbitMQ itself is starting, or says why it cannot; and a stop answers whoever waits."""

import asyncio
from typing import Any

import pytest

from contracts import envelope, topology
from service.entrypoints import broker as brokers
from service.startup import StartError
from tests.integration.faults.stack import breakable
from tests.integration.service.messages.rig import CREATE, VERIFY, a_create, around, serving, until
from tests.integration.service.messages.test_long_poll import LONG, NO_HURRY, pending, status
from tests.kit.brokers import RoleUrl
from tools.chaos.proxy import CHUNK, Proxy

SERVICE_CONNECTIONS = 2
"""It consumes and publishes on separate ones; what was begun in vain must not stay."""


class Cutting(Proxy):
    """Ends `cuts` connections from the `first` one on, each after some more of the broker's `pieces` than the last."""

    first = 0
    cuts = 10
    pieces = 1
    """So they end during the handshake, then at every step of declaring the first queues."""

    def __init__(self, name: str, target_port: int, *, target_host: str) -> None:
        super().__init__(name, target_port, target_host=target_host)
        self.all = 0
        self._pieces: dict[asyncio.StreamWriter, int] = {}

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if 0 <= self.all - self.first < self.cuts:
            self._pieces[writer] = (self.all - self.first) * self.pieces
        self.all += 1
        await super()._forward(reader, writer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if writer not in self._pieces:
            await super()._pump(reader, writer)
            return
        for _ in range(self._pieces[writer]):
            writer.write(await reader.read(CHUNK))
            await writer.drain()


class CuttingConsumers(Cutting):
    """Ends the connections by which the service would consume, each after more pieces: those before publish."""

    first = 2
    cuts = 8
    pieces = 2


@pytest.mark.parametrize("cutting", [Cutting, CuttingConsumers], ids=["connects", "consumes"])
async def test_a_broker_that_ends_while_the_service_connects_declares_and_consumes_delays_the_start_and_no_more(
    amqp_url: str, migrated_url: str, cutting: type[Cutting]
) -> None:
    """F19 Broker restarted: the service comes up by itself, whatever step the end of a connection falls upon.

    It may be there at first, and go while the service compares its payments with Stripe.
    """
    async with (
        around(amqp_url, migrated_url) as rig,
        breakable(rig.settings, "amqp_url", cutting) as (link, settings),
        serving(settings) as rig.service,
    ):
        assert link.all > link.first + link.cuts
        await until(rig.is_ready)
        assert (await rig.ask(CREATE, a_create())).type == "checkout.create.reply"
        await until(lambda: link.connections == SERVICE_CONNECTIONS)


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
            await brokers.declare(amqp_url)


async def test_who_waits_occupies_nothing_and_a_stop_answers_everybody(
    amqp_url: str, role_url: RoleUrl, migrated_url: str
) -> None:
    """With room for one command at a time fifty replies are pending, and others are served as ever."""
    options: dict[str, Any] = {"service_url": role_url("payment-service"), "stripe_concurrency": 1}
    async with around(amqp_url, migrated_url, **options) as rig:
        async with serving(rig.settings) as rig.service:
            session = (await rig.created())["sessionId"]
            marks = [
                await rig.ask_later(VERIFY, {"sessionId": session}, headers=LONG, expiration=NO_HURRY)
                for _ in range(50)
            ]
            await pending(rig, 50)
            other = (await rig.created())["sessionId"]
            assert (await rig.verified(other))["paymentStatus"] == "PENDING"
            assert rig.replies == [each for each in rig.replies if each.properties.correlation_id not in marks]
            busy = "SELECT count(*) AS busy FROM pg_stat_activity WHERE state <> 'idle' AND pid <> pg_backend_pid()"

            async def nobody_is_busy() -> bool:
                return [row["busy"] for row in await rig.sql(f"{busy} AND datname = current_database()")] == [0]

            await until(nobody_is_busy)
        for mark in marks:
            reply = await rig.reply_to(mark)
            assert (status(reply), envelope.WAIT_SECONDS in reply.headers) == ("PENDING", False)
