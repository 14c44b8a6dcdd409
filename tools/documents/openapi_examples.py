"""Examples for the OpenAPI document: requests, answers, and each refusal, made from the bridge's own error."""

from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from bridge import errors
from bridge.auth import Permission
from bridge.errors import Refusal
from contracts.faults import Fault, FaultCode
from contracts.replies import PaymentStatus

SESSION_ID: Final = "cs_test_a1B2c3D4"
REQUEST_ID: Final = "booking-7f3a"
IDEMPOTENCY_KEY: Final = "booking-4711-checkout"
TRACE_PARENT: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

_REQUEST: Final = {"bookingId": 4711, "userId": 42, "amount": 540.9, "successUrl": None, "cancelUrl": None}
REQUESTS: Final[dict[str, dict[str, Any]]] = {
    "booking": {"summary": "As the Booking Service sends it: null is absent", "value": _REQUEST},
    "everything": {
        "summary": "With every member, the amount as text",
        "value": _REQUEST
        | {
            "amount": "540.90",
            "currency": "inr",
            "successUrl": "https://bookticket.example/paid?session={CHECKOUT_SESSION_ID}",
            "cancelUrl": "https://bookticket.example/back",
        },
    },
}
SESSION: Final[dict[str, Any]] = {
    "sessionId": SESSION_ID,
    "paymentUrl": f"https://checkout.stripe.com/c/pay/{SESSION_ID}",
    "bookingId": 4711,
    "amount": 540.9,
    "status": "pending",
    "message": "The checkout is ready. Please pay on the payment page.",
    "expiresAt": 1767225600,
}
_SENTENCES: Final = {
    PaymentStatus.PENDING: "Waiting for the payment.",
    PaymentStatus.COMPLETED: "The payment is complete.",
    PaymentStatus.FAILED: "The checkout ended before a payment was made. Nothing was charged.",
}
_NOT_ASKED: Final = (
    "The payment provider could not be asked just now. This is the last known status: waiting for the payment."
)


def _state(status: PaymentStatus, message: str) -> dict[str, Any]:
    return {
        "paymentId": 1001,
        "bookingId": 4711,
        "paymentStatus": status.value,
        "transactionId": SESSION_ID,
        "amount": 540.9,
        "message": message,
    }


_DOES_NOT_FIT: Final = (
    "Money has arrived that does not fit this payment, and we are looking into it. Please do not pay again."
)
STATES: Final = {status.value: {"value": _state(status, message)} for status, message in _SENTENCES.items()} | {
    "PENDING, X-Payment-Attention": {"value": _state(PaymentStatus.PENDING, _DOES_NOT_FIT)}
}
VERIFIED: Final = STATES | {"PENDING, Stripe not asked": {"value": _state(PaymentStatus.PENDING, _NOT_ASKED)}}


_LOOKED_AT: Final = "We have to look at an earlier payment of this booking first. Please do not pay again."


def create_refusals() -> tuple[Refusal, ...]:
    """What a create can be refused with, one of each code."""
    return (
        *_refusals(Permission.CREATE),
        replace(errors.INVALID_REQUEST, message="bookingId is required."),
        _fault(FaultCode.FAILED, "The payment was refused. Please check the booking and try again."),
        errors.REQUEST_TIMEOUT,
        _fault(FaultCode.ALREADY_PAID, "This booking has already been paid."),
        _in_progress(),
        _fault(FaultCode.NEEDS_ATTENTION, _LOOKED_AT),
        _fault(
            FaultCode.SUPERSEDED,
            "A newer checkout of this booking exists. Please use that one, or start a new one.",
        ),
        errors.BODY_TOO_LARGE,
        errors.UNSUPPORTED_MEDIA_TYPE,
        _fault(FaultCode.IDEMPOTENCY_KEY_REUSED, "This idempotency key was used before for a different request."),
    )


def verify_refusals() -> tuple[Refusal, ...]:
    """What a verify can be refused with."""
    return (*status_refusals(), _in_progress())


def status_refusals() -> tuple[Refusal, ...]:
    """What reading a status can be refused with."""
    return (
        *_refusals(Permission.READ),
        replace(errors.INVALID_REQUEST, message="The id must be a checkout session id (cs_test_... or cs_live_...)."),
        _fault(FaultCode.NOT_FOUND, "No payment with this id was found."),
    )


def _refusals(scope: str) -> tuple[Refusal, ...]:
    return (
        errors.INVALID_TOKEN,
        errors.NO_IDENTITY,
        errors.insufficient_scope(scope),
        errors.FORBIDDEN,
        replace(errors.RATE_LIMITED, retry_after_seconds=2),
        errors.HEADERS_TOO_LARGE,
        errors.NOT_IMPLEMENTED,
        errors.INTERNAL,
        _fault(FaultCode.GATEWAY_ERROR, "The payment provider had a problem. Please try again."),
        errors.BAD_REPLY,
        errors.NO_SERVICE,
        errors.DEADLINE_EXCEEDED,
    )


def _in_progress() -> Refusal:
    message = "A checkout for this booking is being prepared. Please try again in a moment."
    return _fault(FaultCode.IN_PROGRESS, message, retry_after_seconds=1)


def _fault(code: FaultCode, message: str, *, retry_after_seconds: int | None = None) -> Refusal:
    """As the service answers it, with what it knows of the payment."""
    fault = Fault(
        code=code,
        message=message,
        retryable=code in {FaultCode.IN_PROGRESS, FaultCode.GATEWAY_ERROR},
        retry_after_seconds=retry_after_seconds,
    )
    if code in {FaultCode.NOT_FOUND, FaultCode.IDEMPOTENCY_KEY_REUSED}:
        return errors.by_fault(fault)
    payment = {"payment_id": 1001, "booking_id": 4711, "transaction_id": SESSION_ID, "amount": Decimal("540.9")}
    return errors.by_fault(fault.model_copy(update=payment))
