"""The answers to the three commands. Their JSON is the same over REST and over RabbitMQ."""

from enum import StrEnum
from typing import Literal

from contracts.body import Record
from contracts.fields import AmountOut, PositiveInt64, Sentence, SessionId


class PaymentStatus(StrEnum):
    """A payment's status; the last two are final."""

    PENDING = "PENDING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


class StatusSource(StrEnum):
    """Where a verify's answer comes from: `local` means that Stripe could not be asked."""

    GATEWAY = "gateway"
    LOCAL = "local"


class CheckoutSession(Record):
    """Answer to `checkout.create`."""

    session_id: SessionId
    """Stripe's checkout session id, the payment's `transactionId`."""
    payment_url: str
    """The page on which the payer pays."""
    booking_id: PositiveInt64
    amount: AmountOut
    """Major units."""
    status: Literal["pending"] = "pending"
    message: Sentence
    expires_at: int
    """The end of the time to pay, unix seconds."""


class PaymentState(Record):
    """Answer to `checkout.verify` and `payment.status`."""

    payment_id: PositiveInt64
    booking_id: PositiveInt64
    payment_status: PaymentStatus
    """COMPLETED and FAILED are final: the same answer for ever."""
    transaction_id: SessionId
    """Stripe's checkout session id."""
    amount: AmountOut
    """Major units."""
    message: Sentence
