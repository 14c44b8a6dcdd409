"""What subscribers get: CloudEvents with the whole state, in order, without gaps, once per change."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.integration.service.messages.rig import CREATE, VERIFY, Message, Rig, a_create

pytestmark = pytest.mark.asyncio(loop_scope="module")

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def assert_is_event(event: Message, key: str, request_id: str) -> dict[str, Any]:
    """The envelope around an event's data; the data."""
    document: dict[str, Any] = event.document
    data: dict[str, Any] = document.pop("data")
    assert document == {
        "specversion": "1.0",
        "id": event.properties.message_id,
        "source": "/bookticket/payment-service",
        "type": f"com.bookticket.{key}.v1",
        "subject": str(data["paymentId"]),
        "time": data["occurredAt"],
        "datacontenttype": "application/json",
    }
    assert datetime.fromisoformat(data["occurredAt"]).utcoffset() == datetime.now(UTC).utcoffset()
    assert event.routing_key == key
    assert event.properties.content_type == "application/cloudevents+json"
    assert event.properties.delivery_mode == 2  # survives the broker's restart
    assert event.type == document["type"]
    assert event.headers == {"x-request-id": request_id, "traceparent": TRACE}
    return data


async def test_a_payment_tells_that_it_is_pending_and_then_completed(rig: Rig) -> None:
    command = a_create()
    reply = await rig.ask(CREATE, command, headers={"x-request-id": "r-1", "traceparent": TRACE})
    session = reply.document["sessionId"]
    await rig.sandbox.pay(session)
    await rig.ask(VERIFY, {"sessionId": session}, headers={"x-request-id": "r-2", "traceparent": TRACE})
    payment_id = (await rig.payment(session))["id"]
    pending, completed = await rig.told(payment_id, events=2)
    data = assert_is_event(pending, "payment.pending", "r-1")
    occurred_at = data.pop("occurredAt")
    expected = {
        "paymentId": payment_id,
        "bookingId": command["bookingId"],
        "userId": 42,
        "transactionId": session,
        "amount": 449.97,
        "amountMinor": 44997,
        "currency": "inr",
        "status": "PENDING",
        "reason": None,
        "paymentUrl": reply.document["paymentUrl"],
        "sequence": 1,
    }
    assert data == expected
    data = assert_is_event(completed, "payment.completed", "r-2")
    assert data.pop("occurredAt") > occurred_at
    assert data == expected | {"status": "COMPLETED", "paymentUrl": None, "sequence": 2}


async def test_a_session_that_ended_is_told_with_its_reason(rig: Rig) -> None:
    session = (await rig.created())["sessionId"]
    await rig.sandbox.raw("POST", f"/v1/checkout/sessions/{session}/expire")
    await rig.verified(session)
    await rig.verified(session)
    _, failed = await rig.told((await rig.payment(session))["id"], events=2)
    data = failed.document["data"]
    assert failed.routing_key == "payment.failed"
    assert (data["status"], data["reason"], data["paymentUrl"], data["sequence"]) == ("FAILED", "expired", None, 2)
