"""What a call is made of: attempts under one key, a permit for each, and a circuit that opens when they fail."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from service.adapters.stripe import StripeGateway
from service.adapters.stripe.circuit_breaker import FAILURES, State
from service.domain.outcomes import Open, Opened, Outcome, Unknown, UnknownCause
from service.ratelimit.limiter import RateLimiter
from service.ratelimit.permit import Endpoint, Permit, PermitDeniedError
from tests.integration.sandbox.harness import Running
from tests.integration.service.ports.test_gateway import (
    SECONDS,
    SandboxProvider,
    a_gateway,
    a_new_payment,
    cause,
    counts,
    opened,
)
from tests.kit.clock import Seconds, SystemClock
from tests.kit.observers import CountingObserver
from tests.kit.service import ScriptedServer, a_payment

OPENED = json.dumps({"id": "cs_test_a1", "url": "https://pay.example/#x", "expires_at": 1_800_000_000}).encode()
FAILED = json.dumps({"error": {"type": "api_error", "message": "prose"}}).encode()
LIMITED = json.dumps({"error": {"type": "invalid_request_error", "code": "rate_limit", "message": "prose"}}).encode()
IN_USE = json.dumps({"error": {"type": "invalid_request_error", "code": "idempotency_key_in_use"}}).encode()
NO_RETRY = {"Stripe_Should_Retry": "false"}


class Watched(RateLimiter):
    """A rate limiter that notes what was asked of it, and gives only so many permits."""

    def __init__(self, permits: int = 100) -> None:
        observer = cast("Any", CountingObserver())
        super().__init__(concurrency=1, rates=None, quota_store=None, observer=observer, now=SystemClock().now)
        self.seen: list[Any] = []
        self._permits = permits

    @asynccontextmanager
    async def permit(self, endpoint: Endpoint, **options: Any) -> AsyncGenerator[Permit]:
        if not self._permits:
            raise PermitDeniedError(7.0)
        self._permits -= 1
        async with super().permit(endpoint, **options) as permit:
            self.seen.append("taken")
            try:
                yield permit
            finally:
                self.seen.append("used" if permit.is_used else "unused")

    def throttle(self, endpoint: Endpoint, *, everything: bool = False) -> None:
        self.seen.append((endpoint, everything))


async def open_one(gateway: StripeGateway, reference: object = None) -> Outcome:
    named = {} if reference is None else {"reference": f"ref-{reference}"}
    return await gateway.open(a_new_payment(gateway, **named), timeout_seconds=SECONDS)


# --- attempts ---------------------------------------------------------------------------------------------------------

EVERYTHING, ENDPOINT = (Endpoint.CREATE, True), (Endpoint.CREATE, False)


@pytest.mark.parametrize(
    ("status", "body", "header", "throttled"),
    [
        (409, IN_USE, {"Stripe_Should_Retry": "true"}, []),  # F44 a key in use: the same key again, one session
        (429, LIMITED, {"Stripe_Rate_Limited_Reason": "global-rate"}, [EVERYTHING]),
        (429, LIMITED, {"Stripe_Rate_Limited_Reason": "global-concurrency"}, [EVERYTHING]),
        (429, LIMITED, {"Stripe_Rate_Limited_Reason": "endpoint-rate"}, [ENDPOINT]),
        (429, LIMITED, {}, [ENDPOINT]),  # F45 without a reason another call holds a lock
    ],
    ids=str,
)
async def test_a_second_attempt_has_the_same_key_and_a_permit_of_its_own(
    script: ScriptedServer, status: int, body: bytes, header: dict[str, str], throttled: list[Any]
) -> None:
    script.will(status, body, **header)
    script.will(200, OPENED)
    limiter = Watched()
    async with a_gateway(script.url, limiter=limiter) as gateway:
        assert isinstance(await open_one(gateway), Opened)
    assert limiter.seen == ["taken", *throttled, "used", "taken", "used"]
    assert len(script.requests) == 2
    assert len({headers["idempotency-key"] for _, _, headers in script.requests}) == 1


async def test_a_reserved_permit_is_for_the_first_attempt_and_free_again_before_the_second(
    script: ScriptedServer,
) -> None:
    script.will(500, FAILED)
    script.will(200, OPENED)
    limiter = Watched()  # where only one may call at once
    async with a_gateway(script.url, limiter=limiter) as gateway:
        payment = a_new_payment(gateway)
        reserved = await limiter.acquire(Endpoint.CREATE, holder=payment.booking_id)
        outcome = await gateway.open(payment, timeout_seconds=SECONDS)
        limiter.release(reserved)
    assert isinstance(outcome, Opened)
    assert limiter.seen == ["taken", "used", "taken", "used"]
    assert limiter.is_free(Endpoint.CREATE)


@pytest.mark.parametrize(
    ("status", "body", "parts", "expected"),
    [
        (500, FAILED, {"backoff_seconds": 1e9}, (UnknownCause.FAILED, None)),  # no pause beyond the deadline
        (500, FAILED, {"limiter": 1}, (UnknownCause.FAILED, None)),  # perhaps executed: not reported as never sent
        (429, LIMITED, {"limiter": 1}, (UnknownCause.BUSY, 7.0)),
    ],
    ids=str,
)
async def test_where_no_other_attempt_can_be_made_the_last_answer_stands(
    script: ScriptedServer, status: int, body: bytes, parts: dict[str, Any], expected: tuple[UnknownCause, float | None]
) -> None:
    script.will(status, body)
    if "limiter" in parts:
        parts = {"limiter": Watched(permits=parts["limiter"])}
    async with a_gateway(script.url, **parts) as gateway, asyncio.timeout(10 * SECONDS):
        outcome = await open_one(gateway)
    assert isinstance(outcome, Unknown)
    assert (outcome.cause, outcome.wait_seconds) == expected
    assert len(script.requests) == 1


# --- circuits ---------------------------------------------------------------------------------------------------------


async def test_an_endpoint_that_fails_is_left_alone_but_for_one_call_now_and_then(
    sandbox: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """F42 A probe finds out that it is back. One line for the operator when the circuit opens, one when it closes."""
    clock = Seconds()
    caplog.set_level(logging.INFO)

    def lines() -> list[str]:
        texts = ("fails at create", "answers create again")
        return [record.levelname for record in caplog.records if any(text in record.message for text in texts)]

    async with a_gateway(sandbox.url, clock=clock) as gateway:
        provider = SandboxProvider(gateway, sandbox)
        payment = await opened(provider)
        await sandbox.control("config", {"down": True})
        for nth in range(FAILURES):
            await open_one(gateway, nth)
        before = counts(gateway)["gateway_attempt create"], len(caplog.records)
        for _ in range(20):
            assert await open_one(gateway) == Unknown(cause=UnknownCause.BUSY, wait_seconds=1.0, detail="suspended")
        assert (counts(gateway)["gateway_attempt create"], len(caplog.records)) == before
        assert counts(gateway)["gateway_call create suspended"] == 20
        assert counts(gateway)["circuit_opened create"] == 1
        assert gateway.calls.circuit_breakers.state(Endpoint.CREATE) is State.OPEN
        await sandbox.control("config", {"down": False, "error_rate": 1})
        pages = [await gateway.events(since=datetime.now(UTC), timeout_seconds=SECONDS) for _ in range(3)]
        # Another endpoint, another circuit, which two calls of three attempts open.
        assert [cause(page) for page in pages] == [UnknownCause.FAILED, UnknownCause.FAILED, UnknownCause.BUSY]
        for _ in range(5):
            clock.now += 15
            await open_one(gateway)
        assert lines() == ["WARNING"]
        await sandbox.control("config", {"error_rate": 0})
        assert await gateway.look_up(payment, timeout_seconds=SECONDS) == Open()
        clock.now += 15
        await opened(provider)
        await opened(provider)
        assert await provider.sessions() == 3
    assert lines() == ["WARNING", "INFO"]


async def test_an_error_that_is_kept_under_one_key_stands_in_nobody_elses_way(sandbox: Running) -> None:
    """F43 A 500 saved under the key of one payment: its repeats fail, its session is found, other creates go on."""
    async with a_gateway(sandbox.url) as gateway:
        sticky = a_new_payment(gateway)
        await sandbox.control("config", {"lose_responses": 1})
        for _ in range(10):
            assert cause(await gateway.open(sticky, timeout_seconds=SECONDS)) is UnknownCause.KEPT
        assert counts(gateway)["gateway_attempt create"] == 11  # a replay is not asked for again
        assert gateway.calls.circuit_breakers.state(Endpoint.CREATE) is State.CLOSED
        provider = SandboxProvider(gateway, sandbox)
        assert await provider.sessions() == 1
        assert isinstance(await gateway.find(sticky, timeout_seconds=SECONDS), Opened)
        await opened(provider)


async def test_a_session_that_always_fails_opens_no_circuit_for_the_others(script: ScriptedServer) -> None:
    async with a_gateway(script.url) as gateway:
        script.will(500, FAILED)
        for _ in range(FAILURES):
            assert cause(await gateway.look_up(a_payment(reference="r"), timeout_seconds=SECONDS))
        script.will_only(200, json.dumps({"id": "cs_test_a1", "status": "open", "payment_status": "unpaid"}).encode())
        assert await gateway.look_up(a_payment(), timeout_seconds=SECONDS) == Open()


async def test_a_deadline_too_short_for_any_answer_opens_no_circuit(sandbox: Running) -> None:
    async with a_gateway(sandbox.url) as gateway:
        await sandbox.control("config", {"latency_ms": 60_000})
        for _ in range(FAILURES + 1):
            outcome = await gateway.open(a_new_payment(gateway), timeout_seconds=0.02)
            assert cause(outcome) is UnknownCause.TIMEOUT
