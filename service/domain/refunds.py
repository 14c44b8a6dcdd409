"""What happens to a payment after it was paid: refunds and disputes. Its status stays as it is."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from service.domain.money import Money, exponent
from service.domain.payment import Payment
from service.domain.status import Change, ChangeKind

CLOSED: Final = frozenset({"won", "lost", "warning_closed", "prevented"})
"""The states in which a dispute ends."""
_LIFE: Final = ("warning_needs_response", "warning_under_review", "needs_response", "under_review")
"""A dispute's states before its end, in their order, which decides between two of one second."""
_UNTOLD: Final = datetime.min.replace(tzinfo=UTC)
"""For a journal line from before the gateway's time was kept."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """The gateway's event, and when the gateway made it: exact to the second, by its own clock."""

    event: str
    at: datetime

    @property
    def evidence(self) -> dict[str, str]:
        """As in the journal's other lines."""
        return {"gateway_event": self.event, "gateway_event_at": self.at.isoformat()}


class RefundStatus(StrEnum):
    """Whose the money of a refund is. FAILED and CANCELED are in the journal by these names."""

    OPEN = "open"
    """Nothing has been sent: the payer must do something first."""
    STANDS = "stands"
    """The payer has the money, or gets it."""
    FAILED = "failed"
    """The payer's bank sent the money back."""
    CANCELED = "canceled"
    """The merchant took the refund back."""


@dataclass(frozen=True, kw_only=True)
class Refund:
    """One refund, as the gateway tells it."""

    id: str
    minor: int
    status: RefundStatus

    @property
    def has_failed(self) -> bool:
        """The money is the merchant's again, for good."""
        return self.status in {RefundStatus.FAILED, RefundStatus.CANCELED}

    @property
    def stands(self) -> bool:
        """The payer has the money, or gets it."""
        return self.status is RefundStatus.STANDS


@dataclass(frozen=True, kw_only=True)
class Dispute:
    """The payer's bank demands money back. `status` and `reason` are the gateway's words."""

    id: str
    status: str
    reason: str
    minor: int


@dataclass(frozen=True, kw_only=True)
class _Total:
    """What the gateway said was refunded in all."""

    minor: int
    at: datetime
    part: str | None


@dataclass(frozen=True, kw_only=True)
class _Failure:
    id: str
    minor: int
    at: datetime


def refunded(
    payment: Payment,
    total_minor: int,
    earlier: Iterable[Mapping[str, Any]],
    *,
    is_whole: bool,
    refunds: Iterable[Refund] = (),
    told: Told,
    at: datetime,
) -> Change | None:
    """So much was refunded in all, `is_whole` if nothing of it is left; None if as much is known.

    `earlier`: the details of the payment's journal. `refunds`: those of the payment that were told of late, by their
    ids. Refunds that failed since the gateway said so are taken off.
    """
    totals, failures = _refunds(payment, earlier)
    total = _Total(minor=total_minor, at=told.at, part="whole" if is_whole else "part")
    stands, part = _standing(payment, [*totals, total], failures, refunds)
    if stands <= payment.refunded_minor:
        return None
    detail = {"refunded": _text(payment, stands - payment.refunded_minor)}
    if stands != total_minor:
        detail["total"] = _text(payment, total_minor)
    return _refund_change(payment, detail, stands, part, told=told, at=at)


def refund_stands(
    payment: Payment,
    refund: Refund,
    earlier: Iterable[Mapping[str, Any]],
    *,
    refunds: Iterable[Refund],
    told: Told,
    at: datetime,
) -> Change | None:
    """This refund stands although another one of the payment has failed; None if as much is known."""
    stands, part = _standing(payment, *_refunds(payment, earlier), refunds)
    if stands <= payment.refunded_minor:
        return None
    detail = {"refund": refund.id, "refunded": _text(payment, stands - payment.refunded_minor)}
    return _refund_change(payment, detail, stands, part, told=told, at=at)


def refund_failed(
    payment: Payment,
    refund: Refund,
    earlier: Iterable[Mapping[str, Any]],
    *,
    refunds: Iterable[Refund] = (),
    told: Told,
    at: datetime,
) -> Change | None:
    """The money of one refund is back; None if that is known. A total that was told later knows it already."""
    totals, failures = _refunds(payment, earlier)
    if any(each.id == refund.id for each in failures):
        return None
    failures.append(_Failure(id=refund.id, minor=refund.minor, at=told.at))
    stands, part = _standing(payment, totals, failures, refunds)
    detail = {"refund": refund.id, "failed": _text(payment, refund.minor), "status": refund.status}
    return _refund_change(payment, detail, stands, part, told=told, at=at)


def _refund_change(
    payment: Payment, detail: dict[str, str], stands: int, part: str, *, told: Told, at: datetime
) -> Change:
    detail |= {"of": str(payment.money), "in_all": _text(payment, stands), "part": part, **told.evidence}
    changed = replace(payment, version=payment.version + 1, updated_at=at, refunded_minor=stands)
    return Change(payment=changed, kind=ChangeKind.REFUNDED, detail=detail)


def _refunds(payment: Payment, earlier: Iterable[Mapping[str, Any]]) -> tuple[list[_Total], list[_Failure]]:
    totals, failures = list[_Total](), list[_Failure]()
    for detail in earlier:
        if "in_all" not in detail:
            continue
        at = _told_at(detail)
        if "failed" in detail:
            failures.append(_Failure(id=str(detail["refund"]), minor=_minor(payment, detail["failed"]), at=at))
        elif "refund" not in detail:  # the sum of single refunds is no total of the gateway's
            minor = _minor(payment, detail.get("total", detail["in_all"]))
            # The line's part is that of what stood.
            part = None if "total" in detail else str(detail.get("part"))
            totals.append(_Total(minor=minor, at=at, part=part))
    return totals, failures


def _standing(
    payment: Payment, totals: Sequence[_Total], failures: Sequence[_Failure], refunds: Iterable[Refund]
) -> tuple[int, str]:
    """What stands refunded, and whether that is the whole.

    The gateway's total is of its moment and without what had failed by then. Less the failures since, each total is the
    least that can stand, so in whatever order they are heard the greatest is right. Of one second nobody knows what
    was first: then the single refunds that have not failed are the least that can stand.
    """
    failed = {each.id for each in failures}
    stands = sum(each.minor for each in refunds if each.stands and each.id not in failed)
    for total in totals:
        stands = max(stands, total.minor - sum(each.minor for each in failures if each.at >= total.at))
    if not stands:
        return 0, "none"
    if any(total.minor > stands for total in totals):
        return stands, "part"
    said = [total.part for total in totals if total.minor == stands and total.part is not None]
    return stands, said[-1] if said else "whole" if stands >= payment.money.minor else "part"


def disputed(
    payment: Payment, dispute: Dispute, earlier: Iterable[Mapping[str, Any]], *, told: Told, at: datetime
) -> Change | None:
    """How a dispute stands; None if that is known, or older than what is.

    `earlier`: the details of the payment's journal, which may hold several disputes. Of several the payment shows the
    last one that is open, else the last.
    """
    latest: dict[str, Mapping[str, Any]] = {}
    for detail in earlier:
        if "dispute" in detail:
            latest[str(detail["dispute"])] = detail
    if (known := latest.pop(dispute.id, None)) is not None:
        status, known_at = str(known.get("status")), _told_at(known)
        is_older = _rank(dispute.status) <= _rank(status) if known_at in {told.at, _UNTOLD} else told.at < known_at
        if status == dispute.status or is_older:
            return None
    detail = {
        "dispute": dispute.id,
        "status": dispute.status,
        "reason": dispute.reason,
        "money": _text(payment, dispute.minor),
        **told.evidence,
    }
    still_open = [status for each in latest.values() if (status := str(each.get("status"))) not in CLOSED]
    shown = still_open[-1] if dispute.status in CLOSED and still_open else dispute.status
    changed = replace(payment, version=payment.version + 1, updated_at=at, dispute=shown)
    return Change(payment=changed, kind=ChangeKind.DISPUTED, detail=detail)


def _rank(status: str) -> int:
    if status in CLOSED:
        return len(_LIFE)
    return _LIFE.index(status) if status in _LIFE else -1


def _told_at(detail: Mapping[str, Any]) -> datetime:
    at = detail.get("gateway_event_at")
    return _UNTOLD if at is None else datetime.fromisoformat(at)


def _text(payment: Payment, minor: int) -> str:
    return str(Money(minor, payment.money.currency))


def _minor(payment: Payment, money: Any) -> int:
    """The minor units of money as the journal has it: `12.50 INR`."""
    return int(Decimal(str(money).split()[0]).scaleb(exponent(payment.money.currency)))
