"""The status table: what each outcome means for a payment in each status. Pure, total and data."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum, StrEnum
from typing import Any, Final

from service.domain.errors import IllegalTransitionError
from service.domain.outcomes import (
    Expired,
    Open,
    Opened,
    Outcome,
    Paid,
    Processing,
    Refused,
    Unknown,
    UnknownCause,
)
from service.domain.payment import AttentionReason, FailureReason, LastOutcome, Payment, PaymentStatus


class Effect(Enum):
    """The meaning of a cell of the table."""

    STAY = "stay"
    OPEN = "store the session"
    COMPLETE = "become COMPLETED"
    FAIL = "become FAILED"
    ALERT = "stay, and call a person"
    FAULT = "impossible"


class ChangeKind(StrEnum):
    """The kind of a change, as the journal stores it."""

    CREATED = "created"
    ADOPTED = "adopted"
    """Inserted because the gateway has its session: the record here is older than that."""
    RENEWED = "renewed"
    """No event: nobody has seen the terms that are replaced, so neither version nor sequence is used for it."""
    OPENED = "opened"
    COMPLETED = "completed"
    FAILED = "failed"
    ATTENTION = "attention"
    CLOSED = "closed"
    """A person has dealt with what needed attention; the status stays."""
    REFUNDED = "refunded"
    DISPUTED = "disputed"


@dataclass(frozen=True, kw_only=True)
class Change:
    """A transition: `payment` is the new state, whose version is one higher than that of the state it replaces.

    Only for `CREATED` and `RENEWED`, which are no events, there is no such version.
    """

    payment: Payment
    kind: ChangeKind
    detail: dict[str, str] = field(default_factory=dict)


_STAY, _FAULT = Effect.STAY, Effect.FAULT

_ROWS: Final[dict[type[Outcome], tuple[Effect, Effect, Effect]]] = {
    # when PENDING, COMPLETED, FAILED
    Opened: (Effect.OPEN, _FAULT, _FAULT),
    Open: (_STAY, _STAY, _STAY),
    Processing: (_STAY, _STAY, _STAY),
    Unknown: (_STAY, _STAY, _STAY),
    Paid: (Effect.COMPLETE, _STAY, Effect.ALERT),
    Expired: (Effect.FAIL, _FAULT, _STAY),
    Refused: (Effect.FAIL, _FAULT, _STAY),
}
TABLE: Final = {
    (status, outcome): effect
    for outcome, effects in _ROWS.items()
    for status, effect in zip(PaymentStatus, effects, strict=True)
}


def decide(payment: Payment, outcome: Outcome, *, at: datetime, replaced: bool = False) -> Change | None:
    """The change that the outcome means for the payment, or None; IllegalTransitionError if it is impossible.

    `replaced`: its session was ended for another create of the booking.
    """
    effect = TABLE[payment.status, type(outcome)]
    if isinstance(outcome, Opened) and outcome.session_id == payment.session_id:
        effect = Effect.STAY  # the gateway repeats an answer that we have (two workers asked with the same key)
    if isinstance(outcome, Paid) and (difference := _difference(payment, outcome)):
        detail = {"difference": difference}
        return _call_person(payment, AttentionReason.PAID_DIFFERENTLY, detail, at=at, **_said(outcome))
    match effect:
        case Effect.STAY:
            return None
        case Effect.OPEN if isinstance(outcome, Opened) and payment.session_id is None:
            return _next(
                payment,
                ChangeKind.OPENED,
                at=at,
                attention=payment.attention and _of_another_session(payment),
                session_id=outcome.session_id,
                payment_url=outcome.payment_url,
                expires_at=outcome.expires_at,
            )
        case Effect.COMPLETE:
            status, attention = PaymentStatus.COMPLETED, _of_another_session(payment)  # all else fits now
            return _next(payment, ChangeKind.COMPLETED, at=at, status=status, attention=attention, **_said(outcome))
        case Effect.FAIL:
            return _fail(payment, outcome, at=at, replaced=replaced)
        case Effect.ALERT:
            return _call_person(payment, AttentionReason.PAID_AFTER_FAILED, {}, at=at, **_said(outcome))
        case Effect.OPEN | Effect.FAULT:  # a second session for one payment could be paid twice
            raise _illegal(payment, outcome)


def last_outcome(outcome: Outcome) -> LastOutcome | None:
    """What is kept of the outcome with the payment."""
    match outcome:
        case Refused():
            return outcome.cause
        case Unknown():
            return LastOutcome.NO_SESSION if outcome.cause is UnknownCause.NO_SESSION else None
    return _KEPT.get(type(outcome))


def renewed(payment: Payment, *, reference: str, at: datetime, expires_at: datetime) -> Change:
    """New terms for a payment of which no session was made, or can be: it begins anew, with its id and its keys."""
    pay_until = None if payment.pay_until is None else at + (payment.pay_until - payment.created_at)
    terms = replace(
        payment, reference=reference, created_at=at, updated_at=at, expires_at=expires_at, pay_until=pay_until
    )
    return Change(payment=terms, kind=ChangeKind.RENEWED, detail={"replaced": payment.reference})


def unsettled(payment: Payment, *, at: datetime) -> Change | None:
    """Call a person for a payment that the sweeper cannot finish; None if one was called or the payment is final."""
    reason = AttentionReason.UNSETTLED
    if payment.last_outcome == LastOutcome.NO_SESSION:
        reason = AttentionReason.UNKNOWN_SESSION
    if payment.status.is_final or payment.attention not in {None, AttentionReason.UNSETTLED}:
        return None
    detail = {"attempts": str(payment.settle_attempts)}
    if payment.last_outcome is not None:
        detail["gateway"] = payment.last_outcome
    return _call_person(payment, reason, detail, at=at)


def unknown_session(payment: Payment, session_id: str, outcome: Outcome, *, at: datetime) -> Change:
    """Call a person for a session of the payment's booking that cannot become a payment of its own."""
    reason = AttentionReason.UNKNOWN_SESSION.value
    detail = {"reason": reason, "session": session_id, "gateway": type(outcome).__name__.lower()}
    if isinstance(outcome, Paid):
        detail["money"] = str(outcome.money)
    return _next(payment, ChangeKind.ATTENTION, detail, at=at, attention=reason, closed_at=None)


def close(payment: Payment, outcome: Outcome | None, *, at: datetime, by: str, why: str) -> Change:
    """End a pending payment, or what needs attention of a final one, because an operator says so.

    `outcome` is how the payment's session stands now, if it was asked for.
    """
    detail = {"by": by, "why": why}
    if payment.status.is_final:
        return _next(payment, ChangeKind.CLOSED, detail, at=at, closed_at=at)
    kept = {} if outcome is None else _said(outcome)
    if kept:
        detail["gateway"] = kept["last_outcome"]
    if outcome is not None:
        detail.update(outcome.evidence)
    status, reason = PaymentStatus.FAILED, FailureReason.CLOSED.value
    return _next(payment, ChangeKind.FAILED, detail, at=at, status=status, reason=reason, closed_at=at, **kept)


def _fail(payment: Payment, outcome: Outcome, *, at: datetime, replaced: bool) -> Change:
    reason, detail = FailureReason.REPLACED if replaced else FailureReason.EXPIRED, {}
    if isinstance(outcome, Refused):
        reason, detail = FailureReason.REFUSED, {"gateway": outcome.detail} if outcome.detail else {}
    # An end that the gateway confirms is what the sweeper had waited for; money that does not fit stays where it is.
    differently = payment.attention if payment.attention == AttentionReason.PAID_DIFFERENTLY else None
    attention = differently or _of_another_session(payment)
    status = PaymentStatus.FAILED
    return _next(
        payment,
        ChangeKind.FAILED,
        detail,
        at=at,
        status=status,
        reason=reason.value,
        attention=attention,
        **_said(outcome),
    )


def _of_another_session(payment: Payment) -> str | None:
    """The attention for another session of the booking, which stays whatever becomes of the payment."""
    is_its_own = payment.attention != AttentionReason.UNKNOWN_SESSION or payment.last_outcome == LastOutcome.NO_SESSION
    return None if is_its_own else payment.attention


_KEPT: Final[dict[type[Outcome], LastOutcome]] = {
    Processing: LastOutcome.PROCESSING,
    Paid: LastOutcome.PAID,
    Expired: LastOutcome.EXPIRED,
}


def _said(outcome: Outcome) -> dict[str, Any]:
    said = last_outcome(outcome)
    return {} if said is None else {"last_outcome": said.value}


def _call_person(
    payment: Payment, reason: AttentionReason, detail: dict[str, str], *, at: datetime, **members: object
) -> Change | None:
    if payment.attention == reason:
        return None  # one was called already, who may have dealt with it
    detail = {"reason": reason.value, **detail}
    return _next(payment, ChangeKind.ATTENTION, detail, at=at, attention=reason.value, closed_at=None, **members)


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
    error = IllegalTransitionError(payment=payment.ref)
    kind = type(outcome).__name__.lower()
    error.add_note(f"payment {payment.id} is {payment.status} (session {payment.session_id}), outcome {kind}")
    return error
