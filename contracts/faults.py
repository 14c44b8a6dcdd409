"""The typed fault: what a caller gets instead of a reply, and what a dead letter carries as its reason."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from contracts.body import Record
from contracts.fields import AmountOut, PositiveInt64, Sentence, SessionId


class FaultCode(StrEnum):
    """Every way a command can fail. The bridge gives each its HTTP status."""

    VALIDATION_ERROR = "VALIDATION_ERROR"
    FAILED = "FAILED"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_PAID = "ALREADY_PAID"
    IN_PROGRESS = "IN_PROGRESS"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
    GATEWAY_ERROR = "GATEWAY_ERROR"
    SERVICE_UNAVAILABLE = "SERVICE_UNAVAILABLE"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    INTERNAL_ERROR = "INTERNAL_ERROR"


class Fault(Record):
    """Why a command was not done.

    What is known of the payment comes along; a member that is not known is left out.
    """

    code: FaultCode
    message: Sentence
    retryable: bool
    """Whether the very same command may succeed later; repeating it is then safe."""
    retry_after_seconds: Annotated[int, Field(ge=1)] | None = None
    """When a repeat makes sense."""
    payment_id: PositiveInt64 | None = None
    booking_id: PositiveInt64 | None = None
    transaction_id: SessionId | None = None
    amount: AmountOut | None = None


class DeadLetterReason(StrEnum):
    """Header `x-reason` of a dead letter that the service parked."""

    INVALID = "invalid"
    """The body or the envelope cannot be understood."""
    UNKNOWN_TYPE = "unknown-type"
    """The `type` is none of this queue's commands."""
    TOO_LARGE = "too-large"
    """Over `MAX_MESSAGE_BYTES`; parked unparsed."""
    ID_CONFLICT = "id-conflict"
    """The `message_id` was used before with another body."""
    UNAUTHORIZED = "unauthorized"
    """Its sender (`user_id`) is none of those whose commands this service executes."""
    EXPIRED = "expired"
    """The caller's deadline had passed."""
    REFUSED = "refused"
    """A fire-and-forget command that can never succeed; `x-fault-code` says why."""
    EXHAUSTED = "exhausted"
    """A fire-and-forget command that failed for passing reasons as often as is allowed."""
