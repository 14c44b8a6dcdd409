"""The relay between a real outbox and a real broker: nothing lost, in order per payment, whatever happens between."""

import asyncio

import pytest

from tests.integration.service.messages.rig import Rig, until
from tests.integration.service.relay.relays import a_listener, a_payment, a_relay, at_work, bodies, written
from tests.kit.lifetimes import beside
from tools.chaos.proxy import Mode, behind_proxy


async def test_two_relays_keep_the_order_of_each_payment_and_send_nothing_twice(rig: Rig) -> None:
    payments = [await a_payment(rig) for _ in range(30)]
    expected = {payment: [await written(rig, payment, number) for number in range(1, 6)] for payment in payments}
    async with a_relay(rig) as one, a_relay(rig) as other, at_work(one), at_work(other):
        await until(lambda: all(len(rig.events_of(payment)) >= 5 for payment in payments))
        await rig.all_sent()
    assert {payment: bodies(rig.events_of(payment)) for payment in payments} == expected


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
    listener = a_listener(rig.database_url)
    async with beside(listener.run()):
        [first] = await until(lambda: rig.sql(listeners))
        await rig.sql("SELECT pg_terminate_backend($1)", first["pid"])
        await until(lambda: rig.sql(f"{listeners} AND pid <> $1", first["pid"]))
        await listener.wait(1)  # it wakes once it listens
        waiting = asyncio.create_task(listener.wait(60))
        await asyncio.sleep(0)
        await rig.sql("SELECT pg_notify('payment_outbox', '')")
        await asyncio.wait_for(waiting, 60)


async def test_what_was_written_while_the_broker_was_away_is_sent_when_it_is_back(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    """F53 Broker down: drains in per-payment order, no database transaction during publish.

    However long it was away: what met no broker is not put off, or a backlog would lie for minutes after its return.
    """
    async with behind_proxy(rig.amqp_url) as (network, amqp_url), a_relay(rig, amqp_url=amqp_url) as parts:
        await network.set(Mode.DOWN)
        payments = [await a_payment(rig) for _ in range(100)]
        expected = {payment: [await written(rig, payment, number) for number in range(1, 6)] for payment in payments}
        async with at_work(parts):
            await until(lambda: "cannot be published" in caplog.text)
            open_transactions = "SELECT 1 FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
            assert await rig.sql(f"{open_transactions} AND datname = current_database()") == []
        rows = await rig.sql("SELECT DISTINCT attempts, claimed_until FROM outbox WHERE sent_at IS NULL")
        assert [tuple(row) for row in rows] == [(0, None)]
        assert caplog.text.count("cannot be published") == 1  # one line per change, not one per event
        await network.set(Mode.NORMAL)
        async with a_relay(rig) as back, at_work(back):
            await until(lambda: all(len(rig.events_of(payment)) >= 5 for payment in payments), seconds=60)
            await rig.all_sent()
    # The broker may confirm too late on a busy machine, and the event comes again, with the same bytes.
    assert {payment: list(dict.fromkeys(bodies(rig.events_of(payment)))) for payment in payments} == expected
