"""What Stripe answers, word for word, and what becomes of the payment: refused, odd, or paid otherwise than agreed."""

import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from service.application.breaker import State
from service.application.budget import Endpoint
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
from tests.service_support import ScriptedServer, Seconds, context, scripted_server

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(kw_only=True)
class Scripted:
    rig: Rig
    stripe: ScriptedServer
    clock: Seconds
    """By which Stripe is left alone for a while when it fails."""

    def answers(self, document: Any, status: int = 200) -> None:
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.stripe.will_only(status, content, Request_Id="req_secret")
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
async def scripted(amqp_url: str, migrated_url: str) -> AsyncIterator[Scripted]:
    async with scripted_server() as stripe, around(amqp_url, migrated_url, stripe_api_base=stripe.url) as rig:
        stripe.will(500, b"{}")
        await rig.read_no_events()  # each answer is for a command
        clock = Seconds()
        async with serving(rig.settings, monotonic=clock) as service:
            rig.service = service
            yield Scripted(rig=rig, stripe=stripe, clock=clock)


def refusal(status: int, kind: str) -> tuple[int, dict[str, Any]]:
    return status, {"error": {"type": kind, "message": "Secret prose about you.", "param": "success_url"}}


@pytest.mark.parametrize(
    "refused", [refusal(400, "invalid_request_error"), refusal(402, "card_error")], ids=["400", "402"]
)
async def test_a_definite_refusal_fails_the_payment_at_once_and_for_good(
    scripted: Scripted, refused: tuple[int, dict[str, Any]]
) -> None:
    """F47 400/402 definite: FAILED with its reason once, no retry; one call, one event."""
    rig, command, message_id = scripted.rig, a_create(), str(uuid4())
    status, document = refused
    scripted.answers(document, status)
    fault = await rig.ask(CREATE, command, message_id=message_id)
    assert len(scripted.stripe.requests) == 1
    assert (fault.document["code"], fault.document["retryable"]) == ("FAILED", False)
    assert b"prose" not in fault.body
    assert b"req_" not in fault.body
    [payment] = await rig.payments_of(command["bookingId"])
    assert (payment["status"], payment["reason"]) == ("FAILED", "refused")
    again = await rig.ask(CREATE, command, message_id=message_id)
    assert again.document == fault.document
    assert len(scripted.stripe.requests) == 1
    [failed] = await rig.told(payment["id"], events=1)
    data = failed.document["data"]
    assert failed.routing_key == "payment.failed"
    assert (data["status"], data["reason"], data["transactionId"], data["sequence"]) == ("FAILED", "refused", None, 1)
    assert b"prose" not in failed.body


@pytest.mark.parametrize("status", [401, 403])
async def test_a_revoked_key_fails_nothing(scripted: Scripted, status: int, caplog: pytest.LogCaptureFixture) -> None:
    """F46 A key refused for a minute: at most five calls and one alarm; nothing FAILED or parked, then all goes on."""
    rig, waiting = scripted.rig, [a_create() for _ in range(20)]
    _, session = await scripted.opened()
    parked = len(await rig.dead_letters(CREATE))
    scripted.answers(*reversed(refusal(status, "invalid_request_error")))
    faults = []
    for command in waiting:
        faults.append(await rig.ask(CREATE, command, message_id=f"{status}-{command['bookingId']}"))
        await rig.ask(VERIFY, {"sessionId": session["id"]})
        scripted.clock.now += 60 / len(waiting)
    told = [(fault.document["code"], fault.document["retryable"]) for fault in faults]
    assert told[:2] == [("GATEWAY_ERROR", True), ("SERVICE_UNAVAILABLE", True)]
    assert {*told} == {("GATEWAY_ERROR", True), ("SERVICE_UNAVAILABLE", True)}
    assert faults[1].document["retryAfterSeconds"] == 12  # three of the fifteen seconds are over
    calls = Counter((method, path) for method, path, _ in scripted.stripe.requests)
    assert max(calls.values()) <= 5
    if status == 401:
        assert calls.total() <= 5  # whatever is asked
    alarms = [record for record in caplog.records if record.levelname == "ERROR" and "STRIPE_API_KEY" in record.message]
    assert len(alarms) == len(calls) if status == 403 else len(alarms) == 1
    for command in waiting:
        [payment] = await rig.payments_of(command["bookingId"])
        assert (payment["status"], payment["session_id"]) == ("PENDING", None)
    assert (await rig.payment(session["id"]))["status"] == "PENDING"

    page = {"url": "https://pay.example/#x", "expires_at": int(time.time()) + 2100}
    scripted.clock.now += 15
    for command in waiting:
        made = {"id": f"cs_test_{uuid4().hex}", **page}
        scripted.answers(made)
        reply = await rig.ask(CREATE, command, message_id=f"{status}-{command['bookingId']}")
        assert reply.document["sessionId"] == made["id"]
    assert (await scripted.verified(session)).document["paymentStatus"] == "PENDING"

    scripted.answers(*reversed(refusal(status, "invalid_request_error")))
    await rig.send(CREATE, nobody_waits := a_create())
    gateway: Any = rig.service.steps.gateway if rig.service else None
    await until(lambda: gateway.calls.circuits.state(Endpoint.CREATE) is State.OPEN)
    scripted.answers({"id": f"cs_test_{uuid4().hex}", **page})
    scripted.clock.now += 15

    async def was_opened() -> bool:
        payments = await rig.payments_of(nobody_waits["bookingId"])
        return bool(payments and payments[0]["session_id"])

    await until(was_opened, 30)
    assert len(await rig.dead_letters(CREATE)) == parked


ODD = {
    "HTML": b"<html>Bad gateway</html>",
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "another object": {"object": "event", "id": "evt_1"},
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
async def test_an_answer_that_makes_no_sense_decides_nothing(scripted: Scripted, odd: Any) -> None:
    """F48 An answer that makes no sense is treated as unknown: nothing crashes, nothing is COMPLETED."""
    payment, session = await scripted.opened()
    scripted.answers(odd)
    reply = await scripted.rig.ask(VERIFY, {"sessionId": session["id"]})
    assert (reply.document["paymentStatus"], reply.headers["x-payment-status-source"]) == ("PENDING", "local")
    command = a_create()
    scripted.answers(odd)
    fault = await scripted.rig.ask(CREATE, command)
    assert (fault.document["code"], fault.document["retryable"]) == ("GATEWAY_ERROR", True)
    [created] = await scripted.rig.payments_of(command["bookingId"])
    assert created["status"] == "PENDING"
    assert len(await scripted.rig.told(payment["id"], events=1)) == 1


@pytest.mark.parametrize(
    "odd",
    [{"status": "paid"}, {"payment_status": "refunded"}, {"status": None}, {"id": "cs_test_another"}, {"status": 7}],
    ids=str,
)
async def test_a_state_that_stripe_does_not_document_decides_nothing(scripted: Scripted, odd: dict[str, Any]) -> None:
    _, session = await scripted.opened()
    paid = session | {"status": "complete", "payment_status": "paid"} | odd
    scripted.answers(paid)
    reply = await scripted.rig.ask(VERIFY, {"sessionId": session["id"]})
    assert (reply.document["paymentStatus"], reply.headers["x-payment-status-source"]) == ("PENDING", "local")
    assert (await scripted.rig.payment(session["id"]))["status"] == "PENDING"


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
    scripted: Scripted, difference: dict[str, Any]
) -> None:
    """F49 Paid with other amount, currency, metadata or livemode: not COMPLETED, one alert each."""
    rig = scripted.rig
    payment, session = await scripted.opened()
    different = session | {"status": "complete", "payment_status": "paid"} | difference
    for _ in range(3):
        assert (await scripted.verified(different)).document["paymentStatus"] == "PENDING"
    assert (await rig.ask(STATUS, {"transactionId": session["id"]})).document["paymentStatus"] == "PENDING"
    _, attention = await rig.told(payment["id"], events=2)
    assert attention.routing_key == "payment.attention"
    data = attention.document["data"]
    assert (data["status"], data["reason"], data["sequence"]) == ("PENDING", "paid_differently", 2)
    row = await rig.payment(session["id"])
    assert (row["status"], row["attention"], row["version"]) == ("PENDING", "paid_differently", 2)
    [unsent] = await rig.sql("SELECT count(*) FROM outbox WHERE payment_id = $1", payment["id"])
    assert unsent["count"] == 2


async def test_money_that_fits_completes_the_payment(scripted: Scripted) -> None:
    _, session = await scripted.opened()
    paid = session | {"status": "complete", "payment_status": "paid"}
    assert (await scripted.verified(paid)).document["paymentStatus"] == "COMPLETED"


async def test_money_for_a_payment_that_failed_calls_a_person(scripted: Scripted) -> None:
    """F51 Paid later than the local end: the status stays, and whoever brings the late news calls a person, once.

    Nobody asks about a failed payment any more, so the news comes by a worker that had asked before.
    """
    payment, session = await scripted.opened()
    assert scripted.rig.service is not None
    steps = scripted.rig.service.steps
    as_it_was = await steps.store.payment(payment["id"])
    assert as_it_was is not None
    expired = session | {"status": "expired"}
    assert (await scripted.verified(expired)).document["paymentStatus"] == "FAILED"
    paid = session | {"status": "complete", "payment_status": "paid"}
    scripted.answers(paid)
    assert (await scripted.verified(paid)).document["paymentStatus"] == "FAILED"
    assert scripted.stripe.requests == []  # final answers stay as they are

    for _ in range(2):
        late = await steps.gateway.look_up(as_it_was, timeout_seconds=5)
        await steps.apply(as_it_was, late, context=context())
    events = [each.document["data"] for each in await scripted.rig.told(payment["id"], events=3)]
    assert [(each["status"], each["reason"]) for each in events[1:]] == [
        ("FAILED", "expired"),
        ("FAILED", "paid_after_failed"),
    ]
    kept = await scripted.rig.payment(session["id"])
    assert (kept["status"], kept["version"]) == ("FAILED", 3)
