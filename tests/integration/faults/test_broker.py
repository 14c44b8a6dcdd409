"""A broker of the tests' own that is killed with -9, and queues that are deleted under a running service."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import aiormq
import asyncpg
import httpx
import pytest
import pytest_asyncio

from contracts import topology
from service.entrypoints import broker as brokers
from service.entrypoints import delivery
from tests.conftest import PrivateRabbitMQ
from tests.integration.bridge.conftest import BASE
from tests.integration.faults.stack import bridge
from tests.integration.sandbox.harness import running_sandbox
from tests.integration.service.messages.rig import CREATE, Rig, a_create, serving, settings_of, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

AUDIT = "audit"
QUEUES_SETTLE_SECONDS = 25.0
"""RabbitMQ 3.10 loses the leader of a quorum queue that was declared some 20 s before the node is killed."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(rabbitmq: PrivateRabbitMQ, migrated_url: str) -> AsyncIterator[Rig]:
    """Without the service, and so far without subscribers; a queue for them is there, because it has to be old."""
    async with running_sandbox() as sandbox, asyncpg.create_pool(migrated_url, min_size=1, max_size=3) as database:
        await brokers.declare(rabbitmq.url)
        connection, channel, looking = await connected(rabbitmq.url)
        await channel.queue_declare(AUDIT, durable=True, arguments={"x-queue-type": "quorum"})
        rig = Rig(
            settings=settings_of(rabbitmq.url, migrated_url, sandbox.url),
            sandbox=sandbox,
            database=database,
            connection=connection,
            channel=channel,
            looking=looking,
        )
        yield rig
        await rig.connection.close()


async def connected(amqp_url: str) -> tuple[Any, Any, Any]:
    connection = await aiormq.connect(amqp_url)
    channel = await connection.channel(publisher_confirms=True)
    return connection, channel, await connection.channel(publisher_confirms=False)


@pytest.fixture(scope="module")
def old_enough() -> float:
    """When the broker may be killed."""
    return time.monotonic() + QUEUES_SETTLE_SECONDS


async def audited(rig: Rig) -> list[Any]:
    """What has come into the audit queue since it was last looked at."""
    found = []
    while (message := await rig._get(AUDIT)) is not None:
        found.append(message)
    return found


async def test_without_a_subscriber_events_are_kept_and_payments_go_on(rig: Rig, old_enough: float) -> None:
    """F58 Subscriber absent: events are kept in the outbox as they were sent; payments unaffected."""
    assert old_enough
    async with serving(rig.settings), bridge(rig.settings.amqp_url.get_secret_value()) as client:
        answers = await asyncio.gather(*(client.create(a_create()) for _ in range(50)))
        assert {answer.status_code for answer in answers} == {200}

        async def sent() -> bool:
            [row] = await rig.sql("SELECT count(*) AS n FROM outbox WHERE sent_at IS NOT NULL AND length(body) > 0")
            return bool(row["n"] == len(answers))

        await until(sent)
    await rig.channel.queue_bind(AUDIT, topology.EVENTS.name, "#")
    assert await audited(rig) == []


async def test_a_stripe_that_hangs_frees_every_slot_in_time(
    rig: Rig, old_enough: float, caplog: pytest.LogCaptureFixture
) -> None:
    """F18 Handler hangs (Stripe): slot freed <= 20 s, no channel closed; queries are answered, the commands come again.

    It takes some of the time that the queues need to be old enough for the next test.
    """
    assert old_enough
    caplog.set_level("INFO", logger=delivery.__name__)
    settings = rig.settings.model_copy(update={"stripe_concurrency": 3})
    async with serving(settings), bridge(settings.amqp_url.get_secret_value()) as client:
        session = (await client.create(a_create())).json()["sessionId"]
        await rig.sandbox.control("config", {"latency_ms": 9_500})
        commands = [a_create() for _ in range(settings.stripe_concurrency)]
        try:
            for command in commands:
                await rig.send(CREATE, command)

            async def put_off() -> bool:
                assert (await client.client.get(f"{BASE}/status/{session}")).status_code == 200
                return caplog.text.count("DEADLINE_EXCEEDED, again later") == len(commands)

            await until(put_off, seconds=20)
        finally:
            await rig.sandbox.control("config", {"latency_ms": 0})
        assert (await client.create(a_create())).status_code == 200

        async def come_again() -> bool:
            payments = [payment for command in commands for payment in await rig.payments_of(command["bookingId"])]
            return [payment["session_id"] is not None for payment in payments] == [True] * len(commands)

        await until(come_again)
        assert [len(await rig.sessions_of(command["bookingId"])) for command in commands] == [1] * len(commands)
        assert await rig.consumers(CREATE) == 1
        assert await rig.dead_letters(CREATE) == []
    await audited(rig)


async def test_a_broker_that_is_killed_costs_nobody_money(
    rig: Rig, rabbitmq: PrivateRabbitMQ, old_enough: float
) -> None:
    """F8 Broker killed between publish and confirm: retryable, duplicates only by the same id.

    F12 Broker restart with requests in flight: waiters fail on disconnect, retry returns the stored result.
    F19 Broker restarted: consumers are back, readiness is false meanwhile.
    """
    async with serving(rig.settings) as rig.service, bridge(rabbitmq.url, timeout_seconds=300) as client:
        await asyncio.sleep(max(0.0, old_enough - time.monotonic()))
        await rig.sandbox.control("config", {"latency_ms": 300})
        waited_for, forgotten = [a_create() for _ in range(150)], [a_create() for _ in range(50)]
        waiting = [asyncio.create_task(client.create(command)) for command in waited_for]
        for command in forgotten:
            await rig.send(CREATE, command)  # RabbitMQ has confirmed it
        await until(lambda: sum(task.done() for task in waiting) >= 20)
        await asyncio.to_thread(rabbitmq.kill)
        async with asyncio.timeout(30):
            answers = await asyncio.gather(*waiting)
        assert {answer.status_code for answer in answers} == {200, 503}
        assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 503)
        assert not client.requester.ready
        assert (await rig.ready()).status_code == 503

        await rig.sandbox.control("config", {"latency_ms": 0})
        await asyncio.to_thread(rabbitmq.start)
        rig.connection, rig.channel, rig.looking = await connected(rabbitmq.url)
        await until(lambda: _is_ready(rig, client.requester.ready), seconds=60)
        assert await rig.consumers(CREATE) == 1
        repeated = await asyncio.gather(*(client.create(command) for command in waited_for))
        assert {answer.status_code for answer in repeated} == {200}
        for answer, again in zip(answers, repeated, strict=True):
            assert answer.status_code == 503 or answer.json() == again.json()
        bookings = [command["bookingId"] for command in (*waited_for, *forgotten)]
        events: list[Any] = []

        async def all_told() -> bool:
            events.extend(await audited(rig))
            return {event.document["data"]["bookingId"] for event in events} >= set(bookings)

        await until(all_told, seconds=60)
    ledger = [int(session["metadata"]["bookingId"]) for session in await rig.sandbox.control("ledger")]
    rows = await rig.sql("SELECT booking_id FROM payments WHERE booking_id = ANY($1)", bookings)
    assert sorted(row["booking_id"] for row in rows) == bookings == sorted(set(ledger) & set(bookings))
    assert len(ledger) == len(set(ledger))
    assert len({(event.properties.message_id, event.body) for event in events}) == len(bookings)


async def _is_ready(rig: Rig, requester_is_ready: bool) -> bool:  # noqa: FBT001
    return requester_is_ready and (await rig.ready()).status_code == 200


async def test_a_queue_that_is_deleted_is_made_and_consumed_again(rig: Rig) -> None:
    """F19 Queue deleted, consumer cancelled: consumer back."""
    async with serving(rig.settings) as rig.service, bridge(rig.settings.amqp_url.get_secret_value()) as client:
        session = (await client.create(a_create())).json()["sessionId"]
        for _ in range(3):
            for queue in topology.COMMAND_QUEUES.values():
                await rig.channel.queue_delete(queue.name)

            async def served() -> bool:
                paths: list[httpx.Response] = [
                    await client.client.get(f"{BASE}/status/{session}"),
                    await client.client.get(f"{BASE}/checkout/verify/{session}"),
                    await client.create(a_create()),
                ]
                return {answer.status_code for answer in paths} == {200}

            await until(served, seconds=30)
            await until(lambda: _is_ready(rig, requester_is_ready=True), seconds=30)
