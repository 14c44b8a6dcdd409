"""Verify and status: what is final comes from the database, the rest from the gateway if it may be asked."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from contracts.commands import GetPaymentStatus, VerifyCheckout
from contracts.events import EventKey
from contracts.replies import PaymentState, PaymentStatus, StatusSource
from service.application import handlers
from service.application.steps import Steps
from service.domain.errors import OutcomeUnknownError, PaymentNotFoundError
from service.domain.money import Money
from service.domain.outcomes import Paid, Processing, UnknownCause
from tests.service_support import context, create, policy
from tests.unit.service.test_create_checkout import World

LOCAL, GATEWAY = StatusSource.LOCAL, StatusSource.GATEWAY


@dataclass(kw_only=True)
class Opened:
    world: World
    session_id: str

    async def verify(self, *, seconds: float | None = None) -> tuple[PaymentState, StatusSource]:
        deadline = None if seconds is None else self.world.clock.now() + timedelta(seconds=seconds)
        command = VerifyCheckout(session_id=self.session_id)
        return await handlers.verify_checkout(command, context=context(deadline=deadline), steps=self.world.steps)

    async def status(self) -> PaymentState:
        command = GetPaymentStatus(transaction_id=self.session_id)
        return await handlers.get_payment_status(command, store=self.world.store)


async def until(happened: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not happened():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0)


@pytest.fixture
async def opened() -> Opened:
    world = World()
    answer = await world.create()
    world.gateway.calls.clear()
    return Opened(world=world, session_id=answer.session_id)


async def test_an_open_session_is_pending(opened: Opened) -> None:
    state, source = await opened.verify()
    assert (state.payment_status, source) == (PaymentStatus.PENDING, GATEWAY)
    assert (state.payment_id, state.booking_id, state.transaction_id, str(state.amount)) == (
        1,
        7,
        opened.session_id,
        "449.97",
    )


async def test_a_paid_session_is_completed_and_told_once(opened: Opened) -> None:
    opened.world.gateway.pay(opened.session_id)
    for _ in range(3):
        state, source = await opened.verify()
        assert (state.payment_status, source) == (PaymentStatus.COMPLETED, GATEWAY)
    assert opened.world.gateway.calls == ["look_up"]
    assert opened.world.told == [EventKey.PENDING, EventKey.COMPLETED]


async def test_an_expired_session_is_failed(opened: Opened) -> None:
    opened.world.gateway.let_expire(opened.session_id)
    state, _ = await opened.verify()
    assert state.payment_status is PaymentStatus.FAILED
    assert "Nothing was charged" in state.message


async def test_money_on_its_way_is_pending(opened: Opened) -> None:
    opened.world.gateway.stand(opened.session_id, Processing())
    state, source = await opened.verify()
    assert (state.payment_status, source) == (PaymentStatus.PENDING, GATEWAY)


async def test_a_final_answer_needs_no_gateway(opened: Opened) -> None:
    opened.world.gateway.pay(opened.session_id)
    final, _ = await opened.verify()
    opened.world.gateway.fault = UnknownCause.FAILED
    opened.world.clock.advance(3600)
    assert await opened.verify() == (final, GATEWAY)
    assert opened.world.gateway.calls == ["look_up"]


async def test_within_the_freshness_window_nobody_asks_twice(opened: Opened) -> None:
    await opened.verify()
    opened.world.gateway.pay(opened.session_id)
    opened.world.clock.advance(0.5)
    assert (await opened.verify())[0].payment_status is PaymentStatus.PENDING
    opened.world.clock.advance(0.5)
    assert (await opened.verify())[0].payment_status is PaymentStatus.COMPLETED
    assert opened.world.gateway.calls == ["look_up", "look_up"]


async def test_all_who_verify_at_once_share_one_call(opened: Opened) -> None:
    opened.world.gateway.pay(opened.session_id)
    answers = await asyncio.gather(*(opened.verify() for _ in range(50)))
    assert {state.payment_status for state, _ in answers} == {PaymentStatus.COMPLETED}
    assert opened.world.gateway.calls == ["look_up"]


@pytest.mark.parametrize("cause", UnknownCause)
async def test_when_the_gateway_cannot_be_asked_the_last_known_status_is_told(
    opened: Opened, cause: UnknownCause
) -> None:
    opened.world.gateway.fault = cause
    state, source = await opened.verify()
    assert (state.payment_status, source) == (PaymentStatus.PENDING, LOCAL)
    assert "could not be asked" in state.message
    opened.world.clock.advance(0.5)
    assert (await opened.verify())[1] is LOCAL
    assert opened.world.gateway.calls == ["look_up"]
    opened.world.gateway.fault = None
    opened.world.clock.advance(0.5)
    assert (await opened.verify())[1] is GATEWAY


async def test_other_money_than_ours_calls_a_person_once_and_never_completes(
    opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    opened.world.gateway.pay(opened.session_id, money=Money(1, "inr"))
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            state, _ = await opened.verify()
            assert state.payment_status is PaymentStatus.PENDING
            opened.world.clock.advance(2)
    assert opened.world.told == [EventKey.PENDING, EventKey.ATTENTION]
    assert len(caplog.records) == 1
    assert vars(caplog.records[0])["reason"] == "paid_differently"


async def test_who_asks_again_while_the_feed_is_at_work_waits_for_its_reading_instead_of_the_gateway(
    opened: Opened,
) -> None:
    steps = opened.world.steps
    await opened.verify()
    opened.world.clock.advance(2)
    steps.news.read(seconds_ago=0)
    asking = asyncio.create_task(opened.verify())
    await steps.news.reading_wanted()
    await until(lambda: len(steps.news))
    steps.news.read(seconds_ago=0)
    state, source = await asking
    assert (state.payment_status, source) == (PaymentStatus.PENDING, GATEWAY)
    assert opened.world.gateway.calls == ["look_up"]


async def test_what_the_reading_stores_is_the_answer(opened: Opened) -> None:
    steps = opened.world.steps
    await opened.verify()
    opened.world.clock.advance(2)
    steps.news.read(seconds_ago=0)
    asking = asyncio.create_task(opened.verify())
    await steps.news.reading_wanted()
    payment = opened.world.store.payments[1]
    paid = Paid(money=payment.money, reference=payment.reference, livemode=False)
    await steps.apply(payment, paid, context=context())
    steps.news.settled(payment.id)
    assert (await asking)[0].payment_status is PaymentStatus.COMPLETED
    assert opened.world.gateway.calls == ["look_up"]


async def test_a_feed_that_has_fallen_silent_is_not_waited_for(opened: Opened) -> None:
    await opened.verify()
    opened.world.clock.advance(2)
    opened.world.gateway.pay(opened.session_id)
    assert opened.world.steps.news.last_read_seconds_ago() > opened.world.steps.policy.feed_trusted_seconds
    assert (await opened.verify())[0].payment_status is PaymentStatus.COMPLETED
    assert opened.world.gateway.calls == ["look_up", "look_up"]


async def test_a_call_that_takes_longer_than_the_window_keeps_other_replicas_from_asking(opened: Opened) -> None:
    world = opened.world
    first = replace(world.steps, policy=policy(freshness_seconds=0.02))
    world.gateway.silent = asyncio.Event()
    find = world.store.payment_of_session
    asking = asyncio.create_task(first.ask(await find(opened.session_id), context=context()))
    claims = set()
    while len(claims) < 3:  # renewed, and renewed again
        world.clock.advance(0.02)
        await asyncio.sleep(0.005)
        claims.add((await find(opened.session_id)).asked_at)
    world.gateway.silent.set()
    assert (await asking).answered
    assert world.gateway.calls == ["look_up"]


async def test_another_replica_hears_what_the_one_that_asks_is_told(opened: Opened) -> None:
    world = opened.world
    other = Steps(store=world.store, gateway=world.gateway, policy=world.steps.policy, clock=world.clock)
    world.gateway.pay(opened.session_id)
    world.gateway.silent = asyncio.Event()
    asking = asyncio.create_task(opened.verify())
    await until(lambda: "look_up" in world.gateway.calls)
    elsewhere = asyncio.create_task(
        other.ask(await world.store.payment_of_session(opened.session_id), context=context())
    )
    await until(lambda: len(other.news))
    world.gateway.silent.set()
    assert (await asking)[0].payment_status is PaymentStatus.COMPLETED
    other.news.settled(1)  # as PostgreSQL tells
    assert (await elsewhere).payment.status.is_final
    assert world.gateway.calls == ["look_up"]


async def test_a_caller_with_a_deadline_is_not_kept_longer(opened: Opened) -> None:
    opened.world.gateway.silent = asyncio.Event()
    with pytest.raises(OutcomeUnknownError):
        await opened.verify(seconds=0.02)
    opened.world.gateway.pay(opened.session_id)
    opened.world.gateway.silent.set()
    await opened.world.steps.drain()
    assert (await opened.status()).payment_status is PaymentStatus.COMPLETED


async def test_status_never_asks_the_gateway(opened: Opened) -> None:
    opened.world.gateway.pay(opened.session_id)
    assert (await opened.status()).payment_status is PaymentStatus.PENDING
    await opened.verify()
    assert (await opened.status()).payment_status is PaymentStatus.COMPLETED
    assert opened.world.gateway.calls == ["look_up"]


async def test_an_unknown_session_is_not_found_and_not_invented(opened: Opened) -> None:
    stranger = Opened(world=opened.world, session_id="cs_test_stranger")
    with pytest.raises(PaymentNotFoundError):
        await stranger.verify()
    with pytest.raises(PaymentNotFoundError):
        await stranger.status()
    assert opened.world.gateway.calls == []
    assert len(opened.world.payments) == 1


async def test_a_payment_ended_for_another_amount_stays_failed(opened: Opened) -> None:
    await opened.world.create(create(amount="500"))
    assert (await opened.verify())[0].payment_status is PaymentStatus.FAILED
