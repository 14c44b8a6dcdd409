"""What a create does while all turns to call the gateway are taken."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from contracts.replies import CheckoutSession
from service.application import handlers
from service.application.budget import Budget, Endpoint
from service.application.ports import CommandContext
from service.application.steps import Steps
from service.domain.errors import (
    AlreadyPaidError,
    GatewayBusyError,
    IdempotencyKeyReusedError,
    OutcomeUnknownError,
    PaymentFailedError,
)
from service.domain.outcomes import UnknownCause
from service.domain.payment import PaymentStatus
from tests.fakes import FakeGateway, FakePlaces, FakeStore
from tests.service_support import MovableClock, context, create, policy


class Sale:
    """A service that makes one call at a time, and somebody who can make that call."""

    def __init__(self) -> None:
        self.clock, self.store, self.gateway, self.places = MovableClock(), FakeStore(), FakeGateway(), FakePlaces()
        self.budget = Budget(concurrency=1)
        self.steps = Steps(
            store=self.store,
            gateway=self.gateway,
            policy=policy(),
            clock=self.clock,
            budget=self.budget,
            places=self.places,
        )

    def until(self, seconds: float, **members: Any) -> CommandContext:
        return context(deadline=self.clock.now() + timedelta(seconds=seconds), **members)

    async def create(self, sent: CommandContext | None = None, **body: Any) -> CheckoutSession:
        return await handlers.create_checkout(create(**body), context=sent or self.until(2), steps=self.steps)

    @asynccontextmanager
    async def sold_out(self) -> AsyncIterator[None]:
        async with self.budget.turn(Endpoint.CREATE):
            yield

    async def line(self) -> None:
        """Return as soon as somebody waits."""
        async with asyncio.timeout(10):
            while not any(count for *_, count in self.budget.waiting()):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.001)


@pytest.fixture
def sale() -> Sale:
    return Sale()


async def test_a_create_whose_turn_does_not_come_leaves_no_payment_and_makes_no_call(sale: Sale) -> None:
    async with sale.sold_out():
        with pytest.raises(GatewayBusyError) as refused:
            await sale.create()
    assert refused.value.retry_after_seconds == 1
    assert (sale.store.payments, sale.gateway.calls, list(sale.places.kept)) == ({}, [], [7])
    assert sale.steps.admission.refused == 1


async def test_coming_back_it_is_served_and_its_place_is_given_up(sale: Sale) -> None:
    async with sale.sold_out():
        with pytest.raises(GatewayBusyError):
            await sale.create()
        assert sale.steps.admission.expected == 1
    sale.clock.advance(1)
    assert (await sale.create()).status == "pending"
    assert (sale.places.kept, sale.steps.admission.expected) == ({}, 0)


async def test_it_comes_before_those_who_came_after_it(sale: Sale) -> None:
    async with sale.sold_out():
        with pytest.raises(GatewayBusyError):
            await sale.create()
        sale.clock.advance(1)
        newcomer = asyncio.create_task(sale.create(sale.until(10), bookingId=8))
        await sale.line()
        back = asyncio.create_task(sale.create(sale.until(10)))
        for _ in range(100):
            await asyncio.sleep(0)
    await asyncio.gather(newcomer, back)
    assert [payment.booking_id for payment in sale.store.payments.values()] == [7, 8]


async def test_a_repeat_that_needs_no_call_is_answered_however_long_the_line_is(sale: Sale) -> None:
    sent = sale.until(2, idempotency_key="k", caller="a")
    first = await sale.create(sent)
    async with sale.sold_out():
        assert await sale.create() == first
        assert await sale.create(sent) == first
        with pytest.raises(IdempotencyKeyReusedError):
            await sale.create(sale.until(2, idempotency_key="k", caller="a"), amount="450")
        sale.gateway.pay(first.session_id)
        await sale.steps.ask(sale.store.payments[1], context=context())
        with pytest.raises(AlreadyPaidError):
            await sale.create(amount="500")
    assert sale.gateway.calls == ["open", "look_up"]
    assert sale.budget.is_free(Endpoint.CREATE)


async def test_a_key_that_was_seen_in_a_rush_means_the_same_payment_for_ever(sale: Sale) -> None:
    first = await sale.create()
    keyed = {"idempotency_key": "k", "caller": "a"}
    async with sale.sold_out():
        assert await sale.create(sale.until(2, **keyed)) == first
        sale.gateway.let_expire(first.session_id)
        await sale.steps.ask(sale.store.payments[1], context=context())
        with pytest.raises(PaymentFailedError):
            await sale.create(sale.until(2, **keyed))
    with pytest.raises(PaymentFailedError):
        await sale.create(sale.until(2, **keyed))


async def test_nobody_is_called_for_who_has_left_the_line(sale: Sale) -> None:
    async with sale.sold_out():
        waiting = asyncio.create_task(sale.create(sale.until(10)))
        await sale.line()
        sale.clock.advance(11)
    with pytest.raises(OutcomeUnknownError):
        await waiting
    assert (sale.store.payments, sale.gateway.calls) == ({}, [])
    assert sale.budget.is_free(Endpoint.CREATE)


async def test_repeats_of_a_booking_that_waits_stand_in_line_once(sale: Sale) -> None:
    async with sale.sold_out():
        waiting = [asyncio.create_task(sale.create(sale.until(10))) for _ in range(20)]
        await sale.line()
        for _ in range(100):
            await asyncio.sleep(0)
        assert sum(count for *_, count in sale.budget.waiting()) == 1
    answers = await asyncio.gather(*waiting)
    assert len({answer.session_id for answer in answers}) == 1
    assert sale.gateway.calls == ["open"]


async def test_a_turn_that_is_not_needed_goes_to_the_next(sale: Sale) -> None:
    first = await sale.create()
    assert await sale.create() == first
    assert sale.budget.is_free(Endpoint.CREATE)
    assert sale.gateway.calls == ["open"]


async def test_a_create_that_failed_at_the_gateway_is_finished_by_its_repeat_in_line(sale: Sale) -> None:
    sale.gateway.fault = UnknownCause.TIMEOUT
    with pytest.raises(OutcomeUnknownError):
        await sale.create()
    sale.gateway.fault = None
    async with sale.sold_out():
        repeat = asyncio.create_task(sale.create(sale.until(10)))
        await sale.line()
    assert (await repeat).status == "pending"
    assert [payment.status for payment in sale.store.payments.values()] == [PaymentStatus.PENDING]
