"""Between the domain and the contracts: replies, faults and events. The texts that end users read are all here."""

from datetime import datetime
from typing import Any
from uuid import uuid4

from contracts.events import EventKey, PaymentEvent, PaymentSnapshot
from contracts.faults import Fault, FaultCode
from contracts.replies import CheckoutSession, PaymentState
from contracts.replies import PaymentStatus as ContractStatus
from service.domain.errors import PaymentServiceError
from service.domain.payment import FailureReason, Payment, PaymentStatus
from service.domain.status import Change, ChangeKind

_EVENT_KEYS = {
    ChangeKind.OPENED: EventKey.PENDING,
    ChangeKind.COMPLETED: EventKey.COMPLETED,
    ChangeKind.FAILED: EventKey.FAILED,
    ChangeKind.ATTENTION: EventKey.ATTENTION,
}

_FAILURES = {
    FailureReason.EXPIRED.value: "The payment was not made in time. Nothing was charged.",
    FailureReason.REFUSED.value: "The payment was refused. Nothing was charged.",
}


def checkout_session(payment: Payment, *, pay_until: datetime) -> CheckoutSession:
    """The reply to a create. The payment's session must have been opened; `pay_until` is when the settler ends it."""
    return CheckoutSession(
        session_id=payment.session_id or "",
        payment_url=payment.payment_url or "",
        booking_id=payment.booking_id,
        amount=payment.money.major,
        message="The checkout is ready. Please pay on the payment page.",
        expires_at=int(min(payment.expires_at, pay_until).timestamp()),
    )


def payment_state(payment: Payment, *, gateway_answered: bool = True) -> PaymentState:
    """The reply to a verify or a status query."""
    return PaymentState(
        payment_id=payment.id,
        booking_id=payment.booking_id,
        payment_status=ContractStatus(payment.status.value),
        transaction_id=payment.session_id or "",
        amount=payment.money.major,
        message=_state_message(payment, gateway_answered=gateway_answered),
    )


def _state_message(payment: Payment, *, gateway_answered: bool) -> str:
    if payment.status is PaymentStatus.COMPLETED:
        return "The payment is complete."
    if payment.status is PaymentStatus.FAILED:
        return _FAILURES.get(payment.reason or "", "The payment has failed.")
    if not gateway_answered:
        return (
            "The payment provider could not be asked just now. This is the last known status: waiting for the payment."
        )
    return "Waiting for the payment."


def fault(error: PaymentServiceError) -> Fault:
    """The typed fault for an error, with what is known of the payment."""
    known = {} if error.payment is None else _known(error.payment)
    return Fault(
        code=FaultCode(error.code),
        message=error.message,
        retryable=error.retryable,
        retry_after_seconds=error.retry_after_seconds,
        **known,
    )


def _known(payment: Payment) -> dict[str, Any]:
    return {
        "payment_id": payment.id,
        "booking_id": payment.booking_id,
        "transaction_id": payment.session_id,
        "amount": payment.money.major,
    }


def event(change: Change) -> tuple[EventKey, PaymentEvent]:
    """The event that tells a change, with its routing key."""
    payment = change.payment
    key = _EVENT_KEYS[change.kind]
    pending = payment.status is PaymentStatus.PENDING
    return key, PaymentEvent(
        id=str(uuid4()),
        type=key.event_type,
        subject=str(payment.id),
        time=payment.updated_at,
        data=PaymentSnapshot(
            payment_id=payment.id,
            booking_id=payment.booking_id,
            user_id=payment.user_id,
            transaction_id=payment.session_id,
            amount=payment.money.major,
            amount_minor=payment.money.minor,
            currency=payment.money.currency,
            status=ContractStatus(payment.status.value),
            reason=payment.attention if change.kind is ChangeKind.ATTENTION else payment.reason,
            payment_url=payment.payment_url if pending else None,
            occurred_at=payment.updated_at,
            sequence=payment.version,
        ),
    )
