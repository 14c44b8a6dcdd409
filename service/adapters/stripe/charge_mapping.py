"""Stripe's events of refunds and disputes in our words: pure functions.

Sources: Stripe's "Charge" object (`amount_refunded` is what was refunded in all, `refunded` whether nothing is left;
its metadata is a copy of the PaymentIntent's, which we write) and its "Refund" and "Dispute" objects, which have
metadata of their own and name the PaymentIntent.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from service.adapters.stripe.outcome_mapping import integer, members, moment, optional, reference, subject, text
from service.application.ports import ChargeEvent, ChargePage
from service.domain.outcomes import Unknown
from service.domain.refunds import Dispute, Refund, RefundStatus

_REFUND: Final = {
    "pending": RefundStatus.STANDS,
    "succeeded": RefundStatus.STANDS,
    "failed": RefundStatus.FAILED,
    "canceled": RefundStatus.CANCELED,
}
"""Any other status, such as `requires_action`, decides nothing yet."""
_WORD: Final = re.compile(r"[a-z_]{1,40}")
"""Stripe's enumerations. Anything else is no word of Stripe's."""


def of_events(answer: Mapping[str, Any]) -> ChargePage | Unknown:
    """The page of a list of events."""
    listed = members(answer)
    if isinstance(listed, Unknown):
        return listed
    entries, after = listed
    events = [each for each in map(_event, entries) if each is not None]
    return ChargePage(events=events, next=after)


def _event(event: Mapping[str, Any]) -> ChargeEvent | None:
    """None if it has a shape that we cannot read."""
    told = subject(event)
    if not isinstance(told, Mapping):
        return None
    try:
        made = ChargeEvent(
            id=text(event.get("id")),
            at=moment(event.get("created")),
            reference=reference(told),
            payment_intent=optional(told.get("payment_intent")),
        )
        match told.get("object"):
            case "dispute":
                return replace(made, dispute=_dispute(told))
            case "refund":
                return replace(made, reference=None, refund=_refund(told))
        total = integer(told.get("amount_refunded"))
        return replace(made, refunded_minor=total, is_whole=told.get("refunded") is True)
    except (ValueError, OverflowError, OSError):
        return None


def _refund(told: Mapping[str, Any]) -> Refund:
    status = _REFUND.get(_word(told.get("status")), RefundStatus.OPEN)
    return Refund(id=text(told.get("id")), minor=integer(told.get("amount")), status=status)


def _dispute(told: Mapping[str, Any]) -> Dispute:
    return Dispute(
        id=text(told.get("id")),
        status=_word(told.get("status")),
        reason=_word(told.get("reason")),
        minor=integer(told.get("amount")),
    )


def _word(value: Any) -> str:
    return value if isinstance(value, str) and _WORD.fullmatch(value) else "other"
