"""AMQP_URL with two addresses: each is tried in its turn, at the start and after each loss.

Both lead to one broker, through proxies that are killed and come back.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import aio_pika
import pytest
from aio_pika import RobustConnection
from faststream._internal.broker import BrokerUsecase
from faststream.rabbit import RabbitBroker
from pydantic import SecretStr

from bridge import errors
from contracts import topology
from contracts.commands import CommandType
from runtime import broker_check
from runtime.amqp_nodes import node_urls
from runtime.dead_letters import queues
from service.entrypoints import broker as brokers
from service.entrypoints import connection_log
from service.entrypoints.cluster_connection import ClusterConnection, connection_class
from tests.integration.bridge.peer import Gate, Peer
from tests.integration.bridge.test_rpc_client import ask, connected, outcome
from tests.integration.service.messages.rig import CREATE, PATIENT, a_create, around, serving
from tests.kit.until import until
from tools.chaos.proxy import Mode, Proxy


class Cluster:
    """Two addresses of one broker, and the URL that names both."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.first, self.second = (Proxy(name, parts.port or 5672, target_host=str(parts.hostname)) for name in "12")
        self._parts = parts

    @property
    def url(self) -> str:
        credentials = self._parts.netloc.rpartition("@")[0]
        nodes = f"127.0.0.1:{self.first.port},127.0.0.1:{self.second.port}"
        return self._parts._replace(netloc=f"{credentials}@{nodes}").geturl()

    def connections(self) -> tuple[int, int]:
        return self.first.connections, self.second.connections


@pytest.fixture
async def cluster(amqp_url: str) -> AsyncIterator[Cluster]:
    cluster = Cluster(amqp_url)
    await cluster.first.start()
    await cluster.second.start()
    yield cluster
    await cluster.first.stop()
    await cluster.second.stop()


async def test_the_bridge_goes_past_a_dead_node_and_on_to_the_other_when_its_own_dies(
    cluster: Cluster, amqp_url: str
) -> None:
    gate = Gate()
    await cluster.first.set(Mode.DOWN)
    async with Peer(amqp_url) as peer, connected(cluster.url) as rpc_client:
        await ask(rpc_client)
        assert cluster.connections() == (0, 1)
        await cluster.first.set(Mode.NORMAL)
        peer.handler = gate
        waiting = [asyncio.create_task(outcome(rpc_client, number)) for number in range(5)]
        await until(lambda: len(peer.commands) == 6)
        await cluster.second.set(Mode.DOWN)
        assert await asyncio.gather(*waiting) == [errors.UNAVAILABLE] * 5
        gate.opened.set()
        await until(lambda: rpc_client.ready)
        await ask(rpc_client)
        assert cluster.connections() == (1, 0)


async def test_the_services_connection_goes_past_a_dead_node_and_on_when_its_own_dies(cluster: Cluster) -> None:
    await cluster.first.set(Mode.DOWN)
    connection = await aio_pika.connect_robust(
        node_urls(cluster.url)[0], timeout=5, reconnect_interval=0.1, connection_class=connection_class(cluster.url)
    )
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        assert cluster.connections() == (0, 1)
        await cluster.first.set(Mode.NORMAL)
        await cluster.second.set(Mode.DOWN)

        async def published() -> bool:
            with contextlib.suppress(*brokers.UNREACHABLE):
                await channel.default_exchange.publish(aio_pika.Message(b"x"), queue.name)
                return True
            return False

        await until(published)
        assert cluster.connections() == (1, 0)
    assert cluster.connections() == (0, 0)


async def test_a_node_that_falls_silent_is_left_for_the_other_by_bridge_and_service(
    cluster: Cluster, amqp_url: str
) -> None:
    async with Peer(amqp_url), connected(cluster.url) as rpc_client:
        publishing, consuming = await brokers.connected(cluster.url), brokers.CommandBroker(cluster.url)
        await consuming.connect()
        await ask(rpc_client)
        assert cluster.connections() == (3, 0)
        await cluster.first.set(Mode.BLACK_HOLE)
        await until(lambda: cluster.second.connections == 3)
        await until(lambda: rpc_client.ready)
        await ask(rpc_client)
        await cluster.first.set(Mode.NORMAL)
        await brokers.disconnect(publishing.close)
        await brokers.disconnect(consuming.stop)


def test_what_is_overridden_in_the_libraries_is_what_they_call() -> None:
    """It is private there: a release that renames it would leave a list of nodes without effect."""
    overridden, caller = "_RobustConnection__connect_transport", "_RobustConnection__connection_factory"
    assert overridden in vars(ClusterConnection)
    assert overridden in vars(RobustConnection)
    assert overridden in vars(RobustConnection)[caller].__code__.co_names
    assert "_connect" in vars(brokers.CommandBroker)
    assert "_connect" in vars(RabbitBroker)
    assert "_connect" in vars(BrokerUsecase)["connect"].__code__.co_names


async def test_faststreams_broker_goes_past_a_dead_node(cluster: Cluster) -> None:
    await cluster.first.set(Mode.DOWN)
    broker = brokers.CommandBroker(cluster.url)
    await broker.connect()
    assert cluster.connections() == (0, 1)
    await brokers.disconnect(broker.stop)


async def test_the_commands_of_an_operator_go_past_a_dead_node(cluster: Cluster) -> None:
    await cluster.first.set(Mode.DOWN)
    await brokers.declare(cluster.url)
    async with queues.opened(cluster.url) as opened:
        name = topology.DEAD_LETTER_QUEUES[CommandType.CREATE_CHECKOUT].name
        assert await opened._waiting(name) >= 0
    assert await broker_check.problem_of(cluster.url) is None
    port = cluster.second.port
    await cluster.second.set(Mode.DOWN)
    told = await broker_check.problem_of(cluster.url)
    assert told == "\n".join(
        f"RabbitMQ (AMQP_URL) at 127.0.0.1:{each} cannot be reached (AMQPConnectionError)."
        for each in (cluster.first.port, port)
    )
    with pytest.raises(queues.BrokerError, match="Cannot connect: RabbitMQ"):
        async with queues.opened(cluster.url):
            pass


async def test_a_node_that_refuses_us_is_told_beside_one_that_is_down(amqp_url: str) -> None:
    parts = urlsplit(amqp_url)
    wrong = parts._replace(netloc=f"nobody:wrong@{parts.netloc.rpartition('@')[2]},127.0.0.1:1").geturl()
    told = (await broker_check.problem_of(wrong) or "").splitlines()
    assert told == [
        f"RabbitMQ (AMQP_URL) at {parts.hostname}:{parts.port} refuses the user or its password.",
        "RabbitMQ (AMQP_URL) at 127.0.0.1:1 cannot be reached (AMQPConnectionError).",
    ]


@pytest.mark.parametrize("death", [Mode.DOWN, Mode.BLACK_HOLE])
async def test_a_service_whose_node_dies_or_hangs_goes_on_at_the_other_and_nothing_is_lost(
    cluster: Cluster, amqp_url: str, migrated_url: str, caplog: pytest.LogCaptureFixture, death: Mode
) -> None:
    """T16 It starts past a dead node, and loses its own twice in the midst of commands; each loss is one line."""
    await cluster.first.set(Mode.DOWN)
    async with around(amqp_url, migrated_url) as rig:
        settings = rig.settings.model_copy(update={"amqp_url": SecretStr(cluster.url)})
        async with serving(settings) as rig.service:
            await until(rig.is_ready)
            commands = []
            for dying, other in [(cluster.second, cluster.first), (cluster.first, cluster.second)]:
                commands += [a_create() for _ in range(20)]
                marks = [await rig.ask_later(CREATE, each, expiration=PATIENT) for each in commands[-20:]]
                await other.set(Mode.NORMAL)
                await dying.set(death)
                assert {(await rig.reply_to(mark)).type for mark in marks} == {"checkout.create.reply"}
                await until(rig.is_ready)
            await rig.all_sent()
            for command in commands:
                [payment] = await rig.payments_of(command["bookingId"])
                [session] = await rig.sessions_of(command["bookingId"])
                assert payment["session_id"] == session["id"]
                await rig.told(payment["id"], events=1)
    ours = [record.getMessage() for record in caplog.records if record.name == connection_log.__name__]
    lost = [text for text in ours if text.startswith("lost RabbitMQ")]
    assert sorted(each.split(":")[1].split()[0] for each in lost) == sorted(
        str(node.port) for node in (cluster.first, cluster.second) for _ in ("commands", "events and answers")
    )
