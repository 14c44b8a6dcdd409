"""The relay among things that fail for real: a process that stands still, a broker that refuses, a full subscriber."""

import asyncio
import json
import logging
import signal
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from random import Random
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from contracts import topology
from service.entrypoints.relay import ALARM_AFTER, LEASE_SECONDS
from tests.integration.service.messages import relay_process
from tests.integration.service.messages.relays import a_payment, a_relay, at_work, bodies, none_unsent, written
from tests.integration.service.messages.rig import Rig, around, until
from tests.proxy import Mode, behind_proxy

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(amqp_url: str, migrated_url: str) -> AsyncIterator[Rig]:
    """Without the service: its relay would be one more."""
    async with around(amqp_url, migrated_url) as rig:
        yield rig


@asynccontextmanager
async def a_relay_process(amqp_url: str, database_url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", relay_process.__name__, amqp_url, database_url), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 60) == b"ready\n"
        yield process
    finally:
        process.kill()
        await process.communicate()


async def test_a_relay_that_stood_still_disturbs_nobody_when_it_wakes(rig: Rig) -> None:
    """F55 Two relays, one paused (SIGSTOP): the other takes over, order per payment kept.

    What the paused one had on its way arrives after the other's: late, and recognisable by its id.
    """
    payments = [await a_payment(rig) for _ in range(20)]
    settings = rig.settings
    async with (
        behind_proxy(settings.amqp_url.get_secret_value()) as (proxy, amqp_url),
        a_relay_process(amqp_url, settings.database_url.get_secret_value()) as paused,
        a_relay(rig) as other,
    ):
        await proxy.set(Mode.BLACK_HOLE)
        async with rig.database.acquire() as connection, connection.transaction():  # so that they are claimed at once
            expected = {each: [await written(connection, each, number) for number in (1, 2, 3)] for each in payments}

        async def claimed() -> bool:
            [row] = await rig.sql("SELECT count(*) AS n FROM outbox WHERE claimed_until > now() AND sent_at IS NULL")
            return bool(row["n"] == len(payments))

        await until(claimed)
        paused.send_signal(signal.SIGSTOP)
        assert not await other.relay.publish_next()
        other.clock.ahead = timedelta(seconds=LEASE_SECONDS + 1)
        async with at_work(other):
            await until(lambda: none_unsent(rig))
            await proxy.set(Mode.NORMAL)
            paused.send_signal(signal.SIGCONT)
            for payment in payments:
                expected[payment].append(await written(rig, payment, 4))
            await until(lambda: none_unsent(rig))
            await until(lambda: all(len(known(rig, payment)) >= 4 for payment in payments))
            assert paused.returncode is None
    assert {payment: list(known(rig, payment).values()) for payment in payments} == expected


def known(rig: Rig, payment_id: int) -> dict[Any, bytes]:
    """What a subscriber keeps that drops ids which it has seen, in the order of arrival."""
    kept: dict[Any, bytes] = {}
    for event in rig.events_of(payment_id):
        assert kept.setdefault(event.properties.message_id, event.body) == event.body
    return kept


def state_of(deliveries: Iterable[bytes]) -> dict[str, tuple[int, str]]:
    """By payment, what a subscriber knows that does as `docs/reference.md` says: drop seen ids, order by `sequence`."""
    seen, state = set[str](), dict[str, tuple[int, str]]()
    for document in map(json.loads, deliveries):
        payment, news = document["subject"], (document["data"]["sequence"], document["data"]["status"])
        if document["id"] not in seen and news > state.get(payment, (0, "")):
            state[payment] = news
        seen.add(document["id"])
    return state


async def test_a_subscriber_that_follows_the_rules_knows_the_same_whatever_comes_twice_or_late(rig: Rig) -> None:
    """F57 Subscriber gets duplicates and old versions: event id and payment version let it drop them."""
    payments = [await a_payment(rig) for _ in range(20)]
    numbers = {payment: 1 + place % 3 for place, payment in enumerate(payments)}
    statuses = ("PENDING", "PENDING", "COMPLETED")
    async with a_relay(rig) as parts:
        for payment, number in numbers.items():
            for sequence in range(1, number + 1):
                data = {"sequence": sequence, "status": statuses[sequence - 1]}
                document = {"id": str(uuid4()), "subject": str(payment), "data": data}
                await written(rig, payment, sequence, body=json.dumps(document).encode())
        for copies in (1, 2, 3):  # sent, and never marked as sent
            await rig.sql("UPDATE outbox SET sent_at = NULL, claimed_until = NULL WHERE payment_id = ANY($1)", payments)
            while await parts.relay.publish_next():
                pass
            for payment, number in numbers.items():
                await rig.told(payment, events=copies * number)
    deliveries = [body for payment in payments for body in bodies(rig.events_of(payment))]
    assert len(deliveries) == 3 * len(set(deliveries)) == 3 * sum(numbers.values())
    once = state_of(dict.fromkeys(deliveries))
    assert once == {str(payment): (number, statuses[number - 1]) for payment, number in numbers.items()}
    for seed in range(100):
        assert state_of(Random(seed).sample(deliveries, len(deliveries))) == once  # noqa: S311 - to be repeated


@asynccontextmanager
async def full_subscriber(rig: Rig, key: str) -> AsyncIterator[str]:
    """A queue that takes one event and refuses all others; its name."""
    name = f"full-{uuid4()}"
    arguments: Any = {"x-max-length": 1, "x-overflow": "reject-publish"}
    await rig.channel.queue_declare(name, exclusive=True, arguments=arguments)
    await rig.channel.queue_bind(name, topology.EVENTS.name, key)
    try:
        yield name
    finally:
        await rig.channel.queue_delete(name)


async def test_a_bad_row_alarms_and_the_others_flow(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """F56 One bad row (too big, unroutable, nacked): that row backs off and alarms, others flow."""
    big, odd, nacked = [await a_payment(rig) for _ in range(3)]
    good = [await a_payment(rig) for _ in range(20)]
    async with full_subscriber(rig, "payment.attention") as queue, a_relay(rig) as parts:
        await rig.channel.basic_publish(b"the one that it takes", routing_key=queue)
        await written(rig, big, 1, body=b"x" * (17 * 2**20))
        await written(rig, odd, 1, key="payment.unheard-of")
        refused = await written(rig, nacked, 1, key="payment.attention")
        for number in range(1, ALARM_AFTER + 1):
            expected = {payment: await written(rig, payment, number) for payment in good}
            assert await parts.relay.publish_next()
            for payment, content in expected.items():
                assert bodies(await rig.told(payment, events=number))[-1] == content
            levels = {record.event_id: record.levelno for record in caplog.records if hasattr(record, "event_id")}
            if number < ALARM_AFTER:
                assert sorted(levels.values()) == [logging.WARNING, logging.WARNING, logging.ERROR]  # odd is at once
            parts.clock.ahead += timedelta(seconds=2**number)
        assert list(levels.values()) == [logging.ERROR] * 3
        rows = await rig.sql("SELECT payment_id, attempts FROM outbox WHERE sent_at IS NULL ORDER BY payment_id")
        assert [tuple(row) for row in rows] == [(payment, ALARM_AFTER) for payment in (big, odd, nacked)]
        await rig.channel.queue_purge(queue)
        assert await parts.relay.publish_next()
        assert refused in bodies(rig.events_of(nacked))
    await rig.sql("UPDATE outbox SET sent_at = now() WHERE payment_id = ANY($1)", [big, odd])


async def test_a_full_subscriber_holds_events_back_and_loses_none(rig: Rig) -> None:
    """F58 Subscriber absent or its queue full: kept in the outbox; payments unaffected. Here: full.

    A queue that refuses instead of dropping makes RabbitMQ refuse the event as a whole, so it is sent again and again:
    other subscribers see it more than once, and no later event of that payment before there is room.
    """
    payments = [await a_payment(rig) for _ in range(10)]
    async with a_relay(rig) as parts:
        async with full_subscriber(rig, "payment.pending") as queue:
            expected = {payment: [await written(rig, payment, number) for number in (1, 2, 3)] for payment in payments}
            await rig.channel.basic_publish(b"the one that it takes", routing_key=queue)
            for _ in range(3):
                assert not await parts.relay.publish_next()
                parts.clock.ahead += timedelta(seconds=10)
            assert {payment: list(known(rig, payment).values()) for payment in payments} == {
                payment: contents[:1] for payment, contents in expected.items()
            }
        await parts.relay.flush()
    await until(lambda: all(len(known(rig, payment)) >= 3 for payment in payments))
    assert {payment: list(known(rig, payment).values()) for payment in payments} == expected
    rows = await rig.sql("SELECT body FROM outbox WHERE payment_id = ANY($1) AND sent_at IS NOT NULL", payments)
    assert {row["body"] for row in rows} == {body for contents in expected.values() for body in contents}
