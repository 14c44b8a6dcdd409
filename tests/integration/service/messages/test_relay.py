"""The relay between a real outbox and a real broker: nothing lost, in order per payment, whatever happens between."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from service.adapters.store import Database, PostgresOutbox, Wakeups
from service.application.ports import OutboxRow
from service.entrypoints.broker import Publisher, UnpublishedError
from service.entrypoints.relay import LEASE_SECONDS
from tests.integration.service.messages.relays import (
    Parts,
    a_payment,
    a_relay,
    at_work,
    bodies,
    none_unsent,
    written,
)
from tests.integration.service.messages.rig import Rig, around, until
from tests.proxy import Mode, behind_proxy

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(amqp_url: str, migrated_url: str) -> AsyncIterator[Rig]:
    """Without the service: its relay would be one more."""
    async with around(amqp_url, migrated_url) as rig:
        yield rig


class DyingPublisher(Publisher):
    """Does its work, and dies before anybody hears of it."""

    async def event(self, row: OutboxRow) -> None:
        await super().event(row)
        raise KeyboardInterrupt


class RefusingPublisher(Publisher):
    """A broker that does not take one payment's events."""

    refused = 0

    async def event(self, row: OutboxRow) -> None:
        if row.payment_id == self.refused:
            raise UnpublishedError("nacked")
        await super().event(row)


async def test_two_relays_keep_the_order_of_each_payment_and_send_nothing_twice(rig: Rig) -> None:
    payments = [await a_payment(rig) for _ in range(30)]
    expected = {payment: [await written(rig, payment, number) for number in range(1, 6)] for payment in payments}
    async with a_relay(rig) as one, a_relay(rig) as other, at_work(one), at_work(other):
        await until(lambda: all(len(rig.events_of(payment)) >= 5 for payment in payments))
        await until(lambda: none_unsent(rig))
    assert {payment: bodies(rig.events_of(payment)) for payment in payments} == expected


async def test_what_a_dead_relay_had_claimed_is_sent_when_its_lease_ends(rig: Rig) -> None:  # F31
    payment = await a_payment(rig)
    content = await written(rig, payment, 1)
    async with a_relay(rig) as dead, a_relay(rig) as alive:
        database = Database(rig.settings.database_url.get_secret_value())
        claimed = await PostgresOutbox(database).claim(limit=10, at=dead.clock.now(), lease_seconds=LEASE_SECONDS)
        await database.close()
        assert [row.payment_id for row in claimed] == [payment]
        assert not await alive.relay.publish_next()
        alive.clock.ahead = timedelta(seconds=LEASE_SECONDS + 1)
        assert await alive.relay.publish_next()
    assert bodies(await rig.told(payment, events=1)) == [content]


async def test_a_relay_that_dies_after_the_confirm_leaves_the_same_bytes_to_the_next(rig: Rig) -> None:  # F32
    payment = await a_payment(rig)
    content = await written(rig, payment, 1)
    async with a_relay(rig, publisher=DyingPublisher) as dying, a_relay(rig) as next_one:
        row = (await _outbox_claim(rig, dying))[0]
        with pytest.raises(KeyboardInterrupt):
            await dying.publisher.event(row)
        next_one.clock.ahead = timedelta(seconds=LEASE_SECONDS + 1)
        assert await next_one.relay.publish_next()
    first, second = await rig.told(payment, events=2)
    assert first.body == second.body == content
    assert first.properties.message_id == second.properties.message_id
    assert first.properties.timestamp == second.properties.timestamp


async def _outbox_claim(rig: Rig, parts: Parts) -> Any:
    database = Database(rig.settings.database_url.get_secret_value())
    try:
        return await PostgresOutbox(database).claim(limit=10, at=parts.clock.now(), lease_seconds=LEASE_SECONDS)
    finally:
        await database.close()


async def test_one_payments_event_that_the_broker_refuses_waits_while_others_flow(rig: Rig) -> None:
    """F56 One bad row (too big, unroutable, nacked): that row backs off and alarms, others flow. Here: it backs off."""
    bad, good = await a_payment(rig), await a_payment(rig)
    refused = [await written(rig, bad, 1), await written(rig, bad, 2)]
    content = await written(rig, good, 1)
    RefusingPublisher.refused = bad
    async with a_relay(rig, publisher=RefusingPublisher) as parts:
        waits = []
        for _ in range(4):
            before = parts.clock.now()
            await parts.relay.publish_next()
            [row] = await rig.sql("SELECT claimed_until FROM outbox WHERE payment_id = $1 AND sequence = 1", bad)
            waits.append(round((row["claimed_until"] - before).total_seconds()))
            assert not await parts.relay.publish_next()  # it is left alone, and its second event stays behind it
            parts.clock.ahead += timedelta(seconds=waits[-1] + 1)
        assert waits == [1, 2, 4, 8]
        assert bodies(await rig.told(good, events=1)) == [content]
        assert rig.events_of(bad) == []
        RefusingPublisher.refused = 0
        while await parts.relay.publish_next():
            pass
    assert bodies(await rig.told(bad, events=2)) == refused


@pytest.mark.parametrize(
    "bad", [{"key": "payment.unheard-of"}, {"body": b'{"subject":"0","x":"%s"}' % (b"x" * 10**6)}], ids=["key", "1 MB"]
)
async def test_a_row_that_is_odd_in_itself_does_not_stop_the_others(rig: Rig, bad: dict[str, Any]) -> None:
    odd, good = await a_payment(rig), await a_payment(rig)
    await written(rig, odd, 1, **bad)
    content = await written(rig, good, 1)
    try:
        async with a_relay(rig) as parts, at_work(parts):
            assert bodies(await rig.told(good, events=1)) == [content]
    finally:
        await rig.sql("UPDATE outbox SET sent_at = now() WHERE payment_id = $1", odd)


async def test_a_row_that_commits_later_than_its_id_is_not_skipped(rig: Rig) -> None:
    """F54 Rows committed out of id order: none skipped."""
    late, early = await a_payment(rig), await a_payment(rig)
    async with a_relay(rig) as parts, at_work(parts), rig.database.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        content = await written(connection, late, 1)
        other = await written(rig, early, 1)
        assert bodies(await rig.told(early, events=1)) == [other]
        await transaction.commit()
        assert bodies(await rig.told(late, events=1)) == [content]


async def test_without_notifications_the_timer_finds_what_is_there(rig: Rig) -> None:
    async with a_relay(rig) as parts, at_work(parts):  # nobody listens
        payment = await a_payment(rig)
        content = await written(rig, payment, 1)
        assert bodies(await rig.told(payment, events=1)) == [content]


async def test_a_listener_that_the_database_cut_off_listens_again(rig: Rig) -> None:
    """F40 The listening connection is lost: it is made anew, and the timer finds what came meanwhile."""
    listeners = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
    alarm = Wakeups(rig.settings.database_url.get_secret_value())
    listening = asyncio.create_task(alarm.run())
    try:
        [first] = await until(lambda: rig.sql(listeners))
        await rig.sql("SELECT pg_terminate_backend($1)", first["pid"])

        async def anew() -> bool:
            return [row["pid"] for row in await rig.sql(listeners)] not in ([], [first["pid"]])

        await until(anew)
        await alarm.wait(1)  # it rings once it listens
        waiting = asyncio.create_task(alarm.wait(60))
        await asyncio.sleep(0)
        await rig.sql("SELECT pg_notify('payment_outbox', '')")
        await asyncio.wait_for(waiting, 10)
    finally:
        listening.cancel()
        await asyncio.wait([listening])


async def test_what_was_written_while_the_broker_was_away_is_sent_when_it_is_back(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    """F53 Broker down: drains in per-payment order, no database transaction during publish.

    However long it was away: what met no broker is not put off, or a backlog would lie for minutes after its return.
    """
    async with (
        behind_proxy(rig.settings.amqp_url.get_secret_value()) as (network, amqp_url),
        a_relay(rig, amqp_url=amqp_url) as parts,
    ):
        await network.set(Mode.DOWN)
        payments = [await a_payment(rig) for _ in range(100)]
        expected = {payment: [await written(rig, payment, number) for number in range(1, 6)] for payment in payments}
        async with at_work(parts):
            await until(lambda: "cannot be published" in caplog.text)
            open_transactions = "SELECT 1 FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
            assert await rig.sql(f"{open_transactions} AND datname = current_database()") == []
        rows = await rig.sql("SELECT DISTINCT attempts, claimed_until FROM outbox WHERE sent_at IS NULL")
        assert [tuple(row) for row in rows] == [(0, None)]
        await network.set(Mode.NORMAL)
        async with a_relay(rig) as back, at_work(back):
            await until(lambda: all(len(rig.events_of(payment)) >= 5 for payment in payments), seconds=60)
            await until(lambda: none_unsent(rig))
    assert {payment: bodies(rig.events_of(payment)) for payment in payments} == expected
    assert caplog.text.count("cannot be published") == 1  # one line per change, not one per event
