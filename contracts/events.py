"""Payment events: CloudEvents 1.0, structured JSON, each with the whole new state of one payment."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import Field

from contracts.body import Record
from contracts.fields import AmountOut, PositiveInt64, SessionId
from contracts.replies import PaymentStatus

CONTENT_TYPE: Final = "application/cloudevents+json"


class EventKey(StrEnum):
    """Routing keys on `payments.events`."""

    PENDING = "payment.pending"
    COMPLETED = "payment.completed"
    FAILED = "payment.failed"
    ATTENTION = "payment.attention"
    REFUNDED = "payment.refunded"
    DISPUTED = "payment.disputed"

    @property
    def event_type(self) -> str:
        """The CloudEvents `type`, for example `com.bookticket.payment.completed.v1`."""
        return f"com.bookticket.{self.value}.v1"


class PaymentSnapshot(Record):
    """The whole state of a payment after a change.

    Null is what is not known or does not apply; no member is ever left out.
    """

    payment_id: PositiveInt64
    booking_id: PositiveInt64
    user_id: PositiveInt64
    """Who pays."""
    transaction_id: SessionId | None
    """Stripe's checkout session id; null if no session was ever opened."""
    amount: AmountOut
    """Major units."""
    amount_minor: int
    """The same in minor units: 449.97 INR is 44997."""
    currency: Annotated[str, Field(pattern="^[a-z]{3}$")]
    """ISO 4217, lower case."""
    status: PaymentStatus
    reason: str | None
    """Why a payment failed (`expired`, `replaced`, `refused`, `closed`), or what a person must look at
    (`paid_after_failed`, `paid_differently`, `unsettled`, `unknown_session`; `closed`: one has); of a refund `whole` or
    `part`, or `none` when all of it has failed; of a dispute the bank's reason (`fraudulent` …)."""
    payment_url: str | None
    """The payment page, while the payment is pending."""
    occurred_at: datetime
    sequence: PositiveInt64
    """Counts a payment's events, gapless, from 1: order by it."""
    refunded_amount: AmountOut | None = None
    """What stands refunded in all, in major units: less than before when a refund has failed. Null if nothing does.
    The status stays COMPLETED."""
    refunded_amount_minor: int | None = None
    """The same in minor units, but 0 in the `payment.refunded` that tells that nothing stands any more."""
    dispute_status: str | None = None
    """How the last dispute stands, in Stripe's words (`needs_response`, `under_review`, `won`, `lost` …); null if
    there was none."""


class PaymentEvent(Record):
    """A CloudEvent. Delivered at least once, always with the same bytes: drop an `id` that you have seen."""

    specversion: Literal["1.0"] = "1.0"
    id: str
    """A UUID, also the message's `message_id`: drop one that you have seen."""
    source: Literal["/bookticket/payment-service"] = "/bookticket/payment-service"
    type: str
    subject: str
    """The payment id."""
    time: datetime
    """When the payment changed."""
    datacontenttype: Literal["application/json"] = "application/json"
    data: PaymentSnapshot
