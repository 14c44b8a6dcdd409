"""The typed fault: what a caller gets instead of a reply, and what a dead letter carries as its reason."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from contracts import body
from contracts.body import Record
from contracts.fields import AmountOut, PositiveInt64, Sentence, SessionId


class FaultCode(StrEnum):
    """Every way a command can fail. The bridge gives each its HTTP status."""

    VALIDATION_ERROR = "VALIDATION_ERROR"
    FAILED = "FAILED"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_PAID = "ALREADY_PAID"
    IN_PROGRESS = "IN_PROGRESS"
    NEEDS_ATTENTION = "NEEDS_ATTENTION"
    SUPERSEDED = "SUPERSEDED"
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


def read_fault(content: bytes) -> Fault:
    """A fault as its reader understands it: of a newer release's code, `retryable` is all that counts.

    Raises:
        InvalidBodyError: it is none.
    """
    document = body.read_object(content)
    if isinstance(code := document.get("code"), str) and code not in set(FaultCode):
        retryable = document.get("retryable") is True
        document["code"] = FaultCode.SERVICE_UNAVAILABLE if retryable else FaultCode.INTERNAL_ERROR
    return body.read_known(Fault, document)


class DeadLetterReason(StrEnum):
    """Why the service dead-lettered a command: the header `x-reason`."""

    INVALID = "invalid"
    """The body or the envelope cannot be understood."""
    UNKNOWN_TYPE = "unknown-type"
    """The `type` is none of this queue's commands."""
    MISROUTED = "misrouted"
    """A command for another queue, which a binding brought here that should not be there. No fault is sent: its sender
    waits for the other queue's answer."""
    TOO_LARGE = "too-large"
    """Over `MAX_MESSAGE_BYTES`; dead-lettered unparsed."""
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
