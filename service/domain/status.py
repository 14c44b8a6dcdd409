"""The status table: what each outcome means for a payment in each status. Pure, total, and data."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum, StrEnum
from typing import Final

from service.domain.errors import IllegalTransitionError
from service.domain.outcomes import Expired, Opened, Outcome, OutcomeKind, Paid, Refused
from service.domain.payment import AttentionReason, FailureReason, Payment, PaymentStatus


class Effect(Enum):
    """What a cell of the table tells us to do."""

    STAY = "stay"
    OPEN = "store the session"
    COMPLETE = "become COMPLETED"
    FAIL = "become FAILED"
    ALERT = "stay, and call a person"
    FAULT = "impossible"


class ChangeKind(StrEnum):
    """What happened, as the journal says it."""

    CREATED = "created"
    OPENED = "opened"
    COMPLETED = "completed"
    FAILED = "failed"
    ATTENTION = "attention"


@dataclass(frozen=True, kw_only=True)
class Change:
    """One step of a payment: `payment` is the new state, whose version is one higher than the state it replaces."""

    payment: Payment
    kind: ChangeKind
    detail: dict[str, str] = field(default_factory=dict)


_PENDING, _COMPLETED, _FAILED = PaymentStatus.PENDING, PaymentStatus.COMPLETED, PaymentStatus.FAILED

TABLE: Final[dict[tuple[PaymentStatus, OutcomeKind], Effect]] = {
    (_PENDING, OutcomeKind.OPENED): Effect.OPEN,
    (_PENDING, OutcomeKind.OPEN): Effect.STAY,
    (_PENDING, OutcomeKind.PROCESSING): Effect.STAY,
    (_PENDING, OutcomeKind.UNKNOWN): Effect.STAY,
    (_PENDING, OutcomeKind.PAID): Effect.COMPLETE,
    (_PENDING, OutcomeKind.EXPIRED): Effect.FAIL,
    (_PENDING, OutcomeKind.REFUSED): Effect.FAIL,
    (_COMPLETED, OutcomeKind.OPENED): Effect.FAULT,
    (_COMPLETED, OutcomeKind.OPEN): Effect.STAY,
    (_COMPLETED, OutcomeKind.PROCESSING): Effect.STAY,
    (_COMPLETED, OutcomeKind.UNKNOWN): Effect.STAY,
    (_COMPLETED, OutcomeKind.PAID): Effect.STAY,
    (_COMPLETED, OutcomeKind.EXPIRED): Effect.FAULT,
    (_COMPLETED, OutcomeKind.REFUSED): Effect.FAULT,
    (_FAILED, OutcomeKind.OPENED): Effect.FAULT,
    (_FAILED, OutcomeKind.OPEN): Effect.STAY,
    (_FAILED, OutcomeKind.PROCESSING): Effect.STAY,
    (_FAILED, OutcomeKind.UNKNOWN): Effect.STAY,
    (_FAILED, OutcomeKind.PAID): Effect.ALERT,
    (_FAILED, OutcomeKind.EXPIRED): Effect.STAY,
    (_FAILED, OutcomeKind.REFUSED): Effect.STAY,
}


def decide(payment: Payment, outcome: Outcome, *, at: datetime) -> Change | None:
    """The change that the outcome means for the payment, or None if it means none.

    Raises:
        IllegalTransitionError: the table calls the outcome impossible in this status.
    """
    match _effect(payment, outcome):
        case Effect.STAY:
            return None
        case Effect.OPEN:
            return _opened(payment, outcome, at=at)
        case Effect.COMPLETE:
            return _next(payment, ChangeKind.COMPLETED, at=at, status=PaymentStatus.COMPLETED)
        case Effect.FAIL:
            return _failed(payment, outcome, at=at)
        case Effect.ALERT:
            return _alert(payment, outcome, at=at)
        case Effect.FAULT:
            raise _illegal(payment, outcome)


def _effect(payment: Payment, outcome: Outcome) -> Effect:
    """The table's cell, but for two outcomes that must first be compared with what we know."""
    if isinstance(outcome, Opened) and outcome.session_id == payment.session_id:
        return Effect.STAY  # the gateway repeats an answer that we have (two workers asked with the same key)
    if isinstance(outcome, Paid) and _difference(payment, outcome):
        return Effect.ALERT
    return TABLE[payment.status, outcome.kind]


def _opened(payment: Payment, outcome: Outcome, *, at: datetime) -> Change:
    if not isinstance(outcome, Opened) or payment.session_id is not None:
        raise _illegal(payment, outcome)  # a second session for one payment could be paid twice
    return _next(
        payment,
        ChangeKind.OPENED,
        at=at,
        session_id=outcome.session_id,
        payment_url=outcome.payment_url,
        expires_at=outcome.expires_at,
    )


def _failed(payment: Payment, outcome: Outcome, *, at: datetime) -> Change:
    reason = FailureReason.EXPIRED if isinstance(outcome, Expired) else FailureReason.REFUSED
    detail = {"gateway": outcome.detail} if isinstance(outcome, Refused) and outcome.detail else {}
    return _next(payment, ChangeKind.FAILED, detail, at=at, status=PaymentStatus.FAILED, reason=reason.value)


def unsettled(payment: Payment, *, at: datetime) -> Change | None:
    """Call a person for a payment that the settler cannot finish; None if somebody was called or it is final."""
    if payment.status.is_final or payment.attention is not None:
        return None
    return _call_a_person(payment, AttentionReason.UNSETTLED, {"attempts": str(payment.settle_attempts)}, at=at)


def _alert(payment: Payment, outcome: Outcome, *, at: datetime) -> Change | None:
    difference = _difference(payment, outcome) if isinstance(outcome, Paid) else ""
    if difference:
        return _call_a_person(payment, AttentionReason.PAID_DIFFERENTLY, {"difference": difference}, at=at)
    return _call_a_person(payment, AttentionReason.PAID_AFTER_FAILED, {}, at=at)


def _call_a_person(payment: Payment, reason: AttentionReason, detail: dict[str, str], *, at: datetime) -> Change | None:
    if payment.attention == reason:
        return None  # they were called already
    return _next(payment, ChangeKind.ATTENTION, {"reason": reason.value, **detail}, at=at, attention=reason.value)


def _next(
    payment: Payment, kind: ChangeKind, detail: dict[str, str] | None = None, *, at: datetime, **members: object
) -> Change:
    changed = replace(payment, version=payment.version + 1, updated_at=at, **members)  # type: ignore[arg-type]
    return Change(payment=changed, kind=kind, detail=detail or {})


def _difference(payment: Payment, paid: Paid) -> str:
    """What does not fit, in words for the journal; empty if all fits."""
    pairs = {
        "money": (str(payment.money), str(paid.money)),
        "reference": (payment.reference, str(paid.reference)),
        "livemode": (str(payment.livemode), str(paid.livemode)),
    }
    return "; ".join(
        f"{name}: expected {ours}, got {theirs}" for name, (ours, theirs) in pairs.items() if ours != theirs
    )


def _illegal(payment: Payment, outcome: Outcome) -> IllegalTransitionError:
    error = IllegalTransitionError(payment=payment)
    error.add_note(f"payment {payment.id} is {payment.status} (session {payment.session_id}), outcome {outcome.kind}")
    return error
