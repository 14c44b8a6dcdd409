"""What a caller with a reply address gets: the exact members and properties, and the same again at every repeat."""

import asyncio
import time
from typing import Any
from uuid import uuid4

import pytest

from contracts import envelope
from contracts.commands import CommandType
from tests.integration.service.messages.rig import CREATE, STATUS, VERIFY, Message, Rig, a_create, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


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


async def test_a_session_that_expired_is_a_failed_payment(rig: Rig) -> None:
    session = (await rig.created())["sessionId"]
    status, _, _ = await rig.sandbox.raw("POST", f"/v1/checkout/sessions/{session}/expire")
    assert status == 200
    failed = await rig.verified(session)
    assert failed["paymentStatus"] == "FAILED"
    assert failed["message"] == "The payment was not made in time. Nothing was charged."


async def test_a_verify_that_cannot_ask_says_so_and_a_status_never_asks(rig: Rig) -> None:
    session = (await rig.created())["sessionId"]
    await rig.sandbox.control("config", {"down": True})
    try:
        reply = await rig.ask(VERIFY, {"sessionId": session})
    finally:
        await rig.sandbox.control("config", {"down": False})
    assert reply.headers["x-payment-status-source"] == "local"
    assert reply.document["paymentStatus"] == "PENDING"
    assert reply.document["message"].startswith("The payment provider could not be asked just now.")
    async with rig.nothing_done():
        await rig.ask(STATUS, {"transactionId": session})


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [VERIFY, STATUS])
async def test_an_unknown_session_is_not_found_and_stripe_is_not_asked(rig: Rig, command: CommandType) -> None:
    """F20 Verify of what is not there: no row invented."""
    member = {VERIFY: "sessionId", STATUS: "transactionId"}[command]
    async with rig.nothing_done():
        fault = await rig.ask(command, {member: "cs_test_stranger"}, headers={"x-request-id": "r-4"})
    assert fault.document == {
        "code": "NOT_FOUND",
        "message": "No payment with this id was found.",
        "retryable": False,
    }
    assert_is_reply(fault, "fault", fault.properties.correlation_id or "")
    assert fault.headers == {"x-request-id": "r-4"}


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"amount": 449.975}, "amount"),
        ({"amount": 0.01}, "amount"),
        ({"amount": 999999999999}, "amount"),
        ({"currency": "xxx"}, "currency"),
        ({"successUrl": "https://shop.example.evil.test/"}, "successUrl"),
        ({"cancelUrl": "javascript:alert(1)"}, "cancelUrl"),
    ],
)
async def test_a_create_that_breaks_a_rule_is_refused_by_name(rig: Rig, members: dict[str, Any], words: str) -> None:
    async with rig.nothing_done():
        fault = await rig.ask(CREATE, a_create(**members))
    assert fault.type == "fault"
    assert (fault.document["code"], fault.document["retryable"]) == ("VALIDATION_ERROR", False)
    assert words in fault.document["message"]


async def test_a_booking_that_is_paid_is_told_with_its_payment(rig: Rig) -> None:
    created = await rig.created()
    await rig.sandbox.pay(created["sessionId"])
    fault = await rig.ask(CREATE, a_create(bookingId=created["bookingId"], amount=500))
    assert fault.document == {
        "code": "ALREADY_PAID",
        "message": "This booking has already been paid.",
        "retryable": False,
        "paymentId": (await rig.payment(created["sessionId"]))["id"],
        "bookingId": created["bookingId"],
        "transactionId": created["sessionId"],
        "amount": 449.97,
    }


async def test_an_idempotency_key_belongs_to_one_request_of_one_caller(rig: Rig) -> None:
    first, key = a_create(), {"idempotency-key": str(uuid4()), "x-caller": "booking-service"}
    session = (await rig.ask(CREATE, first, headers=key)).document["sessionId"]
    assert (await rig.ask(CREATE, first, headers=key)).document["sessionId"] == session
    async with rig.nothing_done():
        fault = await rig.ask(CREATE, first | {"amount": 500}, headers=key)
    assert (fault.document["code"], fault.document["retryable"]) == ("IDEMPOTENCY_KEY_REUSED", False)
    other = await rig.ask(CREATE, a_create(), headers=key | {"x-caller": "another-service"})
    assert other.document["sessionId"] != session


@pytest.mark.parametrize(("trouble", "code"), [({"error_rate": 1}, "GATEWAY_ERROR"), ({"down": True}, "GATEWAY_ERROR")])
async def test_a_failing_stripe_is_a_fault_that_may_be_repeated(rig: Rig, trouble: dict[str, Any], code: str) -> None:
    command = a_create()
    await rig.sandbox.control("config", trouble)
    try:
        fault = await rig.ask(CREATE, command)
    finally:
        await rig.sandbox.control("config", {"error_rate": 0, "down": False})
    [payment] = await rig.payments_of(command["bookingId"])
    assert (payment["status"], payment["session_id"]) == ("PENDING", None)
    document = fault.document
    assert document == {
        "code": code,
        "message": "The payment provider had a problem. Please try again.",
        "retryable": True,
        "paymentId": payment["id"],
        "bookingId": command["bookingId"],
        "amount": 449.97,
    }
    assert (await rig.ask(CREATE, command)).type == "checkout.create.reply"
    assert len(await rig.payments_of(command["bookingId"])) == 1
    assert len(await rig.sessions_of(command["bookingId"])) == 1


# --- repeats ----------------------------------------------------------------------------------------------------------


async def test_a_command_that_is_delivered_again_has_the_same_answer_and_no_second_effect(rig: Rig) -> None:
    """F14 Redelivery after lost ack: same result, same event id. B25: so is a replay of an old command."""
    command, message_id = a_create(), str(uuid4())
    first = await rig.ask(CREATE, command, message_id=message_id)
    payment = await rig.payment(first.document["sessionId"])
    await rig.told(payment["id"], events=1)
    async with rig.nothing_done():
        for _ in range(3):
            again = await rig.ask(CREATE, command, message_id=message_id)
            assert (again.type, again.document) == (first.type, first.document)
    assert len(rig.events_of(payment["id"])) == 1


async def test_two_copies_at_once_are_one_payment_and_one_answer(rig: Rig) -> None:
    """F15 Two copies at once: one winner, the other waits and reads. Here: both at one service."""
    commands = [(a_create(), str(uuid4())) for _ in range(20)]
    await rig.sandbox.control("config", {"latency_ms": 100})
    try:
        pairs = await asyncio.gather(
            *(
                asyncio.gather(*(rig.ask(CREATE, command, message_id=message_id) for _ in range(2)))
                for command, message_id in commands
            )
        )
    finally:
        await rig.sandbox.control("config", {"latency_ms": 0})
    for (command, _), (one, other) in zip(commands, pairs, strict=True):
        assert one.document == other.document
        assert one.type == other.type == "checkout.create.reply"
        assert len(await rig.payments_of(command["bookingId"])) == 1
        assert len(await rig.sessions_of(command["bookingId"])) == 1


async def test_many_creates_at_once_for_one_booking_are_one_session(rig: Rig) -> None:
    command = a_create()
    replies = await asyncio.gather(*(rig.ask(CREATE, command) for _ in range(20)))
    assert len({reply.body for reply in replies}) == 1
    assert len(await rig.sessions_of(command["bookingId"])) == 1


async def test_another_amount_ends_the_old_session_first(rig: Rig) -> None:
    old = await rig.created()
    new = await rig.created(bookingId=old["bookingId"], amount=500)
    ledger = {each["id"]: each["status"] for each in await rig.sessions_of(old["bookingId"])}
    assert ledger == {old["sessionId"]: "expired", new["sessionId"]: "open"}
    assert (await rig.sandbox.control("stats"))["max_payable_per_booking"] == 1


# --- deadlines --------------------------------------------------------------------------------------------------------


async def test_a_command_whose_caller_has_left_is_parked_and_not_executed(rig: Rig) -> None:
    """F6 Expired command (older than its deadline): not executed, counted, parked."""
    gone = {"timestamp": int(time.time()) - 12, "expiration": "10000", "reply_to": envelope.DIRECT_REPLY_TO}
    with rig.replies_since() as replies:
        async with rig.nothing_done():
            mark = await rig.send(CREATE, a_create(), **gone)
            assert (await rig.parked(CREATE, mark)).headers["x-reason"] == "expired"
        assert replies() == []


async def test_a_caller_whose_deadline_passes_meanwhile_is_told_and_the_session_is_kept(rig: Rig) -> None:
    command = a_create()
    await rig.sandbox.control("config", {"latency_ms": 3000})
    try:
        fault = await rig.ask(CREATE, command, expiration="300")
        assert (fault.document["code"], fault.document["retryable"]) == ("DEADLINE_EXCEEDED", True)
    finally:
        await rig.sandbox.control("config", {"latency_ms": 0})

    async def opened() -> bool:
        [payment] = await rig.payments_of(command["bookingId"])
        return payment["session_id"] is not None

    await until(opened)
    assert (await rig.ask(CREATE, command)).type == "checkout.create.reply"
    assert len(await rig.sessions_of(command["bookingId"])) == 1


async def test_a_hundred_creates_wait_for_a_slow_stripe_together(rig: Rig) -> None:
    """F36 With the pool as it is (20 connections)."""
    commands = [a_create() for _ in range(100)]
    await rig.sandbox.control("config", {"latency_ms": 1000})
    try:
        replies = await asyncio.gather(*(rig.ask(CREATE, command) for command in commands))
    finally:
        await rig.sandbox.control("config", {"latency_ms": 0})
    assert {reply.type for reply in replies} == {"checkout.create.reply"}
