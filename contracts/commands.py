"""The three commands. Their JSON is the same over REST and over RabbitMQ."""

from enum import StrEnum

from contracts.body import Record
from contracts.fields import AmountIn, Currency, PositiveInt64, SessionId, Url


class CommandType(StrEnum):
    """A command's `type` property, which is also its routing key."""

    CREATE_CHECKOUT = "checkout.create"
    VERIFY_CHECKOUT = "checkout.verify"
    PAYMENT_STATUS = "payment.status"


class CreateCheckout(Record):
    """Start a payment for a booking. An optional member that is null is absent."""

    booking_id: PositiveInt64
    user_id: PositiveInt64
    amount: AmountIn
    currency: Currency | None = None
    success_url: Url | None = None
    cancel_url: Url | None = None


class VerifyCheckout(Record):
    """Ask the gateway how a checkout session stands."""

    session_id: SessionId


class GetPaymentStatus(Record):
    """Read a payment from the database alone."""

    transaction_id: SessionId


Command = CreateCheckout | VerifyCheckout | GetPaymentStatus

COMMANDS: dict[CommandType, type[Command]] = {
    CommandType.CREATE_CHECKOUT: CreateCheckout,
    CommandType.VERIFY_CHECKOUT: VerifyCheckout,
    CommandType.PAYMENT_STATUS: GetPaymentStatus,
}
