"""The gateway port: one suite for the fake and for Stripe's SDK against the sandbox over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from service.adapters.stripe import StripeGateway
from service.application.ports import EventPage, Gateway
from service.domain.money import Money
from service.domain.outcomes import Expired, Open, Opened, Outcome, Paid, Unknown, UnknownCause
from service.domain.payment import Payment
from tests.integration.sandbox.harness import Running
from tests.kit.fake_gateway import FakeGateway
from tests.kit.lifetimes import closing
from tests.kit.observers import CountingObserver
from tests.kit.service import a_payment
from tests.kit.world import a_stripe_gateway

SECONDS = 5.0
KEY = "sk_test_gatewayTests"


class FakeProvider:
    """What a test does at the provider, behind the gateway's back."""

    def __init__(self) -> None:
        self.fake = FakeGateway()
        self.gateway: Gateway = self.fake

    async def pay(self, session_id: str) -> None:
        self.fake.pay(session_id)

    async def let_expire(self, session_id: str) -> None:
        self.fake.let_expire(session_id)

    async def open_unanswered(self, payment: Payment) -> Outcome:
        """The session is made and its answer lost."""
        self.fake.lost_answers = 1
        return await self.gateway.open(payment, timeout_seconds=SECONDS)

    async def fail(self, cause: UnknownCause | None) -> None:
        self.fake.fault = None if cause is UnknownCause.TIMEOUT else cause
        self.fake.silent = asyncio.Event() if cause is UnknownCause.TIMEOUT else None

    async def sessions(self) -> int:
        return len(self.fake.made)


class SandboxProvider:
    """The same at the sandbox."""

    def __init__(self, gateway: StripeGateway, sandbox: Running) -> None:
        self.gateway: Gateway = gateway
        self.sandbox = sandbox

    async def pay(self, session_id: str) -> None:
        await self.sandbox.pay(session_id)

    async def let_expire(self, session_id: str) -> None:  # noqa: ARG002 - time passes for all of them
        await self.sandbox.control("clock", {"advance_seconds": 24 * 3600})

    async def open_unanswered(self, payment: Payment) -> Outcome:
        known = await self.sessions()
        await self.sandbox.control("config", {"latency_ms": 200})
        outcome = await self.gateway.open(payment, timeout_seconds=0.1)
        await self.sandbox.control("config", {"latency_ms": 0})
        while await self.sessions() == known:  # noqa: ASYNC110 - the sandbox offers no event
            await asyncio.sleep(0.01)
        return outcome

    async def fail(self, cause: UnknownCause | None) -> None:
        limits = {"default": 0} if cause is UnknownCause.BUSY else {}
        latency = 60_000 if cause is UnknownCause.TIMEOUT else 0
        faults = {"rate_limits": limits, "down": cause is UnknownCause.FAILED, "latency_ms": latency}
        await self.sandbox.control("config", faults)

    async def sessions(self) -> int:
        return len(await self.sandbox.control("ledger"))


Provider = FakeProvider | SandboxProvider


def a_gateway(url: str, **parts: Any) -> AbstractAsyncContextManager[StripeGateway]:
    return closing(a_stripe_gateway(url, **{"api_key": KEY} | parts))


@pytest.fixture(params=["fake", "stripe"])
async def provider(request: pytest.FixtureRequest, sandbox: Running) -> AsyncIterator[Provider]:
    if request.param == "fake":
        yield FakeProvider()
        return
    async with a_gateway(sandbox.url) as gateway:
        yield SandboxProvider(gateway, sandbox)


def a_new_payment(gateway: Gateway, **changes: Any) -> Payment:
    """Begun and not opened, as the policy makes it."""
    created_at = changes.pop("created_at", datetime.now(UTC))
    payment = a_payment(created_at=created_at, session_id=None, payment_url=None, version=0, **changes)
    payment = replace(payment, expires_at=created_at.replace(microsecond=0) + timedelta(minutes=35))
    return replace(payment, gateway_request=gateway.checkout_request(payment))


def counts(gateway: StripeGateway) -> CountingObserver:
    """What the gateway has reported."""
    return cast("CountingObserver", gateway.calls.observer)


def attempts(gateway: StripeGateway) -> int:
    """Requests sent to Stripe."""
    return sum(number for name, number in counts(gateway).items() if name.startswith("gateway_attempt"))


async def opened(provider: Provider, **changes: Any) -> Payment:
    payment = a_new_payment(provider.gateway, **changes)
    return with_session(payment, await provider.gateway.open(payment, timeout_seconds=SECONDS))


def with_session(payment: Payment, outcome: Outcome | None) -> Payment:
    assert isinstance(outcome, Opened), outcome
    return replace(payment, session_id=outcome.session_id, payment_url=outcome.payment_url, version=1)


def paid(payment: Payment) -> Paid:
    return Paid(money=payment.money, reference=payment.reference, livemode=False)


def cause(outcome: Outcome | EventPage | None) -> UnknownCause | None:
    return outcome.cause if isinstance(outcome, Unknown) else None


async def test_a_payment_opens_one_session_with_a_page_and_the_end_that_was_asked_for(provider: Provider) -> None:
    payment = a_new_payment(provider.gateway)
    outcome = await provider.gateway.open(payment, timeout_seconds=SECONDS)
    assert isinstance(outcome, Opened)
    assert outcome.session_id.startswith("cs_test_")
    assert "#" in (outcome.payment_url or "")
    assert outcome.expires_at == payment.expires_at
    assert await provider.gateway.open(payment, timeout_seconds=SECONDS) == outcome
    assert await provider.sessions() == 1
    assert (await opened(provider)).session_id != outcome.session_id
    assert provider.gateway.livemode is False


@pytest.mark.parametrize(
    ("minor", "currency"), [(44997, "inr"), (500, "jpy"), (5120, "kwd"), (500, "isk"), (50, "usd")]
)
async def test_a_session_is_open_until_its_money_comes_as_it_was_sent(
    provider: Provider, minor: int, currency: str
) -> None:
    payment = await opened(provider, money=Money(minor, currency))
    assert await provider.gateway.look_up(payment, timeout_seconds=SECONDS) == Open()
    await provider.pay(payment.session_id or "")
    assert await provider.gateway.look_up(payment, timeout_seconds=SECONDS) == paid(payment)
    assert await provider.gateway.expire(payment, timeout_seconds=SECONDS) == paid(payment), "it cannot be ended"


@pytest.mark.parametrize("by", ["time", "us"])
async def test_a_session_that_ended_without_money_is_expired(provider: Provider, by: str) -> None:
    payment = await opened(provider)
    if by == "time":
        await provider.let_expire(payment.session_id or "")
        assert await provider.gateway.look_up(payment, timeout_seconds=SECONDS) == Expired()
    assert await provider.gateway.expire(payment, timeout_seconds=SECONDS) == Expired()
    assert await provider.gateway.look_up(payment, timeout_seconds=SECONDS) == Expired()


async def test_a_lost_answer_is_unknown_and_its_session_is_found_and_never_made_twice(provider: Provider) -> None:
    """F42 Timeout: unknown, then the same key again; one session."""
    payment = a_new_payment(provider.gateway)
    await opened(provider)
    assert await provider.gateway.find(payment, timeout_seconds=SECONDS) is None
    assert cause(await provider.open_unanswered(payment)) is UnknownCause.TIMEOUT
    found = await provider.gateway.find(payment, timeout_seconds=SECONDS)
    assert await provider.gateway.look_up(with_session(payment, found), timeout_seconds=SECONDS) == Open()
    again = await provider.gateway.open(payment, timeout_seconds=SECONDS)
    assert with_session(payment, again).session_id == with_session(payment, found).session_id
    assert await provider.sessions() == 2


@pytest.mark.parametrize("trouble", [UnknownCause.FAILED, UnknownCause.BUSY, UnknownCause.TIMEOUT])
async def test_a_provider_in_trouble_is_unknown_and_never_a_refusal(provider: Provider, trouble: UnknownCause) -> None:
    """F42 Connections cut without an answer, or no answer in time: unknown, never a failure, whatever was asked."""
    gateway, payment, fresh = provider.gateway, await opened(provider), a_new_payment(provider.gateway)
    seconds = 0.1 if trouble is UnknownCause.TIMEOUT else SECONDS
    await provider.fail(trouble)
    for call in (gateway.open(fresh, timeout_seconds=seconds), gateway.find(fresh, timeout_seconds=seconds)):
        assert cause(await call) is trouble
    for ask in (gateway.look_up, gateway.expire):
        assert cause(await ask(payment, timeout_seconds=seconds)) is trouble
    for fetch in (gateway.events, gateway.sessions):
        assert cause(await fetch(since=datetime.now(UTC), timeout_seconds=seconds)) is trouble
    await provider.fail(None)
    assert await gateway.look_up(payment, timeout_seconds=SECONDS) == Open()
    if trouble is not UnknownCause.TIMEOUT:  # a call without an answer may still arrive
        assert await provider.sessions() == 1


async def test_events_say_how_sessions_ended_and_lists_how_they_stand_newest_first(provider: Provider) -> None:
    began = datetime.now(UTC)
    still_open = await opened(provider)
    first, second = await opened(provider), await opened(provider)
    await provider.pay(first.session_id or "")
    await provider.gateway.expire(second, timeout_seconds=SECONDS)
    events = await provider.gateway.events(since=began, timeout_seconds=SECONDS)
    sessions = await provider.gateway.sessions(since=began, timeout_seconds=SECONDS)
    assert isinstance(events, EventPage)
    assert isinstance(sessions, EventPage)
    assert events.next is sessions.next is None
    ended = [(second.session_id, Expired()), (first.session_id, paid(first))]
    assert [(each.session_id, each.outcome) for each in events.events] == ended
    assert [(each.session_id, each.outcome) for each in sessions.events] == [*ended, (still_open.session_id, None)]
    assert len({each.id for each in events.events}) == 2
    assert [each.id for each in sessions.events] == [each.session_id for each in sessions.events]
    assert all(abs(each.at - began) < timedelta(minutes=1) for each in [*events.events, *sessions.events])
    assert all(each.at.microsecond == 0 for each in events.events)
    for fetch in (provider.gateway.events, provider.gateway.sessions):
        later = await fetch(since=began + timedelta(hours=1), timeout_seconds=SECONDS)
        assert later == EventPage(events=[], next=None)


async def test_more_than_a_page_is_fetched_to_its_end(provider: Provider) -> None:
    began = datetime.now(UTC)
    oldest = await opened(provider)
    payments = [oldest, *await asyncio.gather(*(opened(provider) for _ in range(100)))]
    await asyncio.gather(*(provider.pay(payment.session_id or "") for payment in payments))
    for fetch in (provider.gateway.events, provider.gateway.sessions):
        first = await fetch(since=began, timeout_seconds=SECONDS)
        assert isinstance(first, EventPage)
        assert len(first.events) == 100
        assert first.next == first.events[-1].id
        second = await fetch(since=began, after=first.next, timeout_seconds=SECONDS)
        assert isinstance(second, EventPage)
        assert second.next is None
        both = [*first.events, *second.events]
        assert {each.session_id for each in both} == {payment.session_id for payment in payments}
        assert all(isinstance(each.outcome, Paid) for each in both)
    found = await provider.gateway.find(oldest, timeout_seconds=SECONDS)
    assert with_session(oldest, found).session_id == oldest.session_id, "it is on the second page"
