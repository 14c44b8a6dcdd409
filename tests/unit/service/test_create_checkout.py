"""Create: one payable session per booking, whatever is repeated, raced, lost or refused."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from contracts.commands import CreateCheckout
from contracts.events import EventKey
from contracts.replies import CheckoutSession
from service.application import handlers
from service.application.ports import CommandContext
from service.application.steps import Steps
from service.domain.errors import (
    AlreadyPaidError,
    CreateInProgressError,
    GatewayBusyError,
    GatewayFailedError,
    IdempotencyKeyReusedError,
    InvalidRequestError,
    MessageIdReusedError,
    OutcomeUnknownError,
    PaymentFailedError,
    PaymentServiceError,
)
from service.domain.outcomes import Processing, Refused, UnknownCause
from service.domain.payment import Payment, PaymentStatus
from tests.fakes import FakeGateway, FakeStore
from tests.service_support import MovableClock, context, create, policy


class World:
    """The handler with everything it needs, in memory."""

    def __init__(self, **rules: Any) -> None:
        self.clock = MovableClock()
        self.store = FakeStore()
        self.gateway = FakeGateway()
        self._rules = policy(**rules)
        self.steps = self.replica()

    def replica(self) -> Steps:
        """Another process on the same database and the same gateway."""
        return Steps(store=self.store, gateway=self.gateway, policy=self._rules, clock=self.clock)

    async def create(
        self, command: CreateCheckout | None = None, sent: CommandContext | None = None, *, steps: Steps | None = None
    ) -> CheckoutSession:
        return await handlers.create_checkout(command or create(), context=sent or context(), steps=steps or self.steps)

    @property
    def payments(self) -> list[Payment]:
        return list(self.store.payments.values())

    @property
    def told(self) -> list[str]:
        return [event.type.removeprefix("com.bookticket.").removesuffix(".v1") for event in self.store.outbox.events]


@pytest.fixture
def world() -> World:
    return World()


# --- the plain way --------------------------------------------------------------------------------------------------


async def test_a_create_answers_a_session_to_pay_at(world: World) -> None:
    answer = await world.create()
    (payment,) = world.payments
    assert (answer.session_id, answer.payment_url) == (payment.session_id, payment.payment_url)
    assert (answer.booking_id, str(answer.amount), answer.status) == (7, "449.97", "pending")
    assert answer.expires_at == payment.created_at.timestamp() + 900  # when the time to pay is over, not the session
    assert world.told == [EventKey.PENDING]
    assert [line.kind for line in await world.store.journal(payment.id)] == ["created", "opened"]


async def test_a_request_that_breaks_a_rule_makes_nothing(world: World) -> None:
    with pytest.raises(InvalidRequestError):
        await world.create(create(amount="0.01"))
    assert world.payments == []
    assert world.gateway.calls == []


# --- repeats --------------------------------------------------------------------------------------------------------


async def test_the_same_content_again_answers_the_same_session(world: World) -> None:
    first = await world.create()
    assert await world.create() == first
    assert world.gateway.calls == ["open"]
    assert world.told == [EventKey.PENDING]


async def test_a_redelivered_message_is_answered_without_a_gateway_call(world: World) -> None:
    sent = context()
    first = await world.create(sent=sent)
    assert await world.create(sent=sent) == first
    assert world.gateway.calls == ["open"]


async def test_an_idempotency_key_answers_the_same_session(world: World) -> None:
    first = await world.create(sent=context(idempotency_key="k", caller="a"))
    assert await world.create(sent=context(idempotency_key="k", caller="a")) == first
    assert world.gateway.calls == ["open"]


@pytest.mark.parametrize(
    "other",
    [{"amount": "450"}, {"userId": 6}, {"bookingId": 8}, {"currency": "usd"}, {"successUrl": "https://shop.example/x"}],
)
async def test_an_idempotency_key_with_another_body_is_refused_without_a_call(
    world: World, other: dict[str, Any]
) -> None:
    await world.create(sent=context(idempotency_key="k", caller="a"))
    with pytest.raises(IdempotencyKeyReusedError):
        await world.create(create(**other), sent=context(idempotency_key="k", caller="a"))
    assert world.gateway.calls == ["open"]
    assert len(world.payments) == 1


async def test_a_message_id_with_another_body_is_refused(world: World) -> None:
    sent = context()
    await world.create(sent=sent)
    with pytest.raises(MessageIdReusedError):
        await world.create(create(amount="450"), sent=sent)


async def test_two_callers_may_use_the_same_idempotency_key(world: World) -> None:
    await world.create(sent=context(idempotency_key="k", caller="a"))
    await world.create(create(bookingId=8, amount="450"), sent=context(idempotency_key="k", caller="b"))
    assert len(world.payments) == 2


@pytest.mark.parametrize("replicas", [1, 5])
async def test_fifty_at_once_get_one_session(world: World, replicas: int) -> None:
    processes = [world.steps, *(world.replica() for _ in range(replicas - 1))]
    answers = await asyncio.gather(*(world.create(steps=processes[number % replicas]) for number in range(50)))
    assert len({answer.session_id for answer in answers}) == 1
    assert len(world.gateway.made) == len(world.payments) == 1
    assert world.told == [EventKey.PENDING]


async def test_fifty_at_once_in_one_process_make_one_call(world: World) -> None:
    world.gateway.silent = asyncio.Event()
    creates = [asyncio.create_task(world.create()) for _ in range(50)]
    for _ in range(10):
        await asyncio.sleep(0)
    world.gateway.silent.set()
    await asyncio.gather(*creates)
    assert world.gateway.calls == ["open"]


# --- another amount -------------------------------------------------------------------------------------------------


async def test_another_amount_ends_the_old_session_before_it_makes_a_new_one(world: World) -> None:
    first = await world.create()
    second = await world.create(create(amount="500"))
    assert second.session_id != first.session_id
    assert world.gateway.calls == ["open", "expire", "open"]
    assert world.gateway.payable == 1
    assert [(payment.status, payment.reason) for payment in world.payments] == [
        (PaymentStatus.FAILED, "expired"),
        (PaymentStatus.PENDING, None),
    ]
    assert world.told == [EventKey.PENDING, EventKey.FAILED, EventKey.PENDING]


async def test_a_booking_paid_meanwhile_is_not_charged_again(world: World) -> None:
    first = await world.create()
    world.gateway.before_expiry = world.gateway.pay
    with pytest.raises(AlreadyPaidError) as refused:
        await world.create(create(amount="500"))
    assert refused.value.payment is not None
    assert refused.value.payment.session_id == first.session_id
    assert world.payments[0].status is PaymentStatus.COMPLETED
    assert world.gateway.payable == len(world.gateway.made) == 1
    assert world.told == [EventKey.PENDING, EventKey.COMPLETED]


async def test_no_new_session_while_money_is_on_its_way(world: World) -> None:
    first = await world.create()
    world.gateway.stand(first.session_id, Processing())
    with pytest.raises(CreateInProgressError):
        await world.create(create(amount="500"))
    assert len(world.gateway.made) == 1


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (UnknownCause.TIMEOUT, OutcomeUnknownError),
        (UnknownCause.FAILED, GatewayFailedError),
        (UnknownCause.BUSY, GatewayBusyError),
    ],
)
async def test_no_new_session_while_the_old_one_cannot_be_ended(
    world: World, fault: UnknownCause, error: type[PaymentServiceError]
) -> None:
    await world.create()
    world.gateway.fault = fault
    with pytest.raises(error):
        await world.create(create(amount="500"))
    world.gateway.fault = None
    assert world.gateway.payable == len(world.payments) == 1
    await world.create(create(amount="500"))
    assert world.gateway.payable == 1


async def test_an_old_session_that_was_never_heard_of_is_ended_too(world: World) -> None:
    world.gateway.lost_answers = 1
    with pytest.raises(OutcomeUnknownError):
        await world.create()
    await world.create(create(amount="500"))
    assert len(world.gateway.made) == 2
    assert world.gateway.payable == 1


async def test_many_amounts_at_once_leave_one_payable_session(world: World) -> None:
    processes = [world.replica() for _ in range(4)]
    attempts = (world.create(create(amount=str(100 + number)), steps=processes[number % 4]) for number in range(20))
    answers: Sequence[Any] = await asyncio.gather(*attempts, return_exceptions=True)
    errors = {type(answer) for answer in answers if isinstance(answer, BaseException)}
    assert errors <= {CreateInProgressError, PaymentFailedError}
    assert world.gateway.payable <= 1
    assert sum(payment.status is PaymentStatus.PENDING for payment in world.payments) <= 1


async def test_a_paid_booking_is_refused(world: World) -> None:
    answer = await world.create()
    world.gateway.pay(answer.session_id)
    await world.steps.ask(world.payments[0], context=context())
    for command in (create(), create(amount="500")):
        with pytest.raises(AlreadyPaidError):
            await world.create(command)
    assert len(world.gateway.made) == 1


# --- what the gateway does ------------------------------------------------------------------------------------------


async def test_a_refused_payment_fails_once(world: World) -> None:
    world.gateway.refusal = Refused(detail="amount_too_small")
    sent = context()
    for _ in range(3):
        with pytest.raises(PaymentFailedError):
            await world.create(sent=sent)
    assert world.gateway.calls == ["open"]
    assert world.told == [EventKey.FAILED]
    assert (world.payments[0].status, world.payments[0].reason) == (PaymentStatus.FAILED, "refused")


async def test_a_refused_booking_may_try_again_with_a_new_command(world: World) -> None:
    world.gateway.refusal = Refused()
    with pytest.raises(PaymentFailedError):
        await world.create()
    world.gateway.refusal = None
    assert (await world.create()).status == "pending"


@pytest.mark.parametrize("cause", UnknownCause)
async def test_an_unknown_outcome_is_never_a_failure(world: World, cause: UnknownCause) -> None:
    world.gateway.fault = cause
    with pytest.raises(PaymentServiceError) as told:
        await world.create()
    assert told.value.retryable
    (payment,) = world.payments
    assert (payment.status, payment.version) == (PaymentStatus.PENDING, 0)
    assert world.told == []
    world.gateway.fault = None
    await world.create()
    assert len(world.payments) == len(world.gateway.made) == 1


async def test_a_lost_answer_and_its_repeat_make_one_session(world: World) -> None:
    world.gateway.lost_answers = 1
    sent = context()
    with pytest.raises(OutcomeUnknownError):
        await world.create(sent=sent)
    answer = await world.create(sent=sent)
    assert [answer.session_id] == list(world.gateway.made)


async def test_a_create_resumed_after_a_minute_looks_how_its_session_stands(world: World) -> None:
    world.gateway.lost_answers = 1
    with pytest.raises(OutcomeUnknownError):
        await world.create()
    world.clock.advance(61)
    answer = await world.create()
    assert world.gateway.calls == ["open", "open", "look_up"]
    assert [answer.session_id] == list(world.gateway.made)


async def test_a_create_resumed_after_a_minute_makes_the_session_that_was_not_made(world: World) -> None:
    world.gateway.fault = UnknownCause.FAILED
    with pytest.raises(GatewayFailedError):
        await world.create()
    world.gateway.fault = None
    world.clock.advance(61)
    await world.create()
    assert world.gateway.calls == ["open", "open", "look_up"]
    assert len(world.gateway.made) == 1


async def test_a_resumed_create_whose_session_was_paid_is_already_paid(world: World) -> None:
    world.gateway.lost_answers = 1
    with pytest.raises(OutcomeUnknownError):
        await world.create()
    world.gateway.pay(next(iter(world.gateway.made)))
    world.clock.advance(61)
    with pytest.raises(AlreadyPaidError):
        await world.create()
    assert world.payments[0].status is PaymentStatus.COMPLETED
    assert len(world.gateway.made) == 1


async def test_a_create_resumed_while_nobody_can_look_makes_no_second_session(world: World) -> None:
    world.gateway.lost_answers = 1
    with pytest.raises(OutcomeUnknownError):
        await world.create()
    world.clock.advance(61)
    world.gateway.fault = UnknownCause.BUSY
    with pytest.raises(GatewayBusyError):
        await world.create()
    assert world.gateway.calls == ["open", "open"]


# --- time -----------------------------------------------------------------------------------------------------------


async def test_a_session_past_its_end_is_replaced(world: World) -> None:
    first = await world.create()
    world.gateway.let_expire(first.session_id)
    world.clock.advance(36 * 60)
    second = await world.create()
    assert second.session_id != first.session_id
    assert world.gateway.payable == 1


async def test_a_payment_that_could_not_be_opened_in_time_is_replaced(world: World) -> None:
    world.gateway.fault = UnknownCause.FAILED
    with pytest.raises(GatewayFailedError):
        await world.create()
    world.gateway.fault = None
    world.clock.advance(10 * 60)
    world.gateway.refuses_end_before = world.clock.now() + timedelta(minutes=30)
    answer = await world.create()
    assert world.gateway.payable == 1
    assert [payment.status for payment in world.payments] == [PaymentStatus.FAILED, PaymentStatus.PENDING]
    assert answer.session_id == world.payments[1].session_id


async def test_a_session_past_its_end_that_was_paid_is_already_paid(world: World) -> None:
    first = await world.create()
    world.gateway.pay(first.session_id)
    world.clock.advance(36 * 60)
    with pytest.raises(AlreadyPaidError):
        await world.create()


async def test_a_redelivered_message_of_an_ended_checkout_says_so(world: World) -> None:
    sent = context()
    first = await world.create(sent=sent)
    world.gateway.let_expire(first.session_id)
    world.clock.advance(36 * 60)
    with pytest.raises(PaymentFailedError, match="has ended"):
        await world.create(sent=sent)


async def test_a_caller_whose_deadline_comes_leaves_and_the_session_is_stored(world: World) -> None:
    world.gateway.silent = asyncio.Event()
    deadline = world.clock.now() + timedelta(milliseconds=20)
    with pytest.raises(OutcomeUnknownError):
        await world.create(sent=context(deadline=deadline))
    world.gateway.silent.set()
    await world.steps.drain()
    assert world.payments[0].session_id == next(iter(world.gateway.made))


async def test_a_caller_that_left_while_the_old_session_was_ended_gets_no_new_one(world: World) -> None:
    await world.create()
    deadline = world.clock.now() + timedelta(seconds=5)
    world.gateway.before_expiry = lambda _session_id: world.clock.advance(6)
    with pytest.raises(OutcomeUnknownError):
        await world.create(create(amount="500"), sent=context(deadline=deadline))
    assert world.gateway.payable == 0
    assert len(world.payments) == 1
