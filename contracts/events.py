"""Payment events: CloudEvents 1.0, structured JSON, each with the whole new state of one payment."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import Field

from contracts.body import Record
from contracts.fields import AmountOut, PositiveInt64, SessionId
from contracts.replies import PaymentStatus

CONTENT_TYPE: Final = "application/cloudevents+json"
SOURCE: Final = "/bookticket/payment-service"


class EventKey(StrEnum):
    """Routing keys on `payments.events`."""

    PENDING = "payment.pending"
    COMPLETED = "payment.completed"
    FAILED = "payment.failed"
    ATTENTION = "payment.attention"

    @property
    def event_type(self) -> str:
        """The CloudEvents `type`, for example `com.bookticket.payment.completed.v1`."""
        return f"com.bookticket.{self.value}.v1"


class PaymentSnapshot(Record):
    """The whole state of a payment after a change.

    `amount` is in major units, `amount_minor` in minor ones. `payment_url` is given while the payment is pending.
    `reason` says why a payment failed, or what a person must look at. `sequence` counts a payment's events, gapless,
    from 1: order by it.
    """

    payment_id: PositiveInt64
    booking_id: PositiveInt64
    user_id: PositiveInt64
    transaction_id: SessionId | None
    amount: AmountOut
    amount_minor: int
    currency: Annotated[str, Field(pattern="^[a-z]{3}$")]
    status: PaymentStatus
    reason: str | None
    payment_url: str | None
    occurred_at: datetime
    sequence: PositiveInt64


class PaymentEvent(Record):
    """A CloudEvent. Delivered at least once, always with the same bytes: drop an `id` that you have seen."""

    specversion: Literal["1.0"] = "1.0"
    id: str
    source: Literal["/bookticket/payment-service"] = "/bookticket/payment-service"
    type: str
    subject: str
    time: datetime
    datacontenttype: Literal["application/json"] = "application/json"
    data: PaymentSnapshot
