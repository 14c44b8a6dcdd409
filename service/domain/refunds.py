"""What happens to a payment after it was paid: refunds and disputes. Its status stays as it is."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from service.domain.money import Money
from service.domain.payment import Payment
from service.domain.status import Change, ChangeKind

CLOSED: Final = frozenset({"won", "lost", "warning_closed", "prevented"})
"""The states in which a dispute ends."""


@dataclass(frozen=True, kw_only=True)
class Dispute:
    """The payer's bank demands money back. `status` and `reason` are the gateway's words."""

    id: str
    status: str
    reason: str
    minor: int


def refunded(payment: Payment, total_minor: int, *, is_whole: bool, at: datetime) -> Change | None:
    """So much was refunded in all, `is_whole` if nothing of it is left; None if as much is known."""
    if total_minor <= payment.refunded_minor:
        return None
    currency = payment.money.currency
    detail = {
        "refunded": str(Money(total_minor - payment.refunded_minor, currency)),
        "of": str(payment.money),
        "in_all": str(Money(total_minor, currency)),
        "part": "whole" if is_whole else "part",
    }
    changed = replace(payment, version=payment.version + 1, updated_at=at, refunded_minor=total_minor)
    return Change(payment=changed, kind=ChangeKind.REFUNDED, detail=detail)


def disputed(
    payment: Payment, dispute: Dispute, earlier: Iterable[Mapping[str, Any]], *, at: datetime
) -> Change | None:
    """How a dispute stands; None if that is known, or is older than its known end.

    `earlier`: the details of the payment's journal, which may hold several disputes.
    """
    known = {str(detail.get("status")) for detail in earlier if detail.get("dispute") == dispute.id}
    if dispute.status in known or known & CLOSED:
        return None
    detail = {
        "dispute": dispute.id,
        "status": dispute.status,
        "reason": dispute.reason,
        "money": str(Money(dispute.minor, payment.money.currency)),
    }
    changed = replace(payment, version=payment.version + 1, updated_at=at, dispute=dispute.status)
    return Change(payment=changed, kind=ChangeKind.DISPUTED, detail=detail)
