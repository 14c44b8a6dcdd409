"""The relay among things that fail for real: a process that stands still, a broker that refuses, a full subscriber."""

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from service.workers.relay import ERROR_AFTER, LEASE_SECONDS
from tests.integration.service.messages.rig import Rig, until
from tests.integration.service.relay import relay_process
from tests.integration.service.relay.relays import a_payment, a_relay, at_work, bodies, full_subscriber, written
from tools.chaos.proxy import Mode, behind_proxy


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
    async with (
        behind_proxy(rig.amqp_url) as (proxy, amqp_url),
        a_relay_process(amqp_url, rig.database_url) as paused,
        a_relay(rig) as other,
    ):
        await proxy.set(Mode.BLACK_HOLE)
        async with rig.database.acquire() as connection, connection.transaction():  # so that they are claimed at once
            expected = {each: [await written(connection, each, number) for number in (1, 2, 3)] for each in payments}
        await rig.until_rows(len(payments), "SELECT 1 FROM outbox WHERE claimed_until > now() AND sent_at IS NULL")
        paused.send_signal(signal.SIGSTOP)
        assert not await other.relay.publish_next()
        other.clock.ahead = timedelta(seconds=LEASE_SECONDS + 1)
        async with at_work(other):
            await rig.all_sent()
            await proxy.set(Mode.NORMAL)
            paused.send_signal(signal.SIGCONT)
            for payment in payments:
                expected[payment].append(await written(rig, payment, 4))
            await rig.all_sent()
            await until(lambda: all(len(known(rig, payment)) >= 4 for payment in payments))
            assert paused.returncode is None
    assert {payment: list(known(rig, payment).values()) for payment in payments} == expected


def known(rig: Rig, payment_id: int) -> dict[Any, bytes]:
    """What a subscriber keeps that drops ids which it has seen, in the order of arrival."""
    kept: dict[Any, bytes] = {}
    for event in rig.events_of(payment_id):
        assert kept.setdefault(event.properties.message_id, event.body) == event.body
    return kept


async def test_a_bad_row_alarms_and_the_others_flow(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """F56 One bad row (too big, unroutable, nacked): that row backs off and alarms, others flow.

    The payment's next event stays behind it.
    """
    big, odd, nacked = [await a_payment(rig) for _ in range(3)]
    good = [await a_payment(rig) for _ in range(20)]
    async with full_subscriber(rig, "payment.attention") as queue, a_relay(rig) as parts:
        await rig.channel.basic_publish(b"the one that it takes", routing_key=queue)
        await written(rig, big, 1, body=b"x" * (17 * 2**20))
        await written(rig, big, 2)
        await written(rig, odd, 1, key="payment.unheard-of")
        refused = await written(rig, nacked, 1, key="payment.attention")
        for number in range(1, ERROR_AFTER + 1):
            expected = {payment: await written(rig, payment, number) for payment in good}
            before = parts.clock.now()
            assert await parts.relay.publish_next()
            after = parts.clock.now()
            [row] = await rig.sql("SELECT claimed_until FROM outbox WHERE payment_id = $1 AND sequence = 1", big)
            wait = timedelta(seconds=2 ** (number - 1))
            assert before + wait <= row["claimed_until"] <= after + wait
            assert not await parts.relay.publish_next()
            for payment, content in expected.items():
                assert bodies(await rig.told(payment, events=number))[-1] == content
            levels = {record.event_id: record.levelno for record in caplog.records if hasattr(record, "event_id")}
            if number < ERROR_AFTER:
                assert sorted(levels.values()) == [logging.WARNING, logging.WARNING, logging.ERROR]  # odd is at once
            parts.clock.ahead += timedelta(seconds=2**number)
        assert list(levels.values()) == [logging.ERROR] * 3
        rows = await rig.sql("SELECT payment_id, attempts FROM outbox WHERE sent_at IS NULL ORDER BY payment_id, id")
        tries = [(big, ERROR_AFTER), (big, 0), (odd, ERROR_AFTER), (nacked, ERROR_AFTER)]
        assert [tuple(row) for row in rows] == tries
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
