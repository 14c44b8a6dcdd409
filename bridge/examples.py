"""Examples for the OpenAPI document: requests, answers, and each refusal as the error that it is."""

from decimal import Decimal
from typing import Any, Final

from bridge.errors import (
    BadReplyError,
    BodyTimeoutError,
    BodyTooLargeError,
    BridgeError,
    DeadlineExceededError,
    FaultError,
    ForbiddenError,
    HeadersTooLargeError,
    InsufficientScopeError,
    InternalError,
    InvalidRequestError,
    InvalidTokenError,
    NoServiceError,
    RateLimitedError,
    UnauthorizedError,
    UnsupportedMediaTypeError,
)
from bridge.identity import Permission
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
    PaymentStatus.FAILED: "The payment was not made in time. Nothing was charged.",
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


STATES: Final = {status.value: {"value": _state(status, message)} for status, message in _SENTENCES.items()}
VERIFIED: Final = STATES | {"PENDING, Stripe not asked": {"value": _state(PaymentStatus.PENDING, _NOT_ASKED)}}


def create_refusals() -> tuple[BridgeError, ...]:
    """What a create can be refused with, one of each code."""
    return (
        *_refusals(Permission.CREATE),
        InvalidRequestError("bookingId is required."),
        _fault(FaultCode.FAILED, "The payment was refused. Please check the booking and try again."),
        BodyTimeoutError(),
        _fault(FaultCode.ALREADY_PAID, "This booking has already been paid."),
        _in_progress(),
        BodyTooLargeError(),
        UnsupportedMediaTypeError(),
        _fault(FaultCode.IDEMPOTENCY_KEY_REUSED, "This idempotency key was used before for a different request."),
    )


def verify_refusals() -> tuple[BridgeError, ...]:
    """What a verify can be refused with."""
    return (*status_refusals(), _in_progress())


def status_refusals() -> tuple[BridgeError, ...]:
    """What reading a status can be refused with."""
    return (
        *_refusals(Permission.READ),
        InvalidRequestError("The id must be a checkout session id (cs_test_... or cs_live_...)."),
        _fault(FaultCode.NOT_FOUND, "No payment with this id was found."),
    )


def _refusals(scope: str) -> tuple[BridgeError, ...]:
    return (
        InvalidTokenError(),
        UnauthorizedError(),
        InsufficientScopeError(scope),
        ForbiddenError(),
        RateLimitedError(retry_after_seconds=2),
        HeadersTooLargeError(),
        InternalError(),
        _fault(FaultCode.GATEWAY_ERROR, "The payment provider had a problem. Please try again."),
        BadReplyError(),
        NoServiceError(),
        DeadlineExceededError(),
    )


def _in_progress() -> BridgeError:
    message = "A checkout for this booking is being prepared. Please try again in a moment."
    return _fault(FaultCode.IN_PROGRESS, message, retry_after_seconds=1)


def _fault(code: FaultCode, message: str, *, retry_after_seconds: int | None = None) -> FaultError:
    """As the service answers it, with what it knows of the payment."""
    fault = Fault(
        code=code,
        message=message,
        retryable=code in {FaultCode.IN_PROGRESS, FaultCode.GATEWAY_ERROR},
        retry_after_seconds=retry_after_seconds,
    )
    if code in {FaultCode.NOT_FOUND, FaultCode.IDEMPOTENCY_KEY_REUSED}:
        return FaultError(fault)
    payment = {"payment_id": 1001, "booking_id": 4711, "transaction_id": SESSION_ID, "amount": Decimal("540.9")}
    return FaultError(fault.model_copy(update=payment))
