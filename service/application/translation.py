"""Between the domain and the contracts: replies, faults and events."""

from typing import Any, Final
from uuid import uuid4

from contracts import envelope
from contracts.events import EventKey, PaymentEvent, PaymentSnapshot
from contracts.faults import Fault, FaultCode
from contracts.replies import CheckoutSession, PaymentState, StatusSource
from contracts.replies import PaymentStatus as ContractStatus
from service.application import sentences
from service.domain.errors import PaymentServiceError
from service.domain.money import Money
from service.domain.payment import FailureReason, Payment, PaymentStatus
from service.domain.status import Change, ChangeKind

_EVENT_KEYS = {
    ChangeKind.OPENED: EventKey.PENDING,
    ChangeKind.COMPLETED: EventKey.COMPLETED,
    ChangeKind.FAILED: EventKey.FAILED,
    ChangeKind.ATTENTION: EventKey.ATTENTION,
    ChangeKind.CLOSED: EventKey.ATTENTION,
    ChangeKind.REFUNDED: EventKey.REFUNDED,
    ChangeKind.DISPUTED: EventKey.DISPUTED,
}

_ASIDE: Final = frozenset({ChangeKind.ATTENTION, ChangeKind.CLOSED, ChangeKind.REFUNDED, ChangeKind.DISPUTED})
"""Changes whose reason is not the payment's own."""

StateReply = tuple[PaymentState, dict[str, str]]
"""How a payment stands, and what the headers of its message say."""


def checkout_session(payment: Payment) -> CheckoutSession:
    """The reply to a create. The payment's session must have been opened."""
    return CheckoutSession(
        session_id=payment.session_id or "",
        payment_url=payment.payment_url or "",
        booking_id=payment.booking_id,
        amount=payment.money.major,
        message="The checkout is ready. Please pay on the payment page.",
        expires_at=int(payment.payable_until.timestamp()),
    )


def state_reply(payment: Payment, source: StatusSource | None = None) -> StateReply:
    """The reply to a verify, with `source`, or to a status query."""
    headers = {} if source is None else {envelope.STATUS_SOURCE: source.value}
    if payment.open_attention is not None:
        headers[envelope.ATTENTION] = payment.open_attention
    return _state(payment, gateway_answered=source is not StatusSource.LOCAL), headers


def _state(payment: Payment, *, gateway_answered: bool) -> PaymentState:
    return PaymentState(
        payment_id=payment.id,
        booking_id=payment.booking_id,
        payment_status=ContractStatus(payment.status.value),
        transaction_id=payment.session_id or "",
        amount=payment.money.major,
        message=sentences.of_state(payment, gateway_answered=gateway_answered),
    )


def fault(error: PaymentServiceError) -> Fault:
    """The typed fault for an error, with what is known of the payment."""
    payment = error.payment
    known: dict[str, Any] = {}
    if payment is not None:
        known = {"payment_id": payment.id, "booking_id": payment.booking_id}
        known |= {"transaction_id": payment.session_id, "amount": payment.amount}
    return Fault(
        code=FaultCode(error.code),
        message=error.message,
        retryable=error.retryable,
        retry_after_seconds=error.retry_after_seconds,
        **known,
    )


def event(change: Change) -> tuple[EventKey, PaymentEvent]:
    """The event for a change, with its routing key."""
    payment = change.payment
    key = _EVENT_KEYS[change.kind]
    # After a refund has failed 0 is said, in minor units: a number of major units has been greater in the contract.
    says_nothing = not payment.refunded_minor and change.kind is not ChangeKind.REFUNDED
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
            reason=_reason(change) if change.kind in _ASIDE else payment.reason,
            payment_url=payment.payment_url if payment.status is PaymentStatus.PENDING else None,
            occurred_at=payment.updated_at,
            sequence=payment.version,
            refunded_amount=Money(payment.refunded_minor, payment.money.currency).major or None,
            refunded_amount_minor=None if says_nothing else payment.refunded_minor,
            dispute_status=payment.dispute,
        ),
    )


def _reason(change: Change) -> str | None:
    """Why the change was made, where there is a reason."""
    match change.kind:
        case ChangeKind.ATTENTION:
            return change.payment.attention
        case ChangeKind.CLOSED:
            return FailureReason.CLOSED.value
        case ChangeKind.REFUNDED:
            return change.detail.get("part")
        case ChangeKind.DISPUTED:
            return change.detail.get("reason")
    return change.payment.reason
