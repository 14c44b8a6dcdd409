"""What a call is made of: attempts under one key, a turn for each, and a circuit that opens when they fail."""

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from service.adapters.stripe import StripeGateway
from service.application.breaker import FAILURES, State
from service.application.budget import Budget, Endpoint, NoTurnError, Turn
from service.application.ports import Page
from service.domain.outcomes import Open, Opened, Unknown, UnknownCause
from tests.integration.sandbox.harness import Running
from tests.integration.service.ports.test_gateway import SECONDS, SandboxProvider, a_new_payment, cause, opened
from tests.service_support import ScriptedServer, Seconds, a_payment, scripted_server

KEY = "sk_test_callTests"
OPENED = json.dumps({"id": "cs_test_a1", "url": "https://pay.example/#x", "expires_at": 1_800_000_000}).encode()
FAILED = json.dumps({"error": {"type": "api_error", "message": "prose"}}).encode()
LIMITED = json.dumps({"error": {"type": "invalid_request_error", "code": "rate_limit", "message": "prose"}}).encode()


class Watched(Budget):
    """A budget that says what was asked of it, and gives only so many turns."""

    def __init__(self, turns: int = 100) -> None:
        super().__init__(concurrency=1)
        self.seen: list[Any] = []
        self._turns = turns

    @asynccontextmanager
    async def turn(self, endpoint: Endpoint, **options: Any) -> AsyncGenerator[Turn]:
        if not self._turns:
            raise NoTurnError(7.0)
        self._turns -= 1
        async with super().turn(endpoint, **options) as turn:
            self.seen.append("taken")
            try:
                yield turn
            finally:
                self.seen.append("used" if turn.used else "unused")

    def slow(self, endpoint: Endpoint, *, everything: bool = False) -> None:
        self.seen.append((endpoint, everything))


@pytest.fixture
async def script() -> AsyncIterator[ScriptedServer]:
    async with scripted_server() as server:
        yield server


@asynccontextmanager
async def a_gateway(url: str, **parts: Any) -> AsyncGenerator[StripeGateway]:
    made = StripeGateway(**{"api_key": KEY, "api_base": url, "concurrency": 4, "backoff_seconds": 0.01} | parts)
    try:
        yield made
    finally:
        await made.close()


def requested(script: ScriptedServer) -> list[str]:
    return [headers.get("idempotency-key", "") for _, _, headers in script.requests]


# --- attempts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "advice", "attempts"),
    [
        (500, {}, 3),
        (500, {"Stripe_Should_Retry": "false"}, 1),
        (500, {"Idempotent_Replayed": "true"}, 1),
        (500, {"Idempotent_Replayed": "true", "Stripe_Should_Retry": "true"}, 3),
        (409, {"Stripe_Should_Retry": "false"}, 1),
        (400, {"Stripe_Should_Retry": "true"}, 3),
        (429, {"Stripe_Should_Retry": "false"}, 3),
    ],
    ids=str,
)
async def test_stripe_says_what_is_worth_another_attempt(
    script: ScriptedServer, status: int, advice: dict[str, str], attempts: int
) -> None:
    script.will(status, FAILED, **advice)
    async with a_gateway(script.url) as gateway:
        await gateway.open(a_new_payment(gateway, reference="ref-1"), timeout_seconds=SECONDS)
        assert requested(script) == ["payment-ref-1"] * attempts
        assert dict(gateway.calls.attempts) == {Endpoint.CREATE: attempts}


@pytest.mark.parametrize(
    ("reason", "everything"),
    [
        ({"Stripe_Rate_Limited_Reason": "global-rate"}, True),
        ({"Stripe_Rate_Limited_Reason": "global-concurrency"}, True),
        ({"Stripe_Rate_Limited_Reason": "endpoint-rate"}, False),
        ({}, False),
    ],
    ids=str,
)
async def test_a_limit_slows_everybody_down_and_is_tried_again(
    script: ScriptedServer, reason: dict[str, str], *, everything: bool
) -> None:
    """F45 With a reason it is the rate limiter, without one a lock that another call holds."""
    script.will(429, LIMITED, **reason)
    script.will(200, OPENED)
    budget = Watched()
    async with a_gateway(script.url, budget=budget) as gateway:
        assert isinstance(await gateway.open(a_new_payment(gateway), timeout_seconds=SECONDS), Opened)
    assert budget.seen == ["taken", (Endpoint.CREATE, everything), "used", "taken", "used"]
    assert len(set(requested(script))) == 1


async def test_a_callers_own_turn_is_for_the_first_attempt_and_free_again_before_the_second(
    script: ScriptedServer,
) -> None:
    script.will(500, FAILED)
    script.will(200, OPENED)
    budget = Watched()  # where only one may call at once
    async with a_gateway(script.url, budget=budget) as gateway, budget.turn(Endpoint.CREATE) as turn:
        outcome = await gateway.open(a_new_payment(gateway), timeout_seconds=SECONDS, turn=turn)
    assert isinstance(outcome, Opened)
    assert budget.seen == ["taken", "taken", "used", "used"]


async def test_no_attempt_is_waited_for_beyond_the_deadline(script: ScriptedServer) -> None:
    script.will(500, FAILED)
    async with a_gateway(script.url, backoff_seconds=1e9) as gateway:
        outcome = await gateway.open(a_new_payment(gateway), timeout_seconds=SECONDS)
    assert cause(outcome) is UnknownCause.FAILED
    assert len(script.requests) == 1


@pytest.mark.parametrize(
    ("status", "body", "expected", "wait"),
    [(500, FAILED, UnknownCause.FAILED, None), (429, LIMITED, UnknownCause.BUSY, 7.0)],
)
async def test_without_a_turn_for_another_attempt_the_last_one_stands(
    script: ScriptedServer, status: int, body: bytes, expected: UnknownCause, wait: float | None
) -> None:
    """What was perhaps executed must not be told as never sent."""
    script.will(status, body)
    async with a_gateway(script.url, budget=Watched(turns=1)) as gateway:
        outcome = await gateway.open(a_new_payment(gateway), timeout_seconds=SECONDS)
    assert isinstance(outcome, Unknown)
    assert (outcome.cause, outcome.wait_seconds) == (expected, wait)
    assert len(script.requests) == 1


# --- circuits ---------------------------------------------------------------------------------------------------------


async def test_an_endpoint_that_fails_is_left_alone_and_tried_by_one_call(
    script: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    clock, told = Seconds(), []
    async with a_gateway(script.url, clock=clock, told=lambda *call: told.append(call[:2])) as gateway:
        caplog.set_level(logging.INFO)
        script.will(500, FAILED, Stripe_Should_Retry="false")
        for nth in range(FAILURES):
            await gateway.open(a_new_payment(gateway, reference=f"ref-{nth}"), timeout_seconds=SECONDS)
        script.requests.clear()
        caplog.clear()
        for _ in range(20):
            refused = await gateway.open(a_new_payment(gateway), timeout_seconds=SECONDS)
            assert refused == Unknown(cause=UnknownCause.BUSY, wait_seconds=1.0)
        assert script.requests == []
        assert caplog.records == []
        assert told[-1] == ("create", "suspended")
        assert gateway.calls.circuits.state(Endpoint.CREATE) is State.OPEN
        page = await gateway.sessions(since=datetime.now(UTC), timeout_seconds=SECONDS)
        assert cause(page) is UnknownCause.FAILED  # it was asked: another endpoint, another circuit
        clock.now += 1
        script.will_only(200, OPENED)
        assert isinstance(await gateway.open(a_new_payment(gateway), timeout_seconds=SECONDS), Opened)
        assert isinstance(await gateway.open(a_new_payment(gateway), timeout_seconds=SECONDS), Opened)
        assert [record.levelname for record in caplog.records if "answers create again" in record.message] == ["INFO"]


async def test_an_opening_is_one_line_for_the_operator(
    script: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    script.will(500, FAILED, Stripe_Should_Retry="false")
    clock = Seconds()
    async with a_gateway(script.url, clock=clock) as gateway:
        for nth in range(FAILURES + 5):
            await gateway.open(a_new_payment(gateway, reference=f"ref-{nth}"), timeout_seconds=SECONDS)
        for _ in range(5):
            clock.now += 15
            await gateway.open(a_new_payment(gateway), timeout_seconds=SECONDS)
    lines = [record.levelname for record in caplog.records if "again and again" in record.message]
    assert lines == ["WARNING"]


async def test_an_error_that_is_kept_under_one_key_stands_in_nobody_elses_way(sandbox: Running) -> None:
    """F43 A 500 saved under the key of one payment: its repeats fail, and other creates go on."""
    async with a_gateway(sandbox.url) as gateway:
        sticky = a_new_payment(gateway)
        await sandbox.control("config", {"lose_responses": 1})
        for _ in range(10):
            assert cause(await gateway.open(sticky, timeout_seconds=SECONDS)) is UnknownCause.FAILED
        assert gateway.calls.attempts[Endpoint.CREATE] == 11  # a replay is not asked for again
        assert gateway.calls.circuits.state(Endpoint.CREATE) is State.CLOSED
        await opened(SandboxProvider(gateway, sandbox))


async def test_a_session_that_always_fails_closes_no_door_for_the_others(script: ScriptedServer) -> None:
    async with a_gateway(script.url) as gateway:
        script.will(500, FAILED)
        for _ in range(FAILURES):
            assert cause(await gateway.look_up(a_payment(reference="r"), timeout_seconds=SECONDS))
        script.will_only(200, json.dumps({"id": "cs_test_a1", "status": "open", "payment_status": "unpaid"}).encode())
        assert await gateway.look_up(a_payment(), timeout_seconds=SECONDS) == Open()


async def test_a_provider_that_is_down_is_spared_until_it_is_back(sandbox: Running) -> None:
    """F42 Connections that are cut: a probe finds out that it is back, and everything is as before."""
    clock = Seconds()
    async with a_gateway(sandbox.url, clock=clock) as gateway:
        provider = SandboxProvider(gateway, sandbox)
        payment = await opened(provider)
        await sandbox.control("config", {"down": True})
        for _ in range(FAILURES + 3):
            await gateway.open(a_new_payment(gateway), timeout_seconds=SECONDS)
        sent = gateway.calls.attempts[Endpoint.CREATE]
        assert cause(await gateway.open(a_new_payment(gateway), timeout_seconds=SECONDS)) is UnknownCause.BUSY
        assert gateway.calls.attempts[Endpoint.CREATE] == sent
        await sandbox.control("config", {"down": False})
        assert await gateway.look_up(payment, timeout_seconds=SECONDS) == Open()
        clock.now += 15
        await opened(provider)
        assert await provider.sessions() == 2


async def test_a_deadline_too_short_for_any_answer_is_no_sign_of_trouble(sandbox: Running) -> None:
    async with a_gateway(sandbox.url) as gateway:
        await sandbox.control("config", {"latency_ms": 60_000})
        for _ in range(FAILURES + 1):
            outcome = await gateway.open(a_new_payment(gateway), timeout_seconds=0.02)
            assert cause(outcome) is UnknownCause.TIMEOUT


async def test_the_feeds_reading_is_spared_too(script: ScriptedServer) -> None:
    clock = Seconds()
    script.will(500, FAILED, Stripe_Should_Retry="false")
    async with a_gateway(script.url, clock=clock) as gateway:
        for _ in range(FAILURES + 5):
            answer = await gateway.events(since=datetime.now(UTC), timeout_seconds=SECONDS)
            assert isinstance(answer, Unknown)
        assert len(script.requests) == FAILURES
        script.will_only(200, b'{"data": [], "has_more": false}')
        clock.now += 1
        page = await gateway.events(since=datetime.now(UTC), timeout_seconds=SECONDS)
        assert page == Page(told=[], next=None)
