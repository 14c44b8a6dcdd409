"""What can differ between the payments here and the gateway's sessions. Pure."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from service.application.ports import ToldSession
from service.domain.money import Money
from service.domain.outcomes import Expired, Open, Outcome, Paid, Processing, Unknown
from service.domain.payment import Payment, PaymentStatus


class DifferenceKind(StrEnum):
    """How a payment and its session differ."""

    UNKNOWN_HERE = "unknown_here"
    """The gateway has a session of ours, and no payment here is its."""
    NOT_STORED = "session_not_stored"
    """The payment here has not heard which session was made for it."""
    SECOND_SESSION = "second_session"
    """The booking has another live payment here, and this session took money or still may."""
    PAID_THERE = "paid_there"
    """PENDING here, paid there."""
    ENDED_THERE = "ended_there"
    """PENDING here, and the session has ended without money."""
    FAILED_PAID = "failed_here_paid_there"
    FAILED_OPEN = "failed_here_open_there"
    """FAILED here, and the session may still take money."""
    NOT_PAID = "completed_here_unpaid_there"
    MONEY_DIFFERS = "money_differs"
    MISSING = "missing_there"
    """The gateway does not know the payment's session: mostly it is another account's."""
    UNREADABLE = "unreadable"
    """How the session stands makes no sense."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One difference with both sides, and what was done about it.

    `done` is what `ToldSessions` made of it; empty where nothing was tried. A difference that is not mended is a
    person's.
    """

    kind: DifferenceKind
    payment: Payment | None
    session: ToldSession | None
    done: str = ""
    is_mended: bool = False


_KINDS: Final[dict[tuple[PaymentStatus, type[Outcome]], DifferenceKind]] = {
    (PaymentStatus.PENDING, Paid): DifferenceKind.PAID_THERE,
    (PaymentStatus.PENDING, Expired): DifferenceKind.ENDED_THERE,
    (PaymentStatus.FAILED, Paid): DifferenceKind.FAILED_PAID,
    (PaymentStatus.FAILED, Open): DifferenceKind.FAILED_OPEN,
    (PaymentStatus.FAILED, Processing): DifferenceKind.FAILED_OPEN,
    (PaymentStatus.COMPLETED, Open): DifferenceKind.NOT_PAID,
    (PaymentStatus.COMPLETED, Processing): DifferenceKind.NOT_PAID,
    (PaymentStatus.COMPLETED, Expired): DifferenceKind.NOT_PAID,
}


def difference(payment: Payment | None, session: ToldSession) -> DifferenceKind | None:
    """How the session differs from its payment, or without one from the booking's; None if it does not."""
    if payment is None:
        return None if _is_over(session) and session.draft is None else DifferenceKind.UNKNOWN_HERE
    if payment.session_id == session.session_id:
        return _own(payment, session)
    if payment.reference == session.reference and payment.is_unopened:
        return DifferenceKind.NOT_STORED
    if _is_over(session):
        return None
    if payment.status is PaymentStatus.FAILED:
        return _KINDS[payment.status, type(session.outcome)]
    return DifferenceKind.SECOND_SESSION


def _is_over(session: ToldSession) -> bool:
    """Whether it takes no money, or nobody knows."""
    return isinstance(session.outcome, Expired | Unknown)


def _own(payment: Payment, session: ToldSession) -> DifferenceKind | None:
    if isinstance(session.outcome, Unknown):
        return DifferenceKind.UNREADABLE
    money = _money(session)
    if money is not None and money != payment.money:
        return DifferenceKind.MONEY_DIFFERS
    return _KINDS.get((payment.status, type(session.outcome)))


def _money(session: ToldSession) -> Money | None:
    return session.outcome.money if isinstance(session.outcome, Paid) else session.money


NEXT: Final = {
    DifferenceKind.UNKNOWN_HERE: "make a payment of it",
    DifferenceKind.NOT_STORED: "store the session",
    DifferenceKind.SECOND_SESSION: "call a person",
    DifferenceKind.PAID_THERE: "complete the payment",
    DifferenceKind.ENDED_THERE: "fail the payment",
    DifferenceKind.FAILED_PAID: "call a person",
    DifferenceKind.FAILED_OPEN: "nothing: at Stripe expire the session, or wait for its money",
    DifferenceKind.NOT_PAID: "nothing: a final status stays, look the session up at Stripe",
    DifferenceKind.MONEY_DIFFERS: "call a person if it is paid",
    DifferenceKind.MISSING: "nothing: is STRIPE_API_KEY of another account or mode?",
    DifferenceKind.UNREADABLE: "nothing: look the session up at Stripe",
}
"""What mending does, or what a person should do."""


def described(found: Difference) -> dict[str, str | int | bool | None]:
    """Both sides in words."""
    said: dict[str, str | int | bool | None] = {"kind": found.kind.value}
    if (session := found.session) is not None:
        money = _money(session)
        said |= {"bookingId": session.booking_id, "transactionId": session.session_id}
        said |= {"there": type(session.outcome).__name__.lower(), "amountThere": None if money is None else str(money)}
    if (payment := found.payment) is not None:
        said |= {"paymentId": payment.id, "bookingId": payment.booking_id, "here": payment.status.value}
        said |= {"amountHere": str(payment.money), "attention": payment.attention}
        said.setdefault("transactionId", payment.session_id)
    mending = NEXT[found.kind]
    if found.payment is None and session is not None and session.draft is None:
        mending = "nothing: it does not say enough for a payment, look the session up at Stripe"
    return said | {"mending": mending, "done": found.done or None, "mended": found.is_mended}


def sentence(found: Difference) -> str:
    """The same for a person, in one line."""
    said = described(found)
    here = "no payment here" if found.payment is None else f"payment {said['paymentId']} is {said['here']}"
    if said.get("attention"):
        here += f", with attention {said['attention']}"
    there = "unknown at Stripe" if found.session is None else f"{said['there']} at Stripe"
    money = " and ".join(dict.fromkeys(str(said[side]) for side in ("amountHere", "amountThere") if said.get(side)))
    done = f"done: {found.done}" if found.done else f"to mend it: {said['mending']}"
    booking = "no booking" if said["bookingId"] is None else f"booking {said['bookingId']}"
    return f"{found.kind}: {booking}, {here}, {said['transactionId']} is {there}, {money}; {done}"
