"""The gateway port: one suite for the fake and for Stripe's SDK against the sandbox over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import pytest

from service.adapters.stripe import StripeGateway
from service.application.ports import CheckoutTerms, Gateway, Page
from service.domain.money import Money
from service.domain.outcomes import Expired, Open, Opened, Outcome, Paid, Unknown, UnknownCause
from service.domain.payment import Payment
from tests.fakes import FakeGateway
from tests.integration.sandbox.harness import Running
from tests.service_support import a_payment

SECONDS = 5.0


class Provider(Protocol):
    """What the test does at the provider, behind the gateway's back."""

    gateway: Gateway

    async def pay(self, session_id: str) -> None: ...

    async def let_expire(self, session_id: str) -> None: ...

    async def open_unheard(self, payment: Payment) -> Outcome: ...

    async def fail(self, cause: UnknownCause | None) -> None: ...

    async def fall_silent(self) -> None: ...

    async def sessions(self) -> int: ...


class FakeProvider:
    def __init__(self) -> None:
        self.fake = FakeGateway()
        self.gateway: Gateway = self.fake

    async def pay(self, session_id: str) -> None:
        self.fake.pay(session_id)

    async def let_expire(self, session_id: str) -> None:
        self.fake.let_expire(session_id)

    async def open_unheard(self, payment: Payment) -> Outcome:
        self.fake.lost_answers = 1
        return await self.gateway.open(payment, timeout_seconds=SECONDS)

    async def fail(self, cause: UnknownCause | None) -> None:
        self.fake.fault = cause

    async def fall_silent(self) -> None:
        self.fake.silent = asyncio.Event()

    async def sessions(self) -> int:
        return len(self.fake.made)


class SandboxProvider:
    def __init__(self, gateway: StripeGateway, sandbox: Running) -> None:
        self.gateway: Gateway = gateway
        self.sandbox = sandbox

    async def pay(self, session_id: str) -> None:
        await self.sandbox.pay(session_id)

    async def let_expire(self, session_id: str) -> None:  # noqa: ARG002 - time passes for all of them
        await self.sandbox.control("clock", {"advance_seconds": 24 * 3600})

    async def open_unheard(self, payment: Payment) -> Outcome:
        known = await self.sessions()
        await self.sandbox.control("config", {"latency_ms": 200})
        outcome = await self.gateway.open(payment, timeout_seconds=0.1)
        await self.sandbox.control("config", {"latency_ms": 0})
        while await self.sessions() == known:  # noqa: ASYNC110 - the sandbox offers no event
            await asyncio.sleep(0.01)
        return outcome

    async def fail(self, cause: UnknownCause | None) -> None:
        limits = {"default": 0} if cause is UnknownCause.BUSY else {}
        await self.sandbox.control("config", {"rate_limits": limits, "down": cause is UnknownCause.FAILED})

    async def fall_silent(self) -> None:
        await self.sandbox.control("config", {"latency_ms": 60_000})

    async def sessions(self) -> int:
        return len(await self.sandbox.control("ledger"))


@pytest.fixture(params=["fake", "stripe"])
async def provider(request: pytest.FixtureRequest, sandbox: Running) -> AsyncIterator[Provider]:
    if request.param == "fake":
        yield FakeProvider()
        return
    gateway = StripeGateway(api_key="sk_test_gatewaySuite", api_base=sandbox.url, concurrency=8)
    yield SandboxProvider(gateway, sandbox)
    await gateway.close()


def a_new_payment(gateway: Gateway, **changes: Any) -> Payment:
    """Begun and not opened, as the policy makes it."""
    created_at = changes.pop("created_at", datetime.now(UTC))
    payment = a_payment(created_at=created_at, session_id=None, payment_url=None, version=0, **changes)
    payment = replace(payment, expires_at=created_at.replace(microsecond=0) + timedelta(minutes=35))
    terms = CheckoutTerms(
        reference=payment.reference,
        booking_id=payment.booking_id,
        user_id=payment.user_id,
        amount_minor=payment.money.minor,
        currency=payment.money.currency,
        success_url=payment.success_url,
        cancel_url=payment.cancel_url,
        expires_at=payment.expires_at,
    )
    return replace(payment, gateway_request=gateway.checkout_request(terms))


async def opened(provider: Provider, **changes: Any) -> Payment:
    payment = a_new_payment(provider.gateway, **changes)
    return with_session(payment, await provider.gateway.open(payment, timeout_seconds=SECONDS))


def with_session(payment: Payment, outcome: Outcome | None) -> Payment:
    assert isinstance(outcome, Opened), outcome
    return replace(payment, session_id=outcome.session_id, payment_url=outcome.payment_url, version=1)


def paid(payment: Payment) -> Paid:
    return Paid(money=payment.money, reference=payment.reference, livemode=False)


def cause(outcome: Outcome | None) -> UnknownCause | None:
    return outcome.cause if isinstance(outcome, Unknown) else None


async def test_a_session_is_opened_with_a_page_and_the_end_that_was_asked_for(provider: Provider) -> None:
    payment = a_new_payment(provider.gateway)
    outcome = await provider.gateway.open(payment, timeout_seconds=SECONDS)
    assert isinstance(outcome, Opened)
    assert outcome.session_id.startswith("cs_test_")
    assert outcome.payment_url is not None
    assert outcome.payment_url.startswith("http")
    assert "#" in outcome.payment_url
    assert outcome.expires_at == payment.expires_at


async def test_opening_again_is_the_same_session(provider: Provider) -> None:
    payment = a_new_payment(provider.gateway)
    first = await provider.gateway.open(payment, timeout_seconds=SECONDS)
    assert await provider.gateway.open(payment, timeout_seconds=SECONDS) == first
    assert await provider.sessions() == 1


async def test_two_payments_get_two_sessions(provider: Provider) -> None:
    first, second = await opened(provider), await opened(provider)
    assert first.session_id != second.session_id


@pytest.mark.parametrize(
    ("minor", "currency"), [(44997, "inr"), (500, "jpy"), (5120, "kwd"), (500, "isk"), (50, "usd")]
)
async def test_money_of_every_kind_comes_back_as_it_was_sent(provider: Provider, minor: int, currency: str) -> None:
    payment = await opened(provider, money=Money(minor, currency))
    await provider.pay(payment.session_id or "")
    assert await provider.gateway.look_up(payment, timeout_seconds=SECONDS) == paid(payment)


async def test_an_open_session_is_open(provider: Provider) -> None:
    payment = await opened(provider)
    assert await provider.gateway.look_up(payment, timeout_seconds=SECONDS) == Open()


async def test_a_session_past_its_end_is_expired(provider: Provider) -> None:
    payment = await opened(provider)
    await provider.let_expire(payment.session_id or "")
    assert await provider.gateway.look_up(payment, timeout_seconds=SECONDS) == Expired()
    assert await provider.gateway.expire(payment, timeout_seconds=SECONDS) == Expired()


async def test_an_open_session_can_be_ended(provider: Provider) -> None:
    payment = await opened(provider)
    assert await provider.gateway.expire(payment, timeout_seconds=SECONDS) == Expired()
    assert await provider.gateway.look_up(payment, timeout_seconds=SECONDS) == Expired()


async def test_ending_a_paid_session_says_that_it_is_paid(provider: Provider) -> None:
    payment = await opened(provider)
    await provider.pay(payment.session_id or "")
    assert await provider.gateway.expire(payment, timeout_seconds=SECONDS) == paid(payment)


async def test_a_session_that_nobody_heard_of_is_found(provider: Provider) -> None:
    payment = a_new_payment(provider.gateway)
    await opened(provider)
    assert cause(await provider.open_unheard(payment)) is UnknownCause.TIMEOUT
    found = await provider.gateway.find(payment, timeout_seconds=SECONDS)
    assert await provider.gateway.look_up(with_session(payment, found), timeout_seconds=SECONDS) == Open()
    assert await provider.sessions() == 2


async def test_a_lost_answer_and_its_repeat_are_one_session(provider: Provider) -> None:
    """F42 Timeout: unknown, then the same key again; one session."""
    payment = a_new_payment(provider.gateway)
    assert cause(await provider.open_unheard(payment)) is UnknownCause.TIMEOUT
    assert isinstance(await provider.gateway.open(payment, timeout_seconds=SECONDS), Opened)
    assert await provider.sessions() == 1


async def test_what_was_never_opened_is_not_found(provider: Provider) -> None:
    await opened(provider)
    assert await provider.gateway.find(a_new_payment(provider.gateway), timeout_seconds=SECONDS) is None


@pytest.mark.parametrize("trouble", [UnknownCause.FAILED, UnknownCause.BUSY])
async def test_a_provider_in_trouble_is_unknown_and_never_a_refusal(provider: Provider, trouble: UnknownCause) -> None:
    """F42 Connections that are cut without an answer, among others: unknown, never a failure."""
    payment = await opened(provider)
    fresh = a_new_payment(provider.gateway)
    await provider.fail(trouble)
    assert cause(await provider.gateway.open(fresh, timeout_seconds=SECONDS)) is trouble
    assert cause(await provider.gateway.find(fresh, timeout_seconds=SECONDS)) is trouble
    assert cause(await provider.gateway.look_up(payment, timeout_seconds=SECONDS)) is trouble
    assert cause(await provider.gateway.expire(payment, timeout_seconds=SECONDS)) is trouble
    await provider.fail(None)
    assert await provider.gateway.look_up(payment, timeout_seconds=SECONDS) == Open()
    assert await provider.sessions() == 1


async def test_a_provider_that_says_nothing_is_unknown_when_time_is_up(provider: Provider) -> None:
    """F42 Timeout: unknown, never a failure, whatever was asked."""
    payment = await opened(provider)
    await provider.fall_silent()
    for outcome in [
        await provider.gateway.open(a_new_payment(provider.gateway), timeout_seconds=0.1),
        await provider.gateway.find(payment, timeout_seconds=0.1),
        await provider.gateway.look_up(payment, timeout_seconds=0.1),
        await provider.gateway.expire(payment, timeout_seconds=0.1),
    ]:
        assert cause(outcome) is UnknownCause.TIMEOUT


async def test_events_tell_how_sessions_ended_newest_first(provider: Provider) -> None:
    began = datetime.now(UTC)
    await opened(provider)
    first, second = await opened(provider), await opened(provider)
    await provider.pay(first.session_id or "")
    await provider.gateway.expire(second, timeout_seconds=SECONDS)
    page = await provider.gateway.events(since=began, timeout_seconds=SECONDS)
    assert isinstance(page, Page)
    assert page.next is None
    assert [(each.session_id, each.outcome) for each in page.told] == [
        (second.session_id, Expired()),
        (first.session_id, paid(first)),
    ]
    assert len({each.id for each in page.told}) == 2
    assert all(abs(each.at - began) < timedelta(minutes=1) for each in page.told)
    assert all(each.at.microsecond == 0 for each in page.told)
    later = await provider.gateway.events(since=began + timedelta(hours=1), timeout_seconds=SECONDS)
    assert later == Page(told=[], next=None)


async def test_a_list_of_sessions_tells_how_they_stand_now(provider: Provider) -> None:
    began = datetime.now(UTC)
    first, second = await opened(provider), await opened(provider)
    await provider.pay(first.session_id or "")
    page = await provider.gateway.sessions(since=began, timeout_seconds=SECONDS)
    assert isinstance(page, Page)
    assert page.next is None
    assert [(each.id, each.session_id, each.outcome) for each in page.told] == [
        (second.session_id, second.session_id, None),
        (first.session_id, first.session_id, paid(first)),
    ]
    later = await provider.gateway.sessions(since=began + timedelta(hours=1), timeout_seconds=SECONDS)
    assert later == Page(told=[], next=None)


async def test_more_than_a_page_is_read_on_to_its_end(provider: Provider) -> None:
    began = datetime.now(UTC)
    payments = await asyncio.gather(*(opened(provider) for _ in range(101)))
    await asyncio.gather(*(provider.pay(payment.session_id or "") for payment in payments))
    for read in (provider.gateway.events, provider.gateway.sessions):
        first = await read(since=began, timeout_seconds=SECONDS)
        assert isinstance(first, Page)
        assert len(first.told) == 100
        assert first.next == first.told[-1].id
        second = await read(since=began, after=first.next, timeout_seconds=SECONDS)
        assert isinstance(second, Page)
        assert second.next is None
        told = [*first.told, *second.told]
        assert {each.session_id for each in told} == {payment.session_id for payment in payments}
        assert all(isinstance(each.outcome, Paid) for each in told)


@pytest.mark.parametrize("trouble", [UnknownCause.FAILED, UnknownCause.BUSY])
async def test_what_cannot_be_read_in_trouble_is_unknown(provider: Provider, trouble: UnknownCause) -> None:
    await provider.fail(trouble)
    for read in (provider.gateway.events, provider.gateway.sessions):
        answer = await read(since=datetime.now(UTC), timeout_seconds=SECONDS)
        assert isinstance(answer, Unknown)
        assert answer.cause is trouble


def test_it_knows_whether_real_money_moves() -> None:
    assert FakeGateway.livemode is False
