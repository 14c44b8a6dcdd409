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
    """What is paid for."""
    user_id: PositiveInt64
    """Who pays."""
    amount: AmountIn
    """Major units, a number or a decimal string. Noise of binary floats is forgiven (449.97000000000003 means 449.97),
    a true extra decimal is refused. The currency's own rules and limits are Stripe's."""
    currency: Currency | None = None
    """ISO 4217, either case; the service's default (`inr`) if absent."""
    success_url: Url | None = None
    """Where the payer goes after paying; on an allowed origin. Stripe fills in `{CHECKOUT_SESSION_ID}`,
    spelt exactly so."""
    cancel_url: Url | None = None
    """Where the payer goes who gives up; on an allowed origin. Nothing is filled in there."""


class VerifyCheckout(Record):
    """Ask the gateway how a checkout session stands."""

    session_id: SessionId
    """Stripe's checkout session id, the payment's `transactionId`."""


class GetPaymentStatus(Record):
    """Read a payment from the database alone."""

    transaction_id: SessionId
    """Stripe's checkout session id."""


Command = CreateCheckout | VerifyCheckout | GetPaymentStatus

COMMANDS: dict[CommandType, type[Command]] = {
    CommandType.CREATE_CHECKOUT: CreateCheckout,
    CommandType.VERIFY_CHECKOUT: VerifyCheckout,
    CommandType.PAYMENT_STATUS: GetPaymentStatus,
}
