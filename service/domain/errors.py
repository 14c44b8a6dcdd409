"""Every error of the payment service, on one page.

An error says what became of a command; how it is told depends on who waits for it. With a reply address it is always
answered as a typed fault. Without one, a `retryable` error means that the command comes again later and any other one
that it is parked as a dead letter.
"""

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from service.domain.payment import Payment


class PaymentServiceError(Exception):
    """The base of them all.

    `code` is the fault's code for callers, `message` a plain sentence that an end user may read, `payment` what is
    known of the payment concerned.
    """

    code: ClassVar[str] = "INTERNAL_ERROR"
    retryable: ClassVar[bool] = False
    retry_after_seconds: int | None = None
    retried_for_ever: ClassVar[bool] = False
    """Whether a fire-and-forget command is never parked for it: it says nothing of the command."""
    default_message: ClassVar[str] = "Something went wrong on our side. Please try again."

    def __init__(self, message: str | None = None, *, payment: "Payment | None" = None) -> None:
        self.message = message or self.default_message
        self.payment = payment
        super().__init__(self.message)


# What the caller did


class InvalidRequestError(PaymentServiceError):
    """The request breaks a rule of ours; the message names the field."""

    code = "VALIDATION_ERROR"
    default_message = "The request is not valid."


class PaymentNotFoundError(PaymentServiceError):
    """No payment here has this transaction id."""

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
    """Another create for the booking is being worked on at this moment."""

    code = "IN_PROGRESS"
    retryable = True
    retry_after_seconds = 1
    default_message = "A checkout for this booking is being prepared. Please try again in a moment."


class IdempotencyKeyReusedError(PaymentServiceError):
    """The caller's idempotency key came before with other content."""

    code = "IDEMPOTENCY_KEY_REUSED"
    default_message = "This idempotency key was used before for a different request."


class MessageIdReusedError(PaymentServiceError):
    """The message id came before with other content: not a redelivery, so nobody knows what the sender means."""

    code = "VALIDATION_ERROR"
    default_message = "This message id was used before for a different command."


# What the gateway did


class GatewayFailedError(PaymentServiceError):
    """The gateway failed or could not be reached. What became of the call is not known; repeating is safe."""

    code = "GATEWAY_ERROR"
    retryable = True
    default_message = "The payment provider had a problem. Please try again."


class GatewayDeniedError(GatewayFailedError):
    """The gateway refuses our key until an operator acts, whatever is asked. Nothing was executed."""

    retried_for_ever = True


class GatewayBusyError(PaymentServiceError):
    """No call now: the gateway asked us to slow down, or those who came before take all that it allows."""

    code = "SERVICE_UNAVAILABLE"
    retryable = True
    retry_after_seconds = 2
    retried_for_ever = True
    default_message = "The payment provider is busy. Please try again in a moment."

    def __init__(self, *, payment: "Payment | None" = None, retry_after_seconds: int | None = None) -> None:
        super().__init__(payment=payment)
        if retry_after_seconds is not None:
            self.retry_after_seconds = retry_after_seconds


class OutcomeUnknownError(PaymentServiceError):
    """The gateway did not answer in time. The payment stays as it is; repeating is safe."""

    code = "DEADLINE_EXCEEDED"
    retryable = True
    default_message = "The payment provider did not answer in time. Please try again."


# What our own parts did


class StoreUnavailableError(PaymentServiceError):
    """The database cannot be used at the moment. Nothing of the failed transaction was kept, or it is not known."""

    code = "SERVICE_UNAVAILABLE"
    retryable = True
    retry_after_seconds = 2
    retried_for_ever = True
    default_message = "The payment service is busy. Please try again in a moment."


class StoreRefusedError(StoreUnavailableError):
    """The database answers, and refuses what this one statement holds; that need not pass."""

    retried_for_ever = False


class ConcurrentChangeError(PaymentServiceError):
    """Another worker changed the payment first. Read it again and decide anew."""

    code = "IN_PROGRESS"
    retryable = True
    retry_after_seconds = 1
    default_message = CreateInProgressError.default_message


class IllegalTransitionError(PaymentServiceError):
    """The status table has no such step. Our understanding of the gateway is wrong; a person must look."""
