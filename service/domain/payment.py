"""A payment: one attempt to collect money for one booking."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from service.domain.money import Money

OPENED_WITHIN: Final = timedelta(minutes=4)
"""A session must be made this soon after its payment: later its frozen end lies too near for the gateway."""


class PaymentStatus(StrEnum):
    """PENDING, then COMPLETED or FAILED. The last two are final."""

    PENDING = "PENDING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"

    @property
    def is_final(self) -> bool:
        """Nothing changes this status any more."""
        return self is not PaymentStatus.PENDING


class FailureReason(StrEnum):
    """Why a payment is FAILED."""

    EXPIRED = "expired"
    """The payer did not pay in time, or the booking was checked out anew with other terms."""
    REFUSED = "refused"
    """The gateway refused to make a checkout session."""


class AttentionReason(StrEnum):
    """Why a person must look at a payment."""

    PAID_AFTER_FAILED = "paid_after_failed"
    """Money arrived for a payment that had failed: refund it or honour it."""
    PAID_DIFFERENTLY = "paid_differently"
    """The gateway took another amount, currency or mode, or the money names another payment."""
    UNSETTLED = "unsettled"
    """The settler has tried often and in vain; it goes on trying."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A payment about to be inserted: everything that the gateway will be sent, frozen before it is called.

    `reference` (a UUID) names the payment to the gateway, and its idempotency key is derived from it. `expires_at` is
    when the checkout session shall end. `gateway_request` is the gateway's own form of all this, opaque to us.
    """

    reference: str
    booking_id: int
    user_id: int
    money: Money
    success_url: str
    cancel_url: str
    livemode: bool
    created_at: datetime
    expires_at: datetime
    gateway_request: Mapping[str, Any]

    @property
    def content(self) -> tuple[object, ...]:
        """What makes two creates the same: booking, payer, money and where the payer returns to."""
        return (self.booking_id, self.user_id, self.money, self.success_url, self.cancel_url)


@dataclass(frozen=True, kw_only=True)
class Payment(Draft):
    """A payment as stored.

    `version` counts its changes and is the `sequence` of the event that told the last one. `session_id` (the
    transaction id) and `payment_url` are known once the gateway has made the session. `asked_at` is when the gateway
    was last asked how the session stands, `ask_failed_at` when it was last asked in vain. `settle_attempts` counts how
    often the settler has tried to finish it.
    """

    id: int
    status: PaymentStatus
    version: int
    updated_at: datetime
    reason: str | None = None
    attention: str | None = None
    session_id: str | None = None
    payment_url: str | None = None
    asked_at: datetime | None = None
    ask_failed_at: datetime | None = None
    settle_attempts: int = 0

    def seems_over(self, at: datetime) -> bool:
        """Whether a pending payment can most likely not be paid any more. Only the gateway knows."""
        if self.status.is_final:
            return False
        if self.session_id is None:
            return at - self.created_at > OPENED_WITHIN
        return self.payment_url is None or self.expires_at <= at
