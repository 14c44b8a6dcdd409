"""Verify and status: what is final comes from the database, the rest from the gateway if it may be asked."""

import asyncio
import logging
from dataclasses import dataclass
from datetime import timedelta

import pytest

from contracts.commands import GetPaymentStatus, VerifyCheckout
from contracts.events import EventKey
from contracts.replies import PaymentState, PaymentStatus, StatusSource
from service.application import handlers
from service.domain.errors import OutcomeUnknownError, PaymentNotFoundError
from service.domain.money import Money
from service.domain.outcomes import Processing, UnknownCause
from tests.service_support import context, create
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
