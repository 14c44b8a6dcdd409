"""The settler finishes what nobody polls, and fails nothing without the gateway's word."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from contracts.commands import CreateCheckout
from service.application import handlers
from service.application.steps import UNSETTLED_AFTER, Steps
from service.domain.errors import PaymentFailedError
from service.domain.outcomes import Paid, Processing, Refused, UnknownCause
from service.domain.payment import Payment, PaymentStatus
from service.entrypoints.settler import UNOPENED_AFTER, Settler
from tests.fakes import FakeGateway, FakeStore
from tests.service_support import MovableClock, context, create, policy


class House:
    """A store, a gateway and a settler, with one create behind them."""

    def __init__(self) -> None:
        self.clock = MovableClock()
        self.store = FakeStore()
        self.gateway = FakeGateway()
        self.steps = Steps(store=self.store, gateway=self.gateway, policy=policy(), clock=self.clock)
        self.settler = Settler(steps=self.steps)
        self.command: CreateCheckout = create()

    async def create(self) -> None:
        await handlers.create_checkout(self.command, context=context(), steps=self.steps)

    async def cut_off_create(self, cause: UnknownCause = UnknownCause.FAILED, **gateway: Any) -> None:
        """A create whose caller hears that nobody knows."""
        self.gateway.fault = None if gateway else cause
        for name, value in gateway.items():
            setattr(self.gateway, name, value)
        with pytest.raises(Exception, match="provider"):
            await self.create()
        self.gateway.fault = None

    async def settle_after(self, seconds: float) -> int:
        self.clock.advance(seconds)
        return await self.settler.settle_next()

    @property
    def payment(self) -> Payment:
        (payment,) = self.store.payments.values()
        return payment


@pytest.fixture
def house() -> House:
    return House()


STUCK = UNOPENED_AFTER.total_seconds() + 1
OVERDUE = policy().window_seconds + 1


async def test_a_payment_that_is_being_worked_on_is_left_alone(house: House) -> None:
    await house.cut_off_create()
    assert await house.settle_after(UNOPENED_AFTER.total_seconds() - 1) == 0


async def test_a_payment_that_never_reached_the_gateway_gets_its_session(house: House) -> None:
    await house.cut_off_create()
    assert await house.settle_after(STUCK) == 1
    assert house.payment.session_id is not None
    assert house.payment.status is PaymentStatus.PENDING
    assert house.gateway.payable == 1


async def test_a_lost_answer_is_asked_for_again_under_the_same_key(house: House) -> None:
    await house.cut_off_create(lost_answers=1)
    assert house.gateway.payable == 1
    await house.settle_after(STUCK)
    assert house.gateway.payable == 1
    assert house.payment.session_id in house.gateway.made


async def test_an_overdue_payment_ends_at_the_gateway_first(house: House) -> None:
    """F51 Ended here only after the gateway says that it is expired."""
    await house.create()
    assert await house.settle_after(OVERDUE - 2) == 0
    assert await house.settle_after(2) == 1
    assert house.gateway.calls[-1] == "expire"
    assert (house.payment.status, house.payment.reason) == (PaymentStatus.FAILED, "expired")
    assert house.gateway.payable == 0


async def test_a_payment_paid_in_the_last_moment_is_completed(house: House) -> None:
    """F50 The customer pays while we expire: COMPLETED, not stuck."""
    await house.create()
    house.gateway.pay(house.payment.session_id or "")
    await house.settle_after(OVERDUE)
    assert house.payment.status is PaymentStatus.COMPLETED


async def test_money_on_its_way_is_waited_for(house: House) -> None:
    await house.create()
    session_id = house.payment.session_id or ""
    house.gateway.stand(session_id, Processing())
    await house.settle_after(OVERDUE)
    assert house.payment.status is PaymentStatus.PENDING
    paid = Paid(money=house.payment.money, reference=house.payment.reference, livemode=False)
    house.gateway.stand(session_id, paid)
    await house.settle_after(1000)
    assert house.payment.status is PaymentStatus.COMPLETED


async def test_a_final_payment_is_never_touched_again(house: House) -> None:
    await house.create()
    await house.settle_after(OVERDUE)
    assert await house.settle_after(10 * OVERDUE) == 0


async def test_no_silence_however_long_fails_a_payment(house: House) -> None:
    """F60 The gateway is silent for hours: still PENDING after a hundred tries, an alarm, never FAILED."""
    await house.cut_off_create()
    house.gateway.fault = UnknownCause.TIMEOUT
    for _ in range(100):
        await house.settle_after(400)
    assert house.payment.status is PaymentStatus.PENDING
    assert house.payment.settle_attempts > UNSETTLED_AFTER
    assert house.payment.attention == "unsettled"


async def test_a_person_is_called_once_for_a_payment_that_cannot_be_settled(house: House) -> None:
    await house.cut_off_create()
    house.gateway.fault = UnknownCause.FAILED
    for _ in range(UNSETTLED_AFTER - 1):
        await house.settle_after(400)
    assert house.payment.attention is None
    for _ in range(10):
        await house.settle_after(400)
    assert house.payment.attention == "unsettled"
    (event,) = house.store.outbox.events
    assert (event.type, event.data.reason) == ("com.bookticket.payment.attention.v1", "unsettled")


async def test_tries_grow_apart(house: House) -> None:
    await house.cut_off_create()
    house.gateway.fault = UnknownCause.FAILED
    claims = [await house.settle_after(5) for _ in range(60)]
    assert sum(claims) < 8


async def test_a_payment_whose_key_is_forgotten_gets_the_session_that_exists(house: House) -> None:
    """F52 A retry older than 23 h: the key is not used again, the session is looked for first; no second one."""
    await house.cut_off_create(lost_answers=1)
    await house.settle_after(24 * 3600)
    assert house.gateway.calls[:3] == ["open", "find", "look_up"]
    assert house.payment.session_id in house.gateway.made
    assert len(house.gateway.made) == 1


async def test_a_forgotten_key_is_not_used_again(house: House) -> None:
    """F52 A new key only when it is proven that there is no session."""
    await house.cut_off_create()
    house.gateway.refusal = Refused(detail="expires_at")
    await house.settle_after(24 * 3600)
    assert house.gateway.calls == ["open", "find", "open under a second key"]
    assert (house.payment.status, house.payment.reason) == (PaymentStatus.FAILED, "refused")


async def test_an_error_kept_under_the_key_does_not_hold_a_booking_for_a_day(house: House) -> None:
    """F43 A 500 saved under the key: a new key once it is proven that there is no session."""
    await house.cut_off_create()
    house.gateway.sticky = True
    await house.settle_after(60)
    assert house.payment.status is PaymentStatus.PENDING
    house.gateway.refusal = Refused(detail="expires_at")
    await house.settle_after(300)
    assert house.gateway.calls[-1] == "open under a second key"
    assert (house.payment.status, house.payment.reason) == (PaymentStatus.FAILED, "refused")


async def test_one_payment_that_surprises_us_does_not_stop_the_others(house: House) -> None:
    await house.cut_off_create()
    broken = replace(house.payment, id=2, booking_id=999, reference="broken", session_id="cs_test_unknown")
    house.store.payments[2] = replace(broken, created_at=broken.created_at - timedelta(hours=1))
    await house.settle_after(STUCK)
    assert house.store.payments[1].session_id is not None


async def test_a_settler_that_stops_begins_nothing_more(house: House) -> None:
    await house.create()
    house.settler.stop()
    assert await house.settle_after(OVERDUE) == 1
    assert house.gateway.calls == ["open"]
    assert house.payment.status is PaymentStatus.PENDING


async def test_a_settled_payment_answers_its_late_caller(house: House) -> None:
    await house.cut_off_create()
    await house.settle_after(STUCK)
    await house.create()
    assert house.gateway.payable == 1


async def test_the_key_of_a_payment_that_has_ended_says_so(house: House) -> None:
    keyed = context(idempotency_key="k")
    await handlers.create_checkout(house.command, context=keyed, steps=house.steps)
    await house.settle_after(OVERDUE)
    with pytest.raises(PaymentFailedError, match="start a new one"):
        await handlers.create_checkout(house.command, context=context(idempotency_key="k"), steps=house.steps)
