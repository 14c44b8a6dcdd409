"""What Stripe says of sessions, with a real database and the SDK: a restored record, refunds, wrong clocks."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import asyncpg
import pytest

from service.adapters.postgres import Database, PostgresEventCursor, PostgresStore
from service.application.ports import ToldSession
from service.application.told_session import ToldResult
from service.application.waiters import WaiterRegistry
from service.domain.payment import Payment, PaymentStatus
from service.workers.after_paid_reader import AfterPaidReader
from service.workers.event_feed import EventFeed
from tests.integration.sandbox.harness import KEY, Running, running_sandbox
from tests.integration.service.messages.rig import until
from tests.kit.clock import SystemClock
from tests.kit.databases import Migrated
from tests.kit.observers import CountingObserver
from tests.kit.service import context
from tests.kit.world import World, a_stripe_gateway

COMPLETED, FAILED, PENDING = PaymentStatus.COMPLETED, PaymentStatus.FAILED, PaymentStatus.PENDING


@dataclass(kw_only=True)
class House:
    """A service on a database that can be emptied, as by a restore to an older copy."""

    sandbox: Running
    world: World
    owner: asyncpg.Connection
    database: Database

    async def paid(self, booking: int) -> str:
        session = (await self.world.create(bookingId=booking, userId=7, amount="12.50")).session_id
        await self.sandbox.pay(session)
        return session

    async def lose_everything(self) -> None:
        await self.owner.execute(
            "ALTER TABLE journal DISABLE TRIGGER ALL; ALTER TABLE outbox DISABLE TRIGGER ALL;"
            " ALTER TABLE request_keys DISABLE TRIGGER ALL;"
            " DELETE FROM journal; DELETE FROM outbox; DELETE FROM request_keys; DELETE FROM payments;"
            " ALTER TABLE journal ENABLE TRIGGER ALL; ALTER TABLE outbox ENABLE TRIGGER ALL;"
            " ALTER TABLE request_keys ENABLE TRIGGER ALL"
        )

    async def payment(self, session: str) -> Payment:
        payment = await self.world.store.payment_of_session(session)
        assert payment is not None
        return payment  # type: ignore[no-any-return]

    async def told(self, session: str) -> ToldSession:
        told = await self.world.gateway.retrieve(session, timeout_seconds=5)
        assert isinstance(told, ToldSession)
        return told

    async def events(self, payment: Payment) -> list[tuple[str, int]]:
        rows = await self.owner.fetch(
            "SELECT routing_key, sequence FROM outbox WHERE payment_id = $1 ORDER BY id", payment.id
        )
        return [(row["routing_key"].removeprefix("payment."), row["sequence"]) for row in rows]

    def feed(self) -> tuple[EventFeed, AfterPaidReader]:
        cursor, world = PostgresEventCursor(self.database), self.world
        feed = EventFeed(
            store=world.store,
            gateway=world.gateway,
            outcomes=world.outcomes,
            told_sessions=world.told_sessions,
            clock=world.clock,
            cursor=cursor,
            waiters=WaiterRegistry(),
            observer=CountingObserver(),
            gateway_timeout_seconds=5,
            interval_seconds=0.1,
            calls_per_second=0,
            idle_seconds=0.1,
        )
        return feed, AfterPaidReader(feed=feed, interval_seconds=0.1)

    async def reading(self, done: Callable[[], Any]) -> None:
        """Let both workers run until something is done."""
        workers = self.feed()
        tasks = [asyncio.create_task(worker.run()) for worker in workers]
        await until(done)
        for worker in workers:
            worker.stop()
        await asyncio.gather(*tasks)


@pytest.fixture
async def house(new_migrated: Callable[[], Migrated]) -> AsyncIterator[House]:
    migrated = await asyncio.to_thread(new_migrated)
    database = Database(migrated.application)
    owner = await asyncpg.connect(migrated.owner)
    async with running_sandbox() as sandbox:
        gateway = a_stripe_gateway(sandbox.url, api_key=KEY)
        world = World(store=PostgresStore(database), gateway=gateway, clock=SystemClock())
        yield House(sandbox=sandbox, world=world, owner=owner, database=database)
        await gateway.close()
    await owner.close()
    await database.close()


async def test_after_a_restore_the_feed_adopts_what_was_paid_although_nothing_is_pending(house: House) -> None:
    session = await house.paid(41)
    lost = await house.payment(session)
    await house.lose_everything()

    async def adopted() -> bool:
        found = await house.world.store.payment_of_session(session)
        return found is not None and found.status is COMPLETED

    await house.reading(adopted)
    payment = await house.payment(session)
    kept = ("booking_id", "user_id", "money", "reference", "success_url", "cancel_url", "livemode", "gateway_request")
    assert [getattr(payment, name) for name in kept] == [getattr(lost, name) for name in kept]
    assert await house.events(payment) == [("pending", 1), ("completed", 2)]
    with pytest.raises(Exception, match="already been paid"):
        await house.world.create(bookingId=41, userId=7, amount="12.50")


async def test_what_was_asked_for_and_until_when_outlives_the_loss_of_the_database(house: House) -> None:
    session = (await house.world.create(bookingId=45, userId=7, amount="12.50")).session_id
    lost = await house.payment(session)
    await house.lose_everything()
    await house.sandbox.control(f"sessions/{session}/settle", {"outcome": "paid", "amount_total": 1})
    await house.world.told_sessions.apply(await house.told(session), context=context())
    payment = await house.payment(session)
    assert (payment.money, payment.status, payment.attention) == (lost.money, PENDING, "paid_differently")
    assert lost.pay_until is not None
    assert payment.pay_until == lost.pay_until.replace(microsecond=0)


async def test_told_at_once_by_many_a_session_is_adopted_once_and_answers_the_next_create(house: House) -> None:
    session = (await house.world.create(bookingId=42, userId=7, amount="12.50")).session_id
    await house.lose_everything()
    told = await house.told(session)
    apply = house.world.told_sessions.apply
    results = [each.result for each in await asyncio.gather(*(apply(told, context=context()) for _ in range(5)))]
    assert ToldResult.ADOPTED in results
    assert set(results) <= {ToldResult.ADOPTED, ToldResult.CHANGED, ToldResult.KNOWN}
    payment = await house.payment(session)
    assert (payment.status, await house.events(payment)) == (PENDING, [("pending", 1)])
    journal = await house.world.store.journal(payment.id)
    assert [(entry.kind, entry.version) for entry in journal] == [("adopted", 0), ("opened", 1)]
    assert (await house.world.create(bookingId=42, userId=7, amount="12.50")).session_id == session


async def test_a_paid_session_of_a_booking_that_was_checked_out_again_calls_a_person(house: House) -> None:
    old = await house.paid(43)
    await house.lose_everything()
    new = (await house.world.create(bookingId=43, userId=7, amount="99.00")).session_id

    async def called() -> bool:
        return (await house.payment(new)).attention is not None

    await house.reading(called)
    payment = await house.payment(new)
    assert (payment.status, payment.attention) == (PENDING, "unknown_session")
    assert await house.events(payment) == [("pending", 1), ("attention", 2)]
    again = await house.world.told_sessions.apply(await house.told(old), context=context())
    assert again.result is ToldResult.KNOWN


async def test_money_for_a_failed_payment_calls_a_person(house: House) -> None:
    """The record says that the session expired; Stripe says that it was paid."""
    session = await house.paid(44)
    payment = await house.payment(session)
    await house.owner.execute(
        "UPDATE payments SET status = 'FAILED', reason = 'expired', version = version + 1 WHERE id = $1", payment.id
    )

    async def called() -> bool:
        return (await house.payment(session)).attention is not None

    await house.reading(called)
    assert (await house.payment(session)).attention == "paid_after_failed"
    assert (await house.events(payment))[-1] == ("attention", 3)


async def test_a_delayed_payment_that_fails_calls_a_person(house: House) -> None:
    """The session stays complete and unpaid for good: nothing but the event says it."""
    session = (await house.world.create(bookingId=47)).session_id
    await house.sandbox.control(f"sessions/{session}/settle", {"outcome": "unpaid"})
    await house.sandbox.control(f"sessions/{session}/settle", {"outcome": "failed"})

    async def called() -> bool:
        return (await house.payment(session)).needs_person

    await house.reading(called)
    payment = await house.payment(session)
    assert (payment.status, payment.attention) == (PENDING, "unsettled")
    assert await house.events(payment) == [("pending", 1), ("attention", 2)]
    answer, _ = await house.world.verify(session)
    assert answer.message.startswith("This payment was begun, but no money has arrived.")


async def test_refunds_and_a_dispute_are_published_and_the_status_stays(house: House) -> None:
    session, other = await house.paid(45), await house.paid(46)
    for each in (session, other):
        await house.world.verify(each)
    await house.sandbox.control(f"sessions/{session}/refund", {"amount": 250})
    await house.sandbox.control(f"sessions/{other}/dispute", {})

    async def both() -> bool:
        return (await house.payment(session)).refunded_minor == 250 and bool((await house.payment(other)).dispute)

    await house.reading(both)
    await house.sandbox.control(f"sessions/{session}/refund", {})

    async def whole() -> bool:
        return (await house.payment(session)).refunded_minor == 1250

    await house.reading(whole)
    first, second = await house.payment(session), await house.payment(other)
    assert (first.status, second.status, second.dispute) == (COMPLETED, COMPLETED, "needs_response")
    assert await house.events(first) == [("pending", 1), ("completed", 2), ("refunded", 3), ("refunded", 4)]
    assert await house.events(second) == [("pending", 1), ("completed", 2), ("disputed", 3)]
    [mark] = await house.owner.fetch("SELECT charges_read_until, now() FROM feed")
    assert timedelta(0) <= mark["now"] - mark["charges_read_until"] < timedelta(minutes=5)
    for statement in (
        "UPDATE payments SET refunded_minor = -1, version = version + 1",
        "UPDATE payments SET refunded_minor = 1",
    ):
        with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="keeps its refunds"):
            await house.owner.execute(statement)


async def test_a_refund_that_fails_at_stripe_is_published_as_not_refunded(house: House) -> None:
    session = await house.paid(47)
    await house.world.verify(session)
    first = await house.sandbox.control(f"sessions/{session}/refund", {"amount": 250})
    await house.sandbox.control(f"sessions/{session}/refund", {"amount": 100, "fail": True})

    async def stands(minor: int) -> bool:
        return (await house.payment(session)).refunded_minor == minor

    await house.reading(partial(stands, 250))
    await house.sandbox.control(f"sessions/{session}/refund", {"refund": first["id"], "fail": True})
    await house.reading(partial(stands, 0))
    payment = await house.payment(session)
    told = await house.events(payment)
    assert (payment.status, told[:2], told[-1][0]) == (COMPLETED, [("pending", 1), ("completed", 2)], "refunded")


async def test_a_refund_in_the_second_in_which_another_one_fails_is_published(house: House) -> None:
    whole, part = await house.paid(49), await house.paid(50)
    for session, again in ((whole, {}), (part, {"amount": 500})):
        await house.world.verify(session)
        await house.sandbox.control(f"sessions/{session}/refund", {"fail": True})
        await house.sandbox.control(f"sessions/{session}/refund", again)

    async def both() -> bool:
        payments = [await house.payment(session) for session in (whole, part)]
        return [payment.refunded_minor for payment in payments] == [1250, 500]

    await house.reading(both)


async def test_a_dispute_is_published_with_each_state_until_its_end(house: House) -> None:
    session = await house.paid(48)
    await house.world.verify(session)
    await house.sandbox.control(f"sessions/{session}/dispute", {})

    async def stands(status: str) -> bool:
        return (await house.payment(session)).dispute == status

    await house.reading(partial(stands, "needs_response"))
    for status in ("under_review", "won"):
        await house.sandbox.control(f"sessions/{session}/dispute", {"status": status})
        await house.reading(partial(stands, status))
    told = await house.events(await house.payment(session))
    assert told == [("pending", 1), ("completed", 2), ("disputed", 3), ("disputed", 4), ("disputed", 5)]


async def test_what_is_dated_in_the_future_hides_nothing_that_is_paid_after_it(house: House) -> None:
    """Stripe's clock was an hour ahead when another shop's customer paid, and was then put right."""
    await house.sandbox.control("clock", {"advance_seconds": 3600})
    stranger = await house.sandbox.client().v1.checkout.sessions.create_async(
        house.sandbox.create_params(metadata={})  # type: ignore[arg-type]
    )
    await house.sandbox.pay(stranger.id)
    await house.sandbox.control("clock", {"advance_seconds": -3600})
    await house.owner.execute(
        "INSERT INTO feed (id, read_until) VALUES (1, now() + interval '1 hour')"
        " ON CONFLICT (id) DO UPDATE SET read_until = excluded.read_until"
    )
    session = await house.paid(47)

    async def completed() -> bool:
        [mark] = await house.owner.fetch("SELECT read_until FROM feed WHERE read_until <= now()") or [None]
        return (await house.payment(session)).status is COMPLETED and mark is not None

    await house.reading(completed)
    assert (await house.payment(session)).updated_at <= datetime.now(UTC)
