"""Every error of the payment service, on one page.

An error says what became of a command. With a reply address it is always answered as a typed fault. Without one, the
command is retried later if the error `is_transient`, and dead-lettered for any other.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class PaymentRef:
    """What a caller may know about the payment that an error concerns. `amount` is in major units."""

    id: int
    booking_id: int
    session_id: str | None
    amount: Decimal


class PaymentServiceError(Exception):
    """The base class of all errors.

    `code` is the fault's code for callers, `message` a plain sentence that an end user may read, `payment` what is
    known about the payment concerned.
    """

    code: ClassVar[str] = "INTERNAL_ERROR"
    retryable: ClassVar[bool] = False
    retry_after_seconds: int | None = None
    retried_for_ever: ClassVar[bool] = False
    """Whether a fire-and-forget command is never dead-lettered for it, because it says nothing about the command."""
    default_message: ClassVar[str] = "Something went wrong on our side. Please try again."

    def __init__(
        self, message: str | None = None, *, payment: PaymentRef | None = None, retry_after_seconds: int | None = None
    ) -> None:
        self.message = message or self.default_message
        self.payment = payment
        self.retry_after_seconds = retry_after_seconds or self.retry_after_seconds
        super().__init__(self.message)

    @property
    def is_transient(self) -> bool:
        """Whether another attempt may succeed: after a `retryable` error, and after an unexpected one as well."""
        return self.retryable or self.code == PaymentServiceError.code


# Caused by the caller


class InvalidRequestError(PaymentServiceError):
    """The request breaks a rule; the message names the field."""

    code = "VALIDATION_ERROR"
    default_message = "The request is not valid."


class PaymentNotFoundError(PaymentServiceError):
    """No payment has this transaction id."""

    code = "NOT_FOUND"
    default_message = "No payment with this id was found."


class AlreadyPaidError(PaymentServiceError):
    """The booking has a COMPLETED payment."""

    code = "ALREADY_PAID"
    default_message = "This booking has already been paid."


class PaymentFailedError(PaymentServiceError):
    """The gateway refused the payment for good, or the idempotency key belongs to a payment that has failed."""

    code = "FAILED"
    default_message = "The payment was refused. Please check the booking and try again."


class CreateInProgressError(PaymentServiceError):
    """Another create for the booking is in progress."""

    code = "IN_PROGRESS"
    retryable = True
    retry_after_seconds = 1
    default_message = "A checkout for this booking is being prepared. Please try again in a moment."


class NeedsAttentionError(PaymentServiceError):
    """A payment of the booking can only be moved on by a person; no checkout is handed out before that."""

    code = "NEEDS_ATTENTION"
    default_message = "We have to look at an earlier payment of this booking first. Please do not pay again."


class SupersededError(PaymentServiceError):
    """The booking has a checkout with other terms, made after this create was first sent: the newer one stays."""

    code = "SUPERSEDED"
    default_message = "A newer checkout of this booking exists. Please use that one, or start a new one."


class IdempotencyKeyReusedError(PaymentServiceError):
    """The caller used the idempotency key before with other content."""

    code = "IDEMPOTENCY_KEY_REUSED"
    default_message = "This idempotency key was used before for a different request."


class MessageIdReusedError(PaymentServiceError):
    """The message id was used before with other content: not a redelivery, so it is unknown what the sender means."""

    code = "VALIDATION_ERROR"
    default_message = "This message id was used before for a different command."


# Caused by the gateway


class GatewayFailedError(PaymentServiceError):
    """The gateway failed or could not be reached. The outcome of the call is not known; repeating is safe."""

    code = "GATEWAY_ERROR"
    retryable = True
    default_message = "The payment provider had a problem. Please try again."


class GatewayDeniedError(GatewayFailedError):
    """The gateway refuses the API key, for every call, until an operator acts. Nothing was executed."""

    retried_for_ever = True


class GatewayMisconfiguredError(GatewayFailedError):
    """The gateway refuses what we send for a reason of ours, until an operator acts. Nothing was executed."""

    retried_for_ever = True


class GatewayBusyError(PaymentServiceError):
    """No call is possible now: the gateway throttles the service, or earlier callers use all that it allows."""

    code = "SERVICE_UNAVAILABLE"
    retryable = True
    retry_after_seconds = 2
    retried_for_ever = True
    default_message = "The payment provider cannot take this just now. Please try again in a moment."


class OutcomeUnknownError(PaymentServiceError):
    """The gateway did not answer in time. The payment stays as it is; repeating is safe."""

    code = "DEADLINE_EXCEEDED"
    retryable = True
    default_message = "The payment provider did not answer in time. Please try again."


# Caused by the service itself


class StoreUnavailableError(PaymentServiceError):
    """The database cannot be used at the moment. The failed transaction kept nothing, or that is not known."""

    code = "SERVICE_UNAVAILABLE"
    retryable = True
    retry_after_seconds = 2
    retried_for_ever = True
    default_message = "The payment service is busy. Please try again in a moment."


class StoreRefusedError(StoreUnavailableError):
    """The database answers and refuses the data of this one statement, which may never succeed."""

    retried_for_ever = False


class SearchTooLongError(StoreUnavailableError):
    """The database works, and ended a search of an operator's: too much has to be read for it."""


class ConcurrentChangeError(PaymentServiceError):
    """Another worker changed the payment first. Load it again and decide anew."""

    code = "IN_PROGRESS"
    retryable = True
    retry_after_seconds = 1
    default_message = CreateInProgressError.default_message


class IllegalTransitionError(PaymentServiceError):
    """The status table has no such transition. The model of the gateway is wrong; a person must look."""
