"""What Stripe answers, word for word, and what becomes of the payment: left alone, or paid otherwise than agreed."""

import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from service.adapters.stripe.circuit_breaker import State
from service.ratelimit.permit import Endpoint
from tests.integration.service.messages.rig import (
    CREATE,
    STATUS,
    VERIFY,
    Message,
    Rig,
    a_create,
    around,
    serving,
    until,
)
from tests.kit.clock import Seconds
from tests.kit.service import ScriptedServer, scripted_server
from tools.sandbox.accounts import THE_ACCOUNT


@dataclass(kw_only=True)
class Scripted:
    rig: Rig
    stripe: ScriptedServer
    clock: Seconds
    """Counts the seconds for which Stripe is not called when it fails."""

    def answers(self, document: Any, status: int = 200) -> None:
        self.stripe.will_only(status, json.dumps(document).encode(), Request_Id="req_secret")
        self.stripe.requests.clear()

    async def opened(self) -> tuple[Any, dict[str, Any]]:
        """A pending payment, and its session as Stripe shows it."""
        session: dict[str, Any] = {"id": f"cs_test_{uuid4().hex}", "object": "checkout.session"}
        page = {"url": f"https://checkout.stripe.com/c/pay/{session['id']}", "expires_at": int(time.time()) + 2100}
        self.answers(session | page)
        await self.rig.created()
        payment = await self.rig.payment(session["id"])
        shown = {
            "status": "open",
            "payment_status": "unpaid",
            "amount_total": 44997,
            "currency": "inr",
            "livemode": False,
            "metadata": {"paymentReference": payment["reference"]},
        }
        return payment, session | page | shown

    async def verified(self, session: dict[str, Any]) -> Message:
        self.answers(session)
        return await self.rig.ask(VERIFY, {"sessionId": session["id"]})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def answering(amqp_url: str, migrated_url: str) -> AsyncIterator[Scripted]:
    async with scripted_server() as stripe, around(amqp_url, migrated_url, stripe_api_base=stripe.url) as rig:
        stripe.will(200, json.dumps({"id": THE_ACCOUNT}).encode())  # what the start asks
        stripe.will(200, json.dumps({"data": [], "has_more": False}).encode())
        await rig.read_no_events()  # each answer is for a command
        clock = Seconds()
        async with serving(rig.settings, monotonic=clock) as service:
            rig.service = service
            stripe.requests.clear()
            yield Scripted(rig=rig, stripe=stripe, clock=clock)


REFUSED = {"error": {"type": "invalid_request_error", "message": "Secret prose about you.", "param": "success_url"}}


@pytest.mark.parametrize("status", [401, 403])
async def test_a_revoked_key_fails_nothing(answering: Scripted, status: int, caplog: pytest.LogCaptureFixture) -> None:
    """F46 A key refused for a minute: at most five calls, one error, nothing FAILED or dead-lettered."""
    rig, waiting = answering.rig, [a_create() for _ in range(20)]
    _, session = await answering.opened()
    before = len(await rig.dead_letters(CREATE))
    answering.answers(REFUSED, status)
    faults = []
    for command in waiting:
        faults.append(await rig.ask(CREATE, command, message_id=f"{status}-{command['bookingId']}"))
        await rig.ask(VERIFY, {"sessionId": session["id"]})
        answering.clock.now += 60 / len(waiting)
    answered = [(fault.document["code"], fault.document["retryable"]) for fault in faults]
    assert answered[:2] == [("GATEWAY_ERROR", True), ("SERVICE_UNAVAILABLE", True)]
    assert {*answered} == {("GATEWAY_ERROR", True), ("SERVICE_UNAVAILABLE", True)}
    assert faults[1].document["retryAfterSeconds"] == 12  # three of the fifteen seconds are over
    calls = Counter((method, path) for method, path, _ in answering.stripe.requests)
    assert max(calls.values()) <= 5
    if status == 401:
        assert calls.total() <= 5  # whatever is asked
    errors = [record for record in caplog.records if record.levelname == "ERROR" and "STRIPE_API_KEY" in record.message]
    assert len(errors) == len(calls) if status == 403 else len(errors) == 1
    for command in waiting:
        [payment] = await rig.payments_of(command["bookingId"])
        assert (payment["status"], payment["session_id"]) == ("PENDING", None)
    assert (await rig.payment(session["id"]))["status"] == "PENDING"

    page = {"url": "https://pay.example/#x", "expires_at": int(time.time()) + 2100}
    answering.clock.now += 15
    for command in waiting:
        made = {"id": f"cs_test_{uuid4().hex}", **page}
        answering.answers(made)
        reply = await rig.ask(CREATE, command, message_id=f"{status}-{command['bookingId']}")
        assert reply.document["sessionId"] == made["id"]
    assert (await answering.verified(session)).document["paymentStatus"] == "PENDING"

    answering.answers(REFUSED, status)
    await rig.send(CREATE, nobody_waits := a_create())
    gateway: Any = rig.service.application.gateway if rig.service else None
    await until(lambda: gateway.calls.circuit_breakers.state(Endpoint.CREATE) is State.OPEN)
    answering.answers({"id": f"cs_test_{uuid4().hex}", **page})
    answering.clock.now += 15

    async def was_opened() -> bool:
        payments = await rig.payments_of(nobody_waits["bookingId"])
        return bool(payments and payments[0]["session_id"])

    await until(was_opened, 30)
    assert len(await rig.dead_letters(CREATE)) == before


@pytest.mark.parametrize(
    "difference",
    [
        {"amount_total": 44996},
        {"amount_total": 44998},
        {"currency": "usd"},
        {"livemode": True},
        {"metadata": {"paymentReference": "another"}},
        {"metadata": {}},
        {"payment_status": "no_payment_required"},
    ],
    ids=str,
)
async def test_money_that_does_not_fit_calls_a_person_once_and_completes_nothing(
    answering: Scripted, difference: dict[str, Any]
) -> None:
    """F49 Paid with other amount, currency, metadata or livemode: not COMPLETED, one alert each."""
    rig = answering.rig
    payment, session = await answering.opened()
    different = session | {"status": "complete", "payment_status": "paid"} | difference
    for _ in range(3):
        assert (await answering.verified(different)).document["paymentStatus"] == "PENDING"
    assert (await rig.ask(STATUS, {"transactionId": session["id"]})).document["paymentStatus"] == "PENDING"
    _, attention = await rig.told(payment["id"], events=2)
    assert attention.routing_key == "payment.attention"
    data = attention.document["data"]
    assert (data["status"], data["reason"], data["sequence"]) == ("PENDING", "paid_differently", 2)
    row = await rig.payment(session["id"])
    assert (row["status"], row["attention"], row["version"]) == ("PENDING", "paid_differently", 2)
    [unsent] = await rig.sql("SELECT count(*) FROM outbox WHERE payment_id = $1", payment["id"])
    assert unsent["count"] == 2
