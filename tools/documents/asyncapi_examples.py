"""Examples for the AsyncAPI document. Bodies are written by the contracts; headers are filled in by their schema."""

import json
from datetime import UTC, datetime
from typing import Any, Final

from contracts import body, envelope
from contracts.commands import CommandType
from contracts.events import EventKey, PaymentEvent, PaymentSnapshot
from contracts.faults import DeadLetterReason, Fault, FaultCode
from contracts.replies import PaymentStatus
from tools.documents import openapi_examples

_AT: Final = datetime(2026, 1, 1, 0, 0, 0, tzinfo=UTC)
_ID: Final = "0b8f6d0e-9a55-4c3e-8f11-6f1c5e0a52d1"

_HEADERS: Final[dict[str, Any]] = {
    "message_id": _ID,
    "correlation_id": _ID,
    "timestamp": int(_AT.timestamp()),
    "expiration": "10000",
    "reply_to": envelope.DIRECT_REPLY_TO,
    "delivery_mode": 2,
    envelope.REQUEST_ID: openapi_examples.REQUEST_ID,
    envelope.TRACE_PARENT: openapi_examples.TRACE_PARENT,
    envelope.CALLER: "42",
    envelope.IDEMPOTENCY_KEY: openapi_examples.IDEMPOTENCY_KEY,
    envelope.STATUS_SOURCE: "gateway",
    envelope.WAIT_SECONDS: "30",
    envelope.REASON: DeadLetterReason.EXHAUSTED.value,
    envelope.SENDER: "payment-bridge",
    envelope.REASON_TEXT: "The payment provider had a problem. Please try again.",
    envelope.FAULT_CODE: FaultCode.GATEWAY_ERROR.value,
    envelope.ATTEMPTS: 6,
    envelope.FIRST_FAILED_AT: "2026-01-01T00:00:01+00:00",
    envelope.LAST_FAILED_AT: "2026-01-01T00:12:39+00:00",
}

COMMANDS: Final[dict[CommandType, dict[str, Any]]] = {
    CommandType.CREATE_CHECKOUT: openapi_examples.REQUESTS["booking"]["value"],
    CommandType.VERIFY_CHECKOUT: {"sessionId": openapi_examples.SESSION_ID},
    CommandType.PAYMENT_STATUS: {"transactionId": openapi_examples.SESSION_ID},
}
REPLIES: Final[dict[CommandType, dict[str, Any]]] = {
    CommandType.CREATE_CHECKOUT: openapi_examples.SESSION,
    CommandType.VERIFY_CHECKOUT: openapi_examples.STATES["COMPLETED"]["value"],
    CommandType.PAYMENT_STATUS: openapi_examples.STATES["PENDING"]["value"],
}
_STATUS: Final = {
    EventKey.PENDING: PaymentStatus.PENDING,
    EventKey.COMPLETED: PaymentStatus.COMPLETED,
    EventKey.FAILED: PaymentStatus.FAILED,
    EventKey.ATTENTION: PaymentStatus.FAILED,
    EventKey.REFUNDED: PaymentStatus.COMPLETED,
    EventKey.DISPUTED: PaymentStatus.COMPLETED,
}
_REASON: Final = {
    EventKey.FAILED: "expired",
    EventKey.ATTENTION: "paid_after_failed",
    EventKey.REFUNDED: "part",
    EventKey.DISPUTED: "fraudulent",
}
_MORE: Final[dict[EventKey, dict[str, Any]]] = {
    EventKey.REFUNDED: {"refundedAmount": "40.9", "refundedAmountMinor": 4090},
    EventKey.DISPUTED: {"disputeStatus": "needs_response"},
}


def headers(schema: dict[str, Any], *, without: frozenset[str] = frozenset()) -> dict[str, Any]:
    """An example of each header that the schema names and that has one."""
    found = {}
    for name, member in schema["properties"].items():
        if "const" in member:
            found[name] = member["const"]
        elif name in _HEADERS and name not in without:
            found[name] = _HEADERS[name]
    return found


def fault() -> dict[str, Any]:
    """That of a booking which is paid."""
    record = Fault(
        code=FaultCode.ALREADY_PAID, message="This booking has already been paid.", retryable=False, booking_id=4711
    )
    document: dict[str, Any] = json.loads(record.model_dump_json(by_alias=True, exclude_none=True))
    return document


def event(key: EventKey) -> dict[str, Any]:
    """As the relay publishes it."""
    status = _STATUS[key]
    record = PaymentEvent(
        id=_ID,
        type=key.event_type,
        subject="1001",
        time=_AT,
        data=PaymentSnapshot.model_validate(
            {
                "paymentId": 1001,
                "bookingId": 4711,
                "userId": 42,
                "transactionId": openapi_examples.SESSION_ID,
                "amount": "540.9",
                "amountMinor": 54090,
                "currency": "inr",
                "status": status.value,
                "reason": _REASON.get(key),
                "paymentUrl": openapi_examples.SESSION["paymentUrl"] if status is PaymentStatus.PENDING else None,
                "occurredAt": _AT,
                "sequence": list(EventKey).index(key) + 1,
                **_MORE.get(key, {}),
            }
        ),
    )
    document: dict[str, Any] = json.loads(body.write(record))
    return document
