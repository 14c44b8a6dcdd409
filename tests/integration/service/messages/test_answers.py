"""What a caller with a reply address gets: the scenarios, and the exact members and properties of each answer."""

import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from contracts.commands import CommandType
from tests.integration.service.messages.rig import CREATE, STATUS, VERIFY, Message, Rig, a_create, around, serving
from tests.integration.service.shops import Messages
from tests.kit.brokers import RoleUrl
from tests.kit.clock import Seconds
from tests.kit.scenarios import Scenario, scenarios

NOT_FOUND = {"code": "NOT_FOUND", "message": "No payment with this id was found.", "retryable": False}
ALREADY_PAID = {"code": "ALREADY_PAID", "message": "This booking has already been paid.", "retryable": False}
PROBLEM = "The payment provider had a problem. Please try again."
GATEWAY_ERROR = {"code": "GATEWAY_ERROR", "message": PROBLEM, "retryable": True}


@pytest.fixture(scope="module")
def monotonic() -> Seconds:
    """Counts the seconds for which Stripe is not called when it fails."""
    return Seconds()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(amqp_url: str, role_url: RoleUrl, migrated_url: str, monotonic: Seconds) -> AsyncIterator[Rig]:
    """A running service that reads no events, so that only commands change a payment."""
    async with around(amqp_url, migrated_url, service_url=role_url("payment-service")) as rig:
        await rig.read_no_events()
        async with serving(rig.settings, monotonic=monotonic) as rig.service:
            gateway: Any = rig.service.application.gateway
            gateway.calls.backoff_seconds = 0.01
            yield rig


@pytest.mark.parametrize(**scenarios(can_control=False))
async def test_by_messages(scenario: Scenario, rig: Rig, monotonic: Seconds) -> None:
    await scenario(await Messages(rig, monotonic).begin())


# --- members and properties -------------------------------------------------------------------------------------------


async def test_a_create_is_answered_with_its_session(rig: Rig) -> None:
    command = a_create(amount=449.97000000000003)
    correlation = str(uuid4())
    asked_at = time.time()
    reply = await rig.ask(CREATE, command, headers={"x-request-id": "r-1"}, correlation_id=correlation)
    [session] = await rig.sessions_of(command["bookingId"])
    document = reply.document
    assert asked_at + 880 < document.pop("expiresAt") <= time.time() + 900  # what PAYMENT_WINDOW_SECONDS gives a payer
    assert document == {
        "sessionId": session["id"],
        "paymentUrl": session["url"],
        "bookingId": command["bookingId"],
        "amount": 449.97,
        "status": "pending",
        "message": "The checkout is ready. Please pay on the payment page.",
    }
    assert (session["amount_total"], session["currency"]) == (44997, "inr")
    assert session["metadata"]["userId"] == "42"
    assert_is_reply(reply, "checkout.create.reply", correlation)
    assert reply.headers["x-request-id"] == "r-1"
    assert "x-payment-status-source" not in reply.headers


def assert_is_reply(reply: Message, message_type: str, correlation_id: str) -> None:
    assert reply.type == message_type
    assert reply.properties.correlation_id == correlation_id
    assert reply.properties.content_type == "application/json"
    assert reply.properties.timestamp is not None


@pytest.mark.parametrize("command", [VERIFY, STATUS])
async def test_a_payment_is_answered_with_its_state(rig: Rig, command: CommandType) -> None:
    created = await rig.created()
    session, member = created["sessionId"], {VERIFY: "sessionId", STATUS: "transactionId"}[command]
    expected = {
        "paymentId": (await rig.payment(session))["id"],
        "bookingId": created["bookingId"],
        "paymentStatus": "PENDING",
        "transactionId": session,
        "amount": 449.97,
        "message": "Waiting for the payment.",
    }
    correlation = str(uuid4())
    pending = await rig.ask(command, {member: session}, headers={"x-request-id": "r-2"}, correlation_id=correlation)
    assert pending.document == expected
    assert_is_reply(pending, f"{command}.reply", correlation)
    source = {"x-payment-status-source": "gateway"} if command is VERIFY else {}
    assert pending.headers == {"x-request-id": "r-2", **source}

    await rig.sandbox.pay(session)
    await rig.verified(session)
    final = await rig.ask(command, {member: session}, headers={"x-request-id": "r-3"})
    assert final.document == expected | {"paymentStatus": "COMPLETED", "message": "The payment is complete."}
    assert final.headers == {"x-request-id": "r-3", **source}


@pytest.mark.parametrize(
    ("member", "value"), [("amount", 449.975), ("currency", "xxx"), ("successUrl", "https://shop.example.evil.test/")]
)
async def test_a_create_that_breaks_a_rule_is_refused_by_name(rig: Rig, member: str, value: Any) -> None:
    """Every rule is in the unit tests of policy, money and URLs."""
    async with rig.nothing_done():
        fault = await rig.ask(CREATE, a_create(**{member: value}))
    assert (fault.type, fault.document["code"], fault.document["retryable"]) == ("fault", "VALIDATION_ERROR", False)
    assert member in fault.document["message"]


async def test_a_fault_says_what_is_known_of_the_payment_and_no_more(rig: Rig) -> None:
    unknown = await rig.ask(STATUS, {"transactionId": "cs_test_stranger"}, headers={"x-request-id": "r-4"})
    assert_is_reply(unknown, "fault", unknown.properties.correlation_id or "")
    assert unknown.headers == {"x-request-id": "r-4"}
    assert unknown.document == NOT_FOUND

    created = await rig.created()
    await rig.sandbox.pay(created["sessionId"])
    paid = await rig.ask(CREATE, a_create(bookingId=created["bookingId"], amount=500))
    known = {"bookingId": created["bookingId"], "transactionId": created["sessionId"], "amount": 449.97}
    assert paid.document == ALREADY_PAID | known | {"paymentId": (await rig.payment(created["sessionId"]))["id"]}

    async with rig.stripe_with(error_rate=1):
        failed = await rig.ask(CREATE, command := a_create())
    [payment] = await rig.payments_of(command["bookingId"])
    known = {"bookingId": command["bookingId"], "amount": 449.97}
    assert failed.document == GATEWAY_ERROR | known | {"paymentId": payment["id"]}
