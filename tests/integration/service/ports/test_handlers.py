"""The handlers on a real database and the sandbox: what the parts promise, they promise together."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from contracts.commands import VerifyCheckout
from contracts.replies import CheckoutSession, PaymentState, PaymentStatus, StatusSource
from service.adapters.store import Database, PostgresStore
from service.adapters.stripe import StripeGateway
from service.application import handlers
from service.application.ports import CommandContext
from service.application.steps import Steps
from service.domain.errors import (
    AlreadyPaidError,
    CreateInProgressError,
    GatewayBusyError,
    GatewayFailedError,
    IdempotencyKeyReusedError,
    OutcomeUnknownError,
    PaymentFailedError,
    PaymentServiceError,
)
from service.domain.payment import Payment
from tests.integration.sandbox.harness import Running
from tests.service_support import MovableClock, context, create, policy

_bookings = itertools.count(os.getpid() * 1_000_000 + 900_001)


@dataclass(kw_only=True)
class Real:
    database: Database
    store: PostgresStore
    gateway: StripeGateway
    sandbox: Running
    clock: MovableClock
    booking: int

    def __post_init__(self) -> None:
        self.replicas = [self.replica() for _ in range(3)]

    def replica(self, **rules: Any) -> Steps:
        return Steps(
            store=self.store,
            gateway=self.gateway,
            policy=policy(**{"gateway_timeout_seconds": 5.0} | rules),
            clock=self.clock,
        )

    async def create(
        self, sent: CommandContext | None = None, *, replica: int = 0, steps: Steps | None = None, **body: Any
    ) -> CheckoutSession:
        command = create(**{"bookingId": self.booking} | body)
        return await handlers.create_checkout(command, context=sent or context(), steps=steps or self.replicas[replica])

    async def verify(self, session_id: str, *, replica: int = 0) -> tuple[PaymentState, StatusSource]:
        command = VerifyCheckout(session_id=session_id)
        return await handlers.verify_checkout(command, context=context(), steps=self.replicas[replica])

    async def calls(self, name: str) -> int:
        calls: int = (await self.stats())["calls"][f"checkout.sessions.{name}"]["calls"]
        return calls

    async def stats(self) -> Any:
        return await self.sandbox.control("stats")

    async def payments(self) -> list[Payment]:
        return list(await self.store.payments_of_booking(self.booking))

    async def events(self) -> list[str]:
        async with self.database.transaction() as connection:
            query = (
                "SELECT routing_key FROM outbox JOIN payments ON payments.id = payment_id"
                " WHERE booking_id = :booking ORDER BY outbox.id"
            )
            rows = await connection.execute(text(query), {"booking": self.booking})
            return [row[0] for row in rows]


@pytest.fixture
async def real(database: Database, sandbox: Running) -> AsyncIterator[Real]:
    gateway = StripeGateway(api_key="sk_test_handlerTests", api_base=sandbox.url, concurrency=64)
    yield Real(
        database=database,
        store=PostgresStore(database),
        gateway=gateway,
        sandbox=sandbox,
        clock=MovableClock(datetime.now(UTC)),
        booking=next(_bookings),
    )
    await gateway.close()


async def test_fifty_at_once_on_three_replicas_get_one_session(real: Real) -> None:
    answers = await asyncio.gather(*(real.create(replica=number % 3) for number in range(50)), return_exceptions=True)
    sessions = {answer.session_id for answer in answers if isinstance(answer, CheckoutSession)}
    errors = [answer for answer in answers if not isinstance(answer, CheckoutSession)]
    assert len(sessions) == 1
    assert all(isinstance(error, PaymentServiceError) and error.retryable for error in errors)
    assert len(await real.payments()) == len(await real.sandbox.control("ledger")) == 1
    assert await real.events() == ["payment.pending"]


async def test_a_redelivered_message_is_answered_without_a_call(real: Real) -> None:
    sent = context(idempotency_key="k", caller=str(real.booking))
    first = await real.create(sent)
    assert await real.create(sent, replica=1) == first
    assert await real.create(context(idempotency_key="k", caller=str(real.booking)), replica=2) == first
    assert await real.calls("create") == 1
    with pytest.raises(IdempotencyKeyReusedError):
        await real.create(context(idempotency_key="k", caller=str(real.booking)), amount="500")
    assert (await real.stats())["max_payable_per_booking"] == 1


async def test_another_amount_ends_the_old_session_first(real: Real) -> None:
    first = await real.create()
    second = await real.create(amount="500")
    assert first.session_id != second.session_id
    stats = await real.stats()
    assert stats["sessions"] == {"open": 1, "complete": 0, "expired": 1}
    assert stats["max_payable_per_booking"] == 1
    assert await real.events() == ["payment.pending", "payment.failed", "payment.pending"]


async def test_twenty_amounts_at_once_never_leave_two_sessions_to_pay_at(real: Real) -> None:
    attempts = (real.create(amount=str(100 + number), replica=number % 3) for number in range(20))
    answers = await asyncio.gather(*attempts, return_exceptions=True)
    allowed = CheckoutSession | CreateInProgressError | PaymentFailedError | GatewayBusyError
    assert [answer for answer in answers if not isinstance(answer, allowed)] == []
    assert (await real.stats())["max_payable_per_booking"] <= 1


async def test_a_booking_paid_meanwhile_is_already_paid(real: Real) -> None:
    first = await real.create()
    await real.sandbox.pay(first.session_id)
    with pytest.raises(AlreadyPaidError):
        await real.create(amount="500")
    with pytest.raises(AlreadyPaidError):
        await real.create()
    assert await real.events() == ["payment.pending", "payment.completed"]
    assert len(await real.sandbox.control("ledger")) == 1


async def test_a_refused_payment_fails_once(real: Real) -> None:
    sent = context()
    strict = real.replica(success_url="not a url that Stripe would take")
    for _ in range(3):
        with pytest.raises(PaymentFailedError):
            await real.create(sent, steps=strict)
    assert await real.calls("create") == 1
    assert await real.events() == ["payment.failed"]


@pytest.mark.parametrize("faults", [{"down": True}, {"error_rate": 1}, {"rate_limits": {"default": 0}}], ids=str)
async def test_an_outage_leaves_the_payment_pending_and_its_repeat_makes_one_session(
    real: Real, faults: dict[str, Any]
) -> None:
    await real.sandbox.control("config", faults)
    with pytest.raises(PaymentServiceError) as told:
        await real.create()
    assert told.value.retryable
    (payment,) = await real.payments()
    assert (payment.status, payment.version) == ("PENDING", 0)
    await real.sandbox.control("config", {"down": False, "error_rate": 0, "rate_limits": {}})
    await real.create()
    assert len(await real.sandbox.control("ledger")) == len(await real.payments()) == 1


async def test_an_answer_that_was_lost_is_found_a_minute_later(real: Real) -> None:
    await real.sandbox.control("config", {"lose_responses": 1})
    with pytest.raises(GatewayFailedError):
        await real.create()
    real.clock.advance(61)
    answer = await real.create(replica=1)
    (session,) = await real.sandbox.control("ledger")
    assert session["id"] == answer.session_id


async def test_a_caller_that_leaves_misses_nothing(real: Real) -> None:
    await real.sandbox.control("config", {"latency_ms": 300})
    with pytest.raises(OutcomeUnknownError):
        await real.create(context(deadline=real.clock.now() + timedelta(milliseconds=50)))
    await real.replicas[0].drain()
    (payment,) = await real.payments()
    assert payment.session_id is not None


async def test_a_paid_session_is_known_once_and_for_ever(real: Real) -> None:
    answer = await real.create()
    await real.sandbox.pay(answer.session_id)
    states = await asyncio.gather(*(real.verify(answer.session_id, replica=number % 3) for number in range(30)))
    assert PaymentStatus.COMPLETED in {state.payment_status for state, _ in states}
    await real.sandbox.control("config", {"down": True})
    state, source = await real.verify(answer.session_id)
    assert (state.payment_status, source) == (PaymentStatus.COMPLETED, StatusSource.GATEWAY)
    assert await real.calls("retrieve") == 1
    assert await real.events() == ["payment.pending", "payment.completed"]


async def test_the_last_known_status_is_told_while_stripe_is_down(real: Real) -> None:
    answer = await real.create()
    await real.sandbox.control("config", {"down": True})
    state, source = await real.verify(answer.session_id)
    assert (state.payment_status, source) == (PaymentStatus.PENDING, StatusSource.LOCAL)


async def test_no_connection_is_held_while_stripe_thinks(real: Real) -> None:
    answer = await real.create()
    await real.sandbox.control("config", {"latency_ms": 500})
    tasks = [asyncio.create_task(real.create(bookingId=next(_bookings))) for _ in range(40)]
    tasks.append(asyncio.create_task(real.create(amount="500", replica=1)))
    verifying = asyncio.create_task(real.verify(answer.session_id, replica=2))
    checked_out: Callable[[], int] = real.database.engine.pool.checkedout  # type: ignore[attr-defined]
    while await real.calls("create") < 41 or await real.calls("expire") < 1 or await real.calls("retrieve") < 1:  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    held = [checked_out()]
    for _ in range(5):
        await asyncio.sleep(0.01)
        held.append(checked_out())
    assert min(held) == 0
    await asyncio.gather(*tasks, verifying)
