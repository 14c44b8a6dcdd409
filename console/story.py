"""What became of a payment, in sentences for an operator: what it waits for, and its history line by line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from console.rendering import ago, clock, moment, span
from service.application.ports import JournalEntry
from service.application.ports.search import StoredEvent
from service.domain.money import Money
from service.domain.payment import AttentionReason, FailureReason, LastOutcome, Payment, PaymentStatus
from service.domain.status import ChangeKind
from service.ratelimit.permit import Endpoint

TITLES: Final[Mapping[str, str]] = {
    ChangeKind.CREATED: "Begun",
    ChangeKind.ADOPTED: "Adopted: Stripe knew it, we did not",
    ChangeKind.RENEWED: "Terms renewed",
    ChangeKind.OPENED: "Checkout opened at Stripe",
    ChangeKind.COMPLETED: "Paid",
    ChangeKind.FAILED: "Failed",
    ChangeKind.ATTENTION: "A person was called",
    ChangeKind.CLOSED: "Closed by an operator",
    ChangeKind.REFUNDED: "Refunded at Stripe",
    ChangeKind.DISPUTED: "Disputed by the payer's bank",
}
"""By the kind of the journal's line. Total, so that a new kind needs a title."""
EVIDENCE: Final = frozenset(
    {"gateway_call", "gateway_request_id", "gateway_seconds", "gateway_event", "gateway_event_at"}
)
"""Members of a line's detail that are told in sentences."""
TONES: Final[Mapping[str, str]] = {
    ChangeKind.COMPLETED: "good",
    ChangeKind.FAILED: "bad",
    ChangeKind.ATTENTION: "warn",
    ChangeKind.REFUNDED: "warn",
    ChangeKind.DISPUTED: "warn",
}
FAILED: Final[Mapping[str, str]] = {
    FailureReason.EXPIRED: "The payer did not pay in time. Nothing was charged.",
    FailureReason.REPLACED: "The booking was checked out again with other terms, so this checkout was ended. "
    "Nothing was charged.",
    FailureReason.REFUSED: "Stripe refused to make a checkout. Nothing was charged.",
    FailureReason.CLOSED: "An operator ended it.",
}
ATTENTION: Final[Mapping[str, str]] = {
    AttentionReason.PAID_AFTER_FAILED: "Money arrived after this payment had failed. Refund it in Stripe or honour the "
    "booking by hand, then close this payment.",
    AttentionReason.PAID_DIFFERENTLY: "Stripe took another amount, currency or mode than was asked, or money that "
    "names another payment. Compare both below, put the money right in Stripe, then close this payment.",
    AttentionReason.UNSETTLED: "The sweeper has tried often to finish this payment and could not. It goes on trying; "
    "look at Stripe's status and at the service's log.",
    AttentionReason.UNKNOWN_SESSION: "Stripe does not know this payment's session, or has another session for the "
    "booking that cannot become a payment of its own. Look the session up in Stripe, then close this payment.",
}


ASKED: Final[Mapping[str, str]] = {
    Endpoint.CREATE: "to make the checkout",
    Endpoint.RETRIEVE: "how the checkout stands",
    Endpoint.EXPIRE: "to end the checkout",
    Endpoint.LIST: "for a list of checkouts, this among them",
    Endpoint.EVENTS: "for its events",
}
"""What Stripe was sent, by the call that the journal names."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A line of the history. `since` is how long after the one before.

    `gateway`: how Stripe said it, in sentences; `gateway_request`, `gateway_event`: Stripe's ids of the two.
    """

    at: datetime
    title: str
    tone: str
    since: timedelta
    detail: Mapping[str, str] = field(default_factory=dict)
    gateway: Sequence[str] = ()
    gateway_request: str = ""
    gateway_event: str = ""
    request_id: str = ""
    version: int
    event: StoredEvent | None
    event_note: str


def now_of(payment: Payment, now: datetime) -> str:
    """What the payment waits for and until when, or how it ended."""
    if (reason := payment.open_attention) is not None:
        return ATTENTION.get(reason, "A person must look at this payment, then close it.")
    if payment.status is PaymentStatus.COMPLETED:
        return _completed(payment)
    if payment.status is PaymentStatus.FAILED:
        return FAILED.get(payment.reason or "", "It failed.")
    if payment.session_id is None:
        return _unopened(payment, now)
    if payment.last_outcome == LastOutcome.PROCESSING:
        return "The payer has paid by a method that takes time: Stripe is processing it. Stripe's next event decides."
    return _waiting_for_payer(payment, now)


def _unopened(payment: Payment, now: datetime) -> str:
    if payment.settle_attempts:
        return (
            f"Stripe has not made its checkout yet, for {span(now - payment.created_at)} and in "
            f"{payment.settle_attempts} attempts of the sweeper, which goes on with the same key, so that no second "
            "checkout comes of it."
        )
    return (
        f"Its checkout is being made at Stripe, for {span(now - payment.created_at)} by now. If the call was lost, "
        "the sweeper repeats it with the same key, so that no second checkout comes of it."
    )


def _waiting_for_payer(payment: Payment, now: datetime) -> str:
    until = payment.payable_until
    if until > now:
        return f"Waiting for the payer, who can pay until {moment(until)} UTC ({ago(until, now)})."
    tries = f", in {payment.settle_attempts} attempts so far" if payment.settle_attempts else ""
    return (
        f"The payer's time was over {ago(until, now)}. The sweeper has Stripe end the checkout first{tries}; then it "
        "is FAILED, or COMPLETED if money came meanwhile."
    )


def history(
    payment: Payment, journal: Sequence[JournalEntry], events: Sequence[StoredEvent], now: datetime
) -> list[Moment]:
    """The journal's lines in order, each with the event that it caused."""
    by_sequence = {event.sequence: event for event in events}
    found, before = list[Moment](), payment.created_at
    for entry in journal:
        event = by_sequence.get(entry.version) if entry.version and entry.kind != ChangeKind.RENEWED else None
        title = TITLES.get(entry.kind, entry.kind)
        if entry.kind == ChangeKind.FAILED and payment.reason:
            title = f"Failed: {payment.reason.replace('_', ' ')}"
        elif entry.kind == ChangeKind.REFUNDED and "failed" in entry.detail:
            how = "was canceled" if entry.detail.get("status") == "canceled" else "failed"
            title = f"A refund {how} at Stripe: the money is back with us"
        found.append(
            Moment(
                at=entry.at,
                title=title,
                tone=TONES.get(entry.kind, ""),
                since=max(entry.at - before, timedelta(0)),
                detail={name: str(value) for name, value in entry.detail.items() if name not in EVIDENCE},
                gateway=_said(entry),
                gateway_request=str(entry.detail.get("gateway_request_id", "")),
                gateway_event=str(entry.detail.get("gateway_event", "")),
                request_id=entry.request_id,
                version=entry.version,
                event=event,
                event_note="" if event is None else _published(event, now),
            )
        )
        before = entry.at
    return found


def _said(entry: JournalEntry) -> list[str]:
    """How Stripe said what the line is about: in an answer, in an event, or in both."""
    detail, said = entry.detail, list[str]()
    if asked := ASKED.get(detail.get("gateway_call", "")):
        seconds = detail.get("gateway_seconds")
        said.append(f"Stripe was asked {asked}" + (f", and answered in {span(float(seconds))}" if seconds else ""))
    if event_at := detail.get("gateway_event_at"):
        at = datetime.fromisoformat(event_at)
        late = span(max(entry.at - at, timedelta(0)))
        said.append(f"Stripe's event of {at.astimezone(UTC):%H:%M:%S} told it, {late} before this line")
    return said


def _completed(payment: Payment) -> str:
    text = "Paid. Nothing is waited for."
    if payment.refunded_minor:
        part = "all" if payment.refunded_minor >= payment.money.minor else "part"
        text = f"Paid, and {part} of it refunded: {Money(payment.refunded_minor, payment.money.currency)}."
    if payment.dispute:
        text += f" The payer's bank has disputed it: {payment.dispute.replace('_', ' ')}."
    return text


def _published(event: StoredEvent, now: datetime) -> str:
    if event.sent_at is not None:
        if event.attempts > 1:  # or once more, because an operator asked for it
            return f"published at {clock(event.sent_at)}, in attempt {event.attempts}"
        return f"published after {span(event.sent_at - event.created_at)}"
    tries = f"; {event.attempts} attempts" if event.attempts else ""
    return f"not published yet, for {span(now - event.created_at)}{tries}"
