"""The error body that HTTP callers see. Legacy REST names end here.

Requests and answers themselves are `contracts.commands` and `contracts.replies`: the same JSON as over RabbitMQ.
"""

from typing import Final

from contracts.body import Record
from contracts.fields import AmountOut, Sentence

BASE_PATH: Final = "/api/v1/internal/payments"
RETRY_AFTER_PENDING_SECONDS: Final = 2
"""What a PENDING answer suggests; the Booking Service polls at this pace."""


class Problem(Record):
    """The Java service's error body (first six members) and RFC 9457's problem details in one."""

    payment_id: int | None
    booking_id: int | None
    payment_status: str
    """The error code."""
    transaction_id: str | None
    amount: AmountOut | None
    message: Sentence
    type: str
    """`urn:bookticket:payment:problem:` and the error code."""
    title: str
    status: int
    """The HTTP status."""
    detail: str
    instance: str
    """`urn:bookticket:payment:request:` and the request id."""
    request_id: str
    retryable: bool
    """Whether the very same request may succeed later; repeating it is then safe."""
