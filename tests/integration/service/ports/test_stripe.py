"""What only the real SDK can show: what is sent, what each answer means and costs, and whatever a server may answer."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from service.adapters.stripe import StripeGateway
from service.domain.outcomes import Expired, Open, Opened, Paid, Refused, Unknown, UnknownCause
from service.domain.payment import LastOutcome
from tests.integration.sandbox.harness import Running
from tests.integration.service.ports.test_gateway import (
    KEY,
    SECONDS,
    SandboxProvider,
    a_gateway,
    a_new_payment,
    attempts,
    cause,
    counts,
    opened,
)
from tests.kit.service import QUICK, ScriptedServer, a_payment

PAYMENT = a_payment()


@pytest.fixture
async def stripe(sandbox: Running) -> AsyncIterator[StripeGateway]:
    async with a_gateway(sandbox.url, concurrency=4) as gateway:
        yield gateway


@pytest.fixture
def provider(stripe: StripeGateway, sandbox: Running) -> SandboxProvider:
    return SandboxProvider(stripe, sandbox)


@pytest.fixture
async def scripted(script: ScriptedServer) -> AsyncIterator[StripeGateway]:
    async with a_gateway(script.url) as gateway:
        yield gateway


async def test_the_session_says_whose_it_is_in_three_places(provider: SandboxProvider) -> None:
    payment = await opened(provider)
    (session,) = await provider.sandbox.control("ledger")
    assert session["client_reference_id"] == "7"
    ids = {"bookingId": "7", "userId": "5", "paymentReference": payment.reference}
    terms = {"amountMinor": "44997", "currency": "inr"}
    if payment.pay_until is not None:
        terms["payUntil"] = str(int(payment.pay_until.timestamp()))
    assert session["metadata"] == ids | terms
    assert session["livemode"] is False
    async with a_gateway(provider.sandbox.url, api_key="sk_live_anything") as live:
        assert live.livemode
    assert (session["amount_total"], session["currency"], session["mode"]) == (44997, "inr", "payment")
    assert session["expires_at"] == payment.expires_at.timestamp()
    assert (session["success_url"], session["cancel_url"]) == (payment.success_url, payment.cancel_url)


async def test_cards_from_abroad_get_the_address_and_the_description_that_they_need(sandbox: Running) -> None:
    async with a_gateway(sandbox.url, billing_address="required", description="Tickets of {booking}") as gateway:
        payment = a_new_payment(gateway)
        outcome = await gateway.open(payment, timeout_seconds=SECONDS)
        assert isinstance(outcome, Opened)
        await sandbox.pay(outcome.session_id)
    session = await sandbox.raw("GET", f"/v1/checkout/sessions/{outcome.session_id}")
    assert session["billing_address_collection"] == "required"
    intent = await sandbox.raw("GET", f"/v1/payment_intents/{session['payment_intent']}")
    assert intent["description"] == f"Tickets of {payment.booking_id}"


# --- what an answer means, and how many attempts it costs -------------------------------------------------------------

KEPT, OURS = UnknownCause.KEPT, UnknownCause.MISCONFIGURED
DENIED, BUSY, FAILED, REFUSED = UnknownCause.DENIED, UnknownCause.BUSY, UnknownCause.FAILED, None
RETRY, NO_RETRY = {"Stripe_Should_Retry": "true"}, {"Stripe_Should_Retry": "false"}
REPLAYED = {"Idempotent_Replayed": "true"}
IN_USE, LIMIT, LOCK = "idempotency_key_in_use", "rate_limit", "lock_timeout"


def error(code: str = "", kind: str = "invalid_request_error") -> bytes:
    return json.dumps({"error": {"type": kind, "message": "prose that nobody may see", "code": code or None}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "advice", "expected", "attempts"),
    [
        (401, error(), {}, DENIED, 1),
        (403, error(), {}, DENIED, 1),
        (404, error("resource_missing"), {}, FAILED, 1),
        (409, error(IN_USE), {}, BUSY, 3),
        (409, error(IN_USE), NO_RETRY, BUSY, 1),
        (400, error(kind="idempotency_error"), {}, KEPT, 1),
        (424, error(kind="api_error"), {}, FAILED, 1),
        (429, error(LIMIT), {}, BUSY, 3),
        (429, error(LIMIT), NO_RETRY, BUSY, 3),  # advice for an SDK, which would not wait for a permit
        (429, error(LOCK), {}, BUSY, 3),
        (500, error(kind="api_error"), {}, FAILED, 3),
        (500, error(kind="api_error"), NO_RETRY, FAILED, 1),
        (500, error(kind="api_error"), REPLAYED, KEPT, 1),
        (500, error(kind="api_error"), REPLAYED | RETRY, KEPT, 3),
        (503, b"<html>no healthy upstream</html>", {}, FAILED, 3),
        (400, b"<html>bad gateway</html>", {}, FAILED, 1),
        # F47 definite: refused once, and not tried again unless Stripe says so
        (400, error("amount_too_small"), {}, REFUSED, 1),
        (400, error("amount_too_large"), {}, REFUSED, 1),
        (400, error("url_invalid"), {}, REFUSED, 1),
        (400, error("url_invalid"), RETRY, REFUSED, 3),
        # M5 about us: no payment fails for it
        (400, error(), {}, OURS, 1),
        (400, error("parameter_unknown"), {}, OURS, 1),
        (404, error(), {}, OURS, 1),
        (402, error("card_declined", "card_error"), {}, REFUSED, 1),
    ],
    ids=str,
)
async def test_an_answer_to_a_create_has_its_meaning_and_its_attempts_under_one_key(
    scripted: StripeGateway,
    script: ScriptedServer,
    *,
    status: int,
    body: bytes,
    advice: Mapping[str, str],
    expected: UnknownCause | None,
    attempts: int,
) -> None:
    script.will(status, body, Request_Id="req_7", **advice)  # what the SDK would send figures about
    outcome = await scripted.open(a_new_payment(scripted, reference="ref-1"), timeout_seconds=SECONDS)
    assert isinstance(outcome, Refused | Unknown)
    assert (isinstance(outcome, Refused), cause(outcome)) == (expected is REFUSED, expected)
    assert "prose" not in outcome.detail
    code = json.loads(body)["error"]["code"] if body.startswith(b"{") else None
    assert (code or "") in outcome.detail
    sent = [(headers["idempotency-key"], headers["authorization"]) for _, _, headers in script.requests]
    assert sent == [("payment-ref-1", f"Bearer {KEY}")] * attempts
    assert all("x-stripe-client-telemetry" not in headers for _, _, headers in script.requests)
    assert counts(scripted)["gateway_attempt create"] == attempts


async def test_a_refused_look_up_decides_nothing(scripted: StripeGateway, script: ScriptedServer) -> None:
    script.will(400, error())
    for ask in (scripted.look_up, scripted.expire, scripted.find):
        assert cause(await ask(PAYMENT, timeout_seconds=SECONDS)) is UnknownCause.MISCONFIGURED


async def test_a_session_that_is_not_there_says_nothing_of_our_key(
    scripted: StripeGateway, script: ScriptedServer
) -> None:
    """M6 Only a session that was named can be missing, and its absence opens no circuit."""
    script.will(404, error("resource_missing"))
    for ask in (scripted.look_up, scripted.expire):
        for _ in range(10):
            assert cause(await ask(PAYMENT, timeout_seconds=SECONDS)) is UnknownCause.NO_SESSION
    assert cause(await scripted.find(PAYMENT, timeout_seconds=SECONDS)) is UnknownCause.FAILED
    assert "circuit" not in str(counts(scripted))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"code": "amount_too_small"}, LastOutcome.AMOUNT_TOO_SMALL),
        ({"code": "amount_too_large"}, LastOutcome.AMOUNT_TOO_LARGE),
        ({"code": "url_invalid", "param": "success_url"}, LastOutcome.URL_REFUSED),
        ({"param": "line_items[0][price_data][currency]"}, LastOutcome.CURRENCY_REFUSED),
    ],
)
async def test_a_refusal_says_its_cause(
    scripted: StripeGateway, script: ScriptedServer, answer: dict[str, str], said: LastOutcome
) -> None:
    """M12 What Stripe says of the amount, the currency or the addresses is kept."""
    script.will(400, json.dumps({"error": {"type": "invalid_request_error", "message": "prose", **answer}}).encode())
    outcome = await scripted.open(a_new_payment(scripted, reference="ref-1"), timeout_seconds=SECONDS)
    assert isinstance(outcome, Refused)
    assert outcome.cause is said


@pytest.mark.parametrize("call", ["look_up", "expire"])
async def test_the_answer_of_another_session_decides_nothing(
    scripted: StripeGateway, script: ScriptedServer, call: str
) -> None:
    script.will(200, json.dumps({"id": "cs_test_other", "status": "expired", "payment_status": "unpaid"}).encode())
    assert cause(await getattr(scripted, call)(PAYMENT, timeout_seconds=SECONDS)) is UnknownCause.UNREADABLE


# --- the sandbox, which keeps keys and sessions as Stripe does --------------------------------------------------------


async def test_the_same_payment_opened_from_many_places_at_once_has_one_session(provider: SandboxProvider) -> None:
    """F44 409 key in use, for real: as many replicas at once would meet it."""
    await provider.sandbox.control("config", {"latency_ms": 50})
    payment = a_new_payment(provider.gateway)
    outcomes = await asyncio.gather(*(provider.gateway.open(payment, timeout_seconds=SECONDS) for _ in range(20)))
    assert all(isinstance(each, Opened) or cause(each) is UnknownCause.BUSY for each in outcomes), outcomes
    assert isinstance(await provider.gateway.open(payment, timeout_seconds=SECONDS), Opened)
    assert await provider.sessions() == 1


async def test_a_payer_who_pays_while_we_end_the_session_wins_or_loses_for_good(provider: SandboxProvider) -> None:
    """F50 The customer pays while we expire: paid or expired, as the payer was answered, and nothing in between."""
    sandbox, card = provider.sandbox, {"card": "4242 4242 4242 4242"}

    async def pay(session_id: str | None) -> int:
        async with sandbox.http.post(f"{sandbox.url}/_sandbox/sessions/{session_id}/pay", json=card) as response:
            return response.status

    for _ in range(50):
        payment = await opened(provider)
        outcome, status = await asyncio.gather(
            provider.gateway.expire(payment, timeout_seconds=SECONDS), pay(payment.session_id)
        )
        assert isinstance(outcome, Paid) == (status == 200)
        assert isinstance(outcome, Expired) == (status == 409)


async def test_a_call_that_gets_no_slot_in_time_leaves_nothing_behind(
    provider: SandboxProvider, stripe: StripeGateway
) -> None:
    payment = await opened(provider)
    await provider.sandbox.control("config", {"latency_ms": 2000})
    slow = [asyncio.create_task(stripe.look_up(payment, timeout_seconds=SECONDS)) for _ in range(4)]
    await asyncio.sleep(0.05)
    assert cause(await stripe.look_up(payment, timeout_seconds=0.05)) is UnknownCause.BUSY  # it was not called
    gc.collect()  # a coroutine that nobody awaited would warn now, and warnings are errors
    assert await asyncio.gather(*slow) == [Open()] * 4
    assert await stripe.look_up(payment, timeout_seconds=SECONDS) == Open()


# --- whatever a server may answer -----------------------------------------------------------------------------------

WORDS = st.sampled_from(
    ["cs_test_a1", "open", "complete", "expired", "unpaid", "succeeded", "inr", "", "https://x/#y", PAYMENT.reference]
)
MEMBERS = "id status payment_status url expires_at data has_more metadata error code type".split()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(MEMBERS) | st.text(max_size=5), inner, max_size=6)
    ),
    max_leaves=10,
)
BODY = (
    st.binary(max_size=60)
    | JSON.map(lambda value: json.dumps(value).encode())
    | JSON.map(lambda value: json.dumps({"data": value, "has_more": True}).encode())
    | JSON.map(lambda value: json.dumps({"error": value}).encode())
)


def drawn(count: int) -> list[tuple[int, bytes]]:
    found = list[tuple[int, bytes]]()

    @settings(QUICK, max_examples=count, phases=[Phase.generate])
    @given(status=st.sampled_from([200, 200, 200, 201, 204, 302, 400, 402, 429]), body=BODY)
    def draw(status: int, body: bytes) -> None:
        found.append((status, b"" if status == 204 else body))

    draw()
    return found


@pytest.mark.parametrize("count", [200, pytest.param(2000, marks=pytest.mark.thorough)])
async def test_no_body_whatever_is_paid_or_breaks_the_gateway(script: ScriptedServer, count: int) -> None:
    """F48 HTML, nothing, unknown words: so many bodies, each to four calls; no crash, nothing paid."""
    unopened = replace(PAYMENT, session_id=None, payment_url=None, gateway_request={"mode": "payment"})
    async with a_gateway(script.url, backoff_seconds=0) as gateway:
        calls = [(gateway.open, unopened), *((ask, PAYMENT) for ask in (gateway.find, gateway.look_up, gateway.expire))]
        for status, body in drawn(count):
            script.will_only(status, body, **NO_RETRY)
            for call, payment in calls:
                outcome = await call(payment, timeout_seconds=SECONDS)
                assert not isinstance(outcome, Paid), (status, body)
                assert len(getattr(outcome, "detail", "")) <= 200, (status, body)
        assert attempts(gateway) >= count * len(calls), "a circuit opened and answered for Stripe"
