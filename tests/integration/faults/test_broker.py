"""A private broker that is killed with -9, and queues that are deleted under a running service."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import aiormq
import asyncpg
import pytest
import pytest_asyncio

from contracts import envelope, topology
from service.entrypoints import broker as brokers
from service.entrypoints import middleware
from tests.integration.bridge.conftest import BASE
from tests.integration.faults.stack import bridge
from tests.integration.sandbox.harness import running_sandbox
from tests.integration.service.messages.rig import CREATE, MARK, PATIENT, Rig, a_create, serving, settings_of, until
from tests.kit import rabbitmqctl
from tests.kit.servers import PrivateServer

AUDIT = "audit"
QUEUES_SETTLE_SECONDS = 25.0
"""RabbitMQ 3.10 loses the leader of a quorum queue that is younger than some 20 s when the node is killed."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(rabbitmq: PrivateServer, migrated_url: str) -> AsyncIterator[Rig]:
    """Without the service and its subscribers; their queue exists, because it must be old at the kill."""
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
    """The moment from which the broker may be killed."""
    return time.monotonic() + QUEUES_SETTLE_SECONDS


async def audited(rig: Rig) -> list[Any]:
    """The messages in the audit queue since the last look."""
    found = []
    while (message := await rig.take(AUDIT)) is not None:
        found.append(message)
    return found


async def served(client: Any, command: dict[str, Any]) -> Any:
    """The answer to a create that is repeated for as long as the service says to come back, as to some of many."""
    answers: list[Any] = []

    async def is_served() -> bool:
        answers.append(await client.create(command))
        return bool(answers[-1].status_code != 503)

    await until(is_served)
    return answers[-1]


async def test_without_a_subscriber_events_are_kept_and_payments_go_on(rig: Rig, old_enough: float) -> None:
    """F58 Subscriber absent: the outbox keeps the events as they were sent; payments go on."""
    assert old_enough
    async with serving(rig.settings), bridge(rig.amqp_url) as client:
        answers = await asyncio.gather(*(served(client, a_create()) for _ in range(50)))
        assert {answer.status_code for answer in answers} == {200}
        sent = "SELECT 1 FROM outbox WHERE sent_at IS NOT NULL AND length(body) > 0"
        await rig.until_rows(len(answers), sent)
    await rig.channel.queue_bind(AUDIT, topology.EVENTS.name, "#")
    assert await audited(rig) == []


async def test_a_stripe_that_hangs_frees_every_slot_in_time(
    rig: Rig, old_enough: float, caplog: pytest.LogCaptureFixture
) -> None:
    """F18 Stripe hangs: each slot is freed, no channel closes, queries are answered, the commands come again.

    Meanwhile the queues grow old enough for the next test.
    """
    assert old_enough
    caplog.set_level("INFO", logger=middleware.__name__)
    settings = rig.settings.model_copy(update={"stripe_concurrency": 3})
    async with serving(settings), bridge(settings.amqp_url.get_secret_value()) as client:
        session = (await client.create(a_create())).json()["sessionId"]
        commands = [a_create() for _ in range(settings.stripe_concurrency)]
        async with rig.stripe_with(latency_ms=9_500):
            for command in commands:
                await rig.send(CREATE, command)

            async def put_off() -> bool:
                assert (await client.client.get(f"{BASE}/status/{session}")).status_code == 200
                return caplog.text.count("DEADLINE_EXCEEDED, retry later") == len(commands)

            await until(put_off)
        assert (await client.create(a_create())).status_code == 200
        bookings = [command["bookingId"] for command in commands]
        opened = "SELECT 1 FROM payments WHERE session_id IS NOT NULL AND booking_id = ANY($1)"
        await rig.until_rows(len(commands), opened, bookings)
        assert [len(await rig.sessions_of(command["bookingId"])) for command in commands] == [1] * len(commands)
        assert await rig.consumers(CREATE) == 1
        assert await rig.dead_letters(CREATE) == []
    await audited(rig)


async def test_a_broker_that_is_killed_costs_nobody_money(rig: Rig, rabbitmq: PrivateServer, old_enough: float) -> None:
    """F8 Broker killed between publish and confirm: retryable, duplicates carry the same id.

    F12 Broker restarted with requests in flight: callers fail at the disconnect, a retry returns the stored result.
    F19 Broker restarted: the consumers are back, readiness is false meanwhile.
    """

    async def is_unready() -> bool:
        return (await rig.ready()).status_code == 503

    settings = rig.settings.model_copy(update={"stripe_concurrency": 25})  # most are still waiting at the kill
    async with serving(settings) as rig.service, bridge(rabbitmq.url, timeout_seconds=300) as client:
        await asyncio.sleep(max(0.0, old_enough - time.monotonic()))
        await rig.sandbox.control("config", {"latency_ms": 1500})  # the next answers come after the kill
        waited_for, forgotten = [a_create() for _ in range(60)], [a_create() for _ in range(20)]
        waiting = [asyncio.create_task(client.create(command)) for command in waited_for]
        for command in forgotten:
            await rig.send(CREATE, command)  # RabbitMQ has confirmed it
        await until(lambda: sum(task.done() for task in waiting) >= 20)
        await asyncio.to_thread(rabbitmq.kill)
        async with asyncio.timeout(60):
            answers = await asyncio.gather(*waiting)
        assert {answer.status_code for answer in answers} == {200, 503}
        assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 503)
        await until(lambda: not client.rpc_client.ready)  # some may have been refused before the kill
        await until(is_unready)

        await rig.sandbox.control("config", {"latency_ms": 0})
        await asyncio.to_thread(rabbitmq.start)
        rig.connection, rig.channel, rig.looking = await connected(rabbitmq.url)
        await until(lambda: client.rpc_client.ready)
        await until(rig.is_ready)
        assert await rig.consumers(CREATE) == 1
        repeated = await asyncio.gather(*(served(client, command) for command in waited_for))
        assert {answer.status_code for answer in repeated} == {200}
        for answer, again in zip(answers, repeated, strict=True):
            assert answer.status_code == 503 or answer.json() == again.json()
        bookings = [command["bookingId"] for command in (*waited_for, *forgotten)]
        events: list[Any] = []

        async def all_published() -> bool:
            events.extend(await audited(rig))
            return {event.document["data"]["bookingId"] for event in events} >= set(bookings)

        await until(all_published)
    ledger = [int(session["metadata"]["bookingId"]) for session in await rig.sandbox.control("ledger")]
    rows = await rig.sql("SELECT booking_id FROM payments WHERE booking_id = ANY($1)", bookings)
    assert sorted(row["booking_id"] for row in rows) == bookings == sorted(set(ledger) & set(bookings))
    assert len(ledger) == len(set(ledger))
    assert len({(event.properties.message_id, event.body) for event in events}) == len(bookings)


async def test_a_queue_that_is_deleted_is_made_and_consumed_again(rig: Rig) -> None:
    """F19 Queue deleted, consumer cancelled: both are back."""
    async with serving(rig.settings) as rig.service, bridge(rig.amqp_url) as client:
        session = (await client.create(a_create())).json()["sessionId"]
        await until(rig.is_ready)  # every queue is consumed, not only the first
        for _ in range(3):
            for queue in topology.COMMAND_QUEUES.values():
                await rig.channel.queue_delete(queue.name)

            async def served() -> bool:
                reads = [await client.client.get(f"{BASE}/{path}/{session}") for path in ("status", "checkout/verify")]
                return {answer.status_code for answer in (*reads, await client.create(a_create()))} == {200}

            await until(served)
            await until(rig.is_ready)


async def test_commands_that_are_done_wait_out_an_alarm_and_are_not_delivered_again(
    rig: Rig, rabbitmq: PrivateServer, caplog: pytest.LogCaptureFixture, pytestconfig: pytest.Config
) -> None:
    """T11 An alarm uses up no delivery limit: 20 deliveries of 7 s each once dead-lettered what was done.

    `make test-all` waits for longer than that.
    """
    caplog.set_level("INFO", logger=middleware.__name__)
    answered = set[str | None]()

    async def reply(delivered: Any) -> None:
        assert delivered.header.properties.message_type == "checkout.create.reply"
        answered.add(delivered.header.properties.correlation_id)

    await rig.channel.basic_consume(envelope.DIRECT_REPLY_TO, reply, no_ack=True)
    asked = [await rig.ask_later(CREATE, a_create(), expiration=PATIENT) for _ in range(20)]
    bad = await rig.send(CREATE, b"{")
    await rabbitmqctl.evaluate(rabbitmq.pid, rabbitmqctl.alarm(on=True))
    try:
        async with serving(rig.settings) as rig.service:
            await until(lambda: "answers cannot be published" in caplog.text)
            assert not await rig.is_ready()
            await asyncio.sleep(8 if pytestconfig.getoption("crash_runs") == 1 else 200)
            await rabbitmqctl.evaluate(rabbitmq.pid, rabbitmqctl.alarm(on=False))
            await until(lambda: answered == set(asked))

            async def is_parked() -> bool:  # as often as it was published: the first time was unconfirmed
                return {each.headers[MARK] for each in await rig.dead_letters(CREATE)} == {bad}

            await until(is_parked)
            await until(rig.is_ready)
    finally:
        await rabbitmqctl.evaluate(rabbitmq.pid, rabbitmqctl.alarm(on=False))
    assert "delivered again" not in caplog.text
    assert caplog.text.count("checkout.create: done") == len(asked)
    assert await is_parked()
