"""What becomes of money at the gateway after it was paid."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from service.domain.refunds import Dispute, Refund, Told


@dataclass(frozen=True, kw_only=True)
class ChargeEvent:
    """One event about money that was paid: what was refunded in all, or one refund, or a dispute.

    `at` is when it was created, exact to the second. `reference` is that of our payment, if the event tells it;
    `payment_intent` is the gateway's name for what was paid. `refunded_minor` is all that was refunded so far,
    `is_whole` whether that is all that was taken, which need not be what was asked for.
    """

    id: str
    at: datetime
    reference: str | None
    payment_intent: str | None
    refunded_minor: int = 0
    is_whole: bool = False
    refund: Refund | None = None
    dispute: Dispute | None = None

    @property
    def told(self) -> Told:
        """For the journal."""
        return Told(event=self.id, at=self.at)


@dataclass(frozen=True, kw_only=True)
class ChargePage:
    """One page, newest event first; `next` as in `EventPage`."""

    events: Sequence[ChargeEvent]
    next: str | None
