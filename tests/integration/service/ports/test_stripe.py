"""What only the real SDK can show: its retries, its errors, and whatever a server may answer."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from service.adapters.stripe import StripeGateway
from service.domain.money import Money
from service.domain.outcomes import Expired, Open, Opened, OutcomeKind, Paid, Refused, Unknown, UnknownCause
from service.domain.payment import Payment
from tests.integration.sandbox.harness import Running
from tests.integration.service.ports.test_gateway import SECONDS, SandboxProvider, a_new_payment, cause, opened
from tests.service_support import QUICK, ScriptedServer, a_payment, scripted_server

KEY = "sk_test_gatewayTests"
PAYMENT = a_payment()


@pytest.fixture
async def stripe(sandbox: Running) -> AsyncIterator[StripeGateway]:
    gateway = StripeGateway(api_key=KEY, api_base=sandbox.url, concurrency=4)
    yield gateway
    await gateway.close()


@pytest.fixture
def provider(stripe: StripeGateway, sandbox: Running) -> SandboxProvider:
    return SandboxProvider(stripe, sandbox)


@pytest.fixture
async def script() -> AsyncIterator[ScriptedServer]:
    async with scripted_server() as server:
        yield server


@pytest.fixture
async def scripted(script: ScriptedServer) -> AsyncIterator[StripeGateway]:
    gateway = StripeGateway(api_key=KEY, api_base=script.url, concurrency=4, backoff_seconds=0.01)
    yield gateway
    await gateway.close()


def error(kind: str, code: str | None = None) -> bytes:
    named = {} if code is None else {"code": code}
    return json.dumps({"error": {"type": kind, "message": "prose that nobody may see", **named}}).encode()


# --- what is sent ---------------------------------------------------------------------------------------------------


async def test_the_session_says_whose_it_is_in_three_places(provider: SandboxProvider) -> None:
    payment = await opened(provider)
    (session,) = await provider.sandbox.control("ledger")
    assert session["client_reference_id"] == "7"
    assert session["metadata"] == {"bookingId": "7", "userId": "5", "paymentReference": payment.reference}
    assert session["livemode"] is False
    assert (session["amount_total"], session["currency"], session["mode"]) == (44997, "inr", "payment")
    assert session["expires_at"] == payment.expires_at.timestamp()
    assert (session["success_url"], session["cancel_url"]) == (payment.success_url, payment.cancel_url)


async def test_every_attempt_of_a_create_carries_the_payments_own_key(
    scripted: StripeGateway, script: ScriptedServer
) -> None:
    script.will(500, error("api_error"))
    outcome = await scripted.open(a_new_payment(scripted, reference="ref-1"), timeout_seconds=SECONDS)
    assert isinstance(outcome, Unknown)
    assert outcome.cause is UnknownCause.FAILED
    keys = [headers["idempotency-key"] for _, _, headers in script.requests]
    assert keys == ["payment-ref-1"] * 3
    assert {headers["authorization"] for _, _, headers in script.requests} == {f"Bearer {KEY}"}
    assert all("x-stripe-client-telemetry" not in headers for _, _, headers in script.requests)


# --- errors ---------------------------------------------------------------------------------------------------------


async def test_a_key_in_use_is_tried_again(scripted: StripeGateway, script: ScriptedServer) -> None:
    """F44 409 key in use: backs off, the same key, one session."""
    session = {"id": "cs_test_a1", "url": "https://pay.example/#x", "expires_at": 1_800_000_000}
    script.will(409, error("invalid_request_error", "idempotency_key_in_use"), Stripe_Should_Retry="true")
    script.will(200, json.dumps(session).encode())
    outcome = await scripted.open(a_new_payment(scripted), timeout_seconds=SECONDS)
    assert isinstance(outcome, Opened)
    assert len(script.requests) == 2
    assert len({headers["idempotency-key"] for _, _, headers in script.requests}) == 1


async def test_the_same_payment_opened_from_many_places_at_once_has_one_session(provider: SandboxProvider) -> None:
    """F44 409 key in use, for real: as many replicas at once would meet it."""
    await provider.sandbox.control("config", {"latency_ms": 50})
    payment = a_new_payment(provider.gateway)
    outcomes = await asyncio.gather(*(provider.gateway.open(payment, timeout_seconds=SECONDS) for _ in range(20)))
    assert all(isinstance(each, Opened) or cause(each) is UnknownCause.BUSY for each in outcomes), outcomes
    assert isinstance(await provider.gateway.open(payment, timeout_seconds=SECONDS), Opened)
    assert await provider.sessions() == 1


@pytest.mark.parametrize(
    ("status", "body", "cause", "calls"),
    [
        (401, error("invalid_request_error"), UnknownCause.DENIED, 1),
        (403, error("invalid_request_error"), UnknownCause.DENIED, 1),
        (404, error("invalid_request_error", "resource_missing"), UnknownCause.FAILED, 1),
        (409, error("invalid_request_error", "idempotency_key_in_use"), UnknownCause.BUSY, 3),
        (400, error("idempotency_error"), UnknownCause.FAILED, 1),
        (424, error("api_error"), UnknownCause.FAILED, 1),
        (429, error("invalid_request_error", "rate_limit"), UnknownCause.BUSY, 3),
        (429, error("invalid_request_error", "lock_timeout"), UnknownCause.BUSY, 3),
        (503, b"<html>no healthy upstream</html>", UnknownCause.FAILED, 3),
        (400, b"<html>bad gateway</html>", UnknownCause.FAILED, 1),
    ],
    ids=str,
)
async def test_an_error_that_decides_nothing_is_unknown(
    scripted: StripeGateway, script: ScriptedServer, *, status: int, body: bytes, cause: UnknownCause, calls: int
) -> None:
    script.will(status, body)
    outcome = await scripted.open(a_new_payment(scripted), timeout_seconds=SECONDS)
    assert isinstance(outcome, Unknown)
    assert outcome.cause is cause
    assert "prose" not in outcome.detail
    assert len(script.requests) == calls


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, "invalid_request_error", "amount_too_small"),
        (400, "invalid_request_error", "amount_too_large"),
        (400, "invalid_request_error", "url_invalid"),
        (400, "invalid_request_error", None),
        (402, "card_error", "card_declined"),
    ],
)
async def test_a_definite_refusal_is_refused_at_the_first_call(
    scripted: StripeGateway, script: ScriptedServer, status: int, kind: str, code: str | None
) -> None:
    """F47 400/402 definite: refused once, no retry."""
    script.will(status, error(kind, code))
    outcome = await scripted.open(a_new_payment(scripted), timeout_seconds=SECONDS)
    assert isinstance(outcome, Refused)
    assert (code or "") in outcome.detail
    assert "prose" not in outcome.detail
    assert len(script.requests) == 1


async def test_a_refused_look_up_decides_nothing(scripted: StripeGateway, script: ScriptedServer) -> None:
    script.will(400, error("invalid_request_error"))
    for outcome in (
        await scripted.look_up(PAYMENT, timeout_seconds=SECONDS),
        await scripted.expire(PAYMENT, timeout_seconds=SECONDS),
        await scripted.find(PAYMENT, timeout_seconds=SECONDS),
    ):
        assert isinstance(outcome, Unknown)


async def test_an_amount_that_stripe_finds_too_small_is_refused(provider: SandboxProvider) -> None:
    payment = a_new_payment(provider.gateway, money=Money(1, "usd"))
    outcome = await provider.gateway.open(payment, timeout_seconds=SECONDS)
    assert isinstance(outcome, Refused)
    assert "amount_too_small" in outcome.detail


async def test_a_key_with_other_parameters_is_unknown(provider: SandboxProvider) -> None:
    payment = await opened(provider)
    bent = replace(payment, gateway_request={**payment.gateway_request, "client_reference_id": "8"})
    outcome = await provider.gateway.open(bent, timeout_seconds=SECONDS)
    assert isinstance(outcome, Unknown)
    assert await provider.sessions() == 1


async def test_some_failures_are_outlived(provider: SandboxProvider) -> None:
    """F42 The answer is dropped: the same key again, one session."""
    await provider.sandbox.control("config", {"drop_responses": 2})
    assert (await opened(provider)).session_id
    assert await provider.sessions() == 1


async def test_a_500_that_is_kept_under_the_key_is_found_by_reference(provider: SandboxProvider) -> None:
    """F43 A 500 saved under the key: the session that was made is found by its metadata, and no second one made."""
    payment = a_new_payment(provider.gateway)
    await provider.sandbox.control("config", {"lose_responses": 1})
    for _ in range(2):
        assert isinstance(await provider.gateway.open(payment, timeout_seconds=SECONDS), Unknown)
    assert isinstance(await provider.gateway.find(payment, timeout_seconds=SECONDS), Opened)
    assert await provider.sessions() == 1


@pytest.mark.parametrize("first", ["open", "look_up", "expire"])
async def test_a_wrong_key_changes_nothing(
    provider: SandboxProvider, sandbox: Running, caplog: pytest.LogCaptureFixture, first: str
) -> None:
    """F46 A revoked key: nothing is failed or refused, an alarm (an ERROR line) and one call, whatever is asked."""
    payment = await opened(provider)
    stranger = StripeGateway(api_key="sk_live_wrongwrong", api_base=sandbox.url, concurrency=1)
    assert stranger.livemode
    for nth, name in enumerate([first, "open", "look_up", "expire"]):
        subject = a_new_payment(stranger) if name == "open" else payment
        outcome = await getattr(stranger, name)(subject, timeout_seconds=SECONDS)
        assert cause(outcome) is (UnknownCause.BUSY if nth else UnknownCause.DENIED)
    assert [record.levelname for record in caplog.records if "Stripe" in record.message] == ["ERROR"]
    assert stranger.calls.attempts.total() == 1
    await stranger.close()
    assert await provider.gateway.look_up(payment, timeout_seconds=SECONDS) == Open()


async def test_a_session_is_found_on_a_later_page(provider: SandboxProvider) -> None:
    payment = a_new_payment(provider.gateway)
    first = await provider.gateway.open(payment, timeout_seconds=SECONDS)
    for _ in range(105):
        await opened(provider)
    assert await provider.gateway.find(payment, timeout_seconds=SECONDS) == first


async def test_a_payer_who_pays_while_we_end_the_session_wins_or_loses_for_good(provider: SandboxProvider) -> None:
    """F50 The customer pays while we expire: paid or expired, as the payer was told, and nothing in between."""
    for _ in range(50):
        payment = await opened(provider)
        paying = provider.sandbox.http.post(
            f"{provider.sandbox.url}/_sandbox/sessions/{payment.session_id}/pay", json={"card": "4242 4242 4242 4242"}
        )
        outcome, response = await asyncio.gather(
            provider.gateway.expire(payment, timeout_seconds=SECONDS), asyncio.ensure_future(_status(paying))
        )
        assert isinstance(outcome, Paid) == (response == 200)
        assert isinstance(outcome, Expired) == (response == 409)


async def _status(request: Any) -> int:
    async with request as response:
        status: int = response.status
        return status


# --- slots ----------------------------------------------------------------------------------------------------------


async def test_a_call_that_gets_no_slot_in_time_leaves_nothing_behind(
    provider: SandboxProvider, stripe: StripeGateway
) -> None:
    payment = await opened(provider)
    await provider.sandbox.control("config", {"latency_ms": 400})
    slow = [asyncio.create_task(stripe.look_up(payment, timeout_seconds=SECONDS)) for _ in range(4)]
    await asyncio.sleep(0.05)
    outcome = await stripe.look_up(payment, timeout_seconds=0.05)
    assert isinstance(outcome, Unknown)
    assert outcome.cause is UnknownCause.TIMEOUT
    gc.collect()  # a coroutine that nobody awaited would warn now, and warnings are errors
    assert await asyncio.gather(*slow) == [Open()] * 4
    assert await stripe.look_up(payment, timeout_seconds=SECONDS) == Open()


# --- whatever a server may answer -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "session",
    [
        {"amount_total": 44996},
        {"currency": "usd"},
        {"metadata": {"paymentReference": "another"}},
        {"metadata": {}},
        {"livemode": True},
    ],
    ids=str,
)
async def test_other_money_is_reported_as_what_it_is(
    scripted: StripeGateway, script: ScriptedServer, session: dict[str, Any]
) -> None:
    fitting: dict[str, Any] = {
        "id": PAYMENT.session_id,
        "status": "complete",
        "payment_status": "paid",
        "amount_total": 44997,
        "currency": "inr",
        "metadata": {"paymentReference": PAYMENT.reference},
        "livemode": False,
    }
    expected = Paid(money=PAYMENT.money, reference=PAYMENT.reference, livemode=False)
    script.will_only(200, json.dumps(fitting).encode())
    assert await scripted.look_up(PAYMENT, timeout_seconds=SECONDS) == expected
    script.will_only(200, json.dumps(fitting | session).encode())
    outcome = await scripted.look_up(PAYMENT, timeout_seconds=SECONDS)
    assert isinstance(outcome, Paid)
    assert outcome != expected


@pytest.mark.parametrize("call", ["look_up", "expire"])
async def test_the_answer_of_another_session_decides_nothing(
    scripted: StripeGateway, script: ScriptedServer, call: str
) -> None:
    script.will(200, json.dumps({"id": "cs_test_other", "status": "expired", "payment_status": "unpaid"}).encode())
    assert isinstance(await getattr(scripted, call)(PAYMENT, timeout_seconds=SECONDS), Unknown)


WORDS = st.sampled_from(
    ["cs_test_a1", "open", "complete", "expired", "unpaid", "succeeded", "inr", "", "https://x/#y", PAYMENT.reference]
)
LEAF = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=5)
JSON = st.recursive(
    LEAF,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "id",
                    "status",
                    "payment_status",
                    "url",
                    "expires_at",
                    "data",
                    "has_more",
                    "metadata",
                    "error",
                    "code",
                    "type",
                ]
            )
            | st.text(max_size=5),
            inner,
            max_size=6,
        )
    ),
    max_leaves=10,
)
BODY = (
    st.binary(max_size=60)
    | JSON.map(lambda value: json.dumps(value).encode())
    | JSON.map(lambda value: json.dumps({"data": value, "has_more": True}).encode())
    | JSON.map(lambda value: json.dumps({"error": value}).encode())
)


@settings(QUICK, max_examples=500, phases=[Phase.explicit, Phase.generate])
@given(body=BODY, status=st.sampled_from([200, 200, 200, 201, 204, 302, 400, 402, 429]))
def test_no_body_whatever_is_paid_or_breaks_the_gateway(body: bytes, status: int) -> None:
    """F48 HTML, nothing, unknown words: 500 bodies, each to four calls; no crash, nothing paid."""

    async def answers() -> list[Any]:
        async with scripted_server() as script:
            script.will(status, b"" if status == 204 else body, Stripe_Should_Retry="false")
            gateway = StripeGateway(api_key=KEY, api_base=script.url, concurrency=1, backoff_seconds=0)
            try:
                return [
                    await gateway.open(_unopened(), timeout_seconds=SECONDS),
                    await gateway.find(PAYMENT, timeout_seconds=SECONDS),
                    await gateway.look_up(PAYMENT, timeout_seconds=SECONDS),
                    await gateway.expire(PAYMENT, timeout_seconds=SECONDS),
                ]
            finally:
                await gateway.close()

    with asyncio.Runner() as runner:
        for outcome in runner.run(answers()):
            assert outcome is None or outcome.kind is not OutcomeKind.PAID


def _unopened() -> Payment:
    return replace(PAYMENT, session_id=None, payment_url=None, gateway_request={"mode": "payment"})
