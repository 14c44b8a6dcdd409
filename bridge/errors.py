"""Every refusal of a request. `problems` turns each into an HTTP answer."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from contracts.faults import Fault, FaultCode


class BridgeCode(StrEnum):
    """Codes of the bridge's own errors, beside the service's `FaultCode`."""

    UNAUTHORIZED = "UNAUTHORIZED"
    FORBIDDEN = "FORBIDDEN"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    REQUEST_TIMEOUT = "REQUEST_TIMEOUT"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE"
    RATE_LIMITED = "RATE_LIMITED"
    HEADERS_TOO_LARGE = "HEADERS_TOO_LARGE"
    NOT_IMPLEMENTED = "NOT_IMPLEMENTED"
    BAD_REPLY = "BAD_REPLY"


Code = FaultCode | BridgeCode


@dataclass(frozen=True, kw_only=True, eq=False)
class Refusal:
    """How a request is refused.

    `message` is one sentence that an end user may read and repeats nothing of the request. `retryable`: the same
    request may succeed later, and repeating it is safe. `closes_connection`: the rest of the request was not read, so
    its connection cannot be used further. `challenge`: how to authenticate (RFC 9110 §11.6.1).
    `accept_encoding`: the content codings that would have been accepted.
    """

    code: Code
    message: str
    retryable: bool = False
    retry_after_seconds: int | None = None
    closes_connection: bool = False
    allow: str | None = None
    accept_encoding: str | None = None
    challenge: str | None = None
    fault: Fault | None = None


class BridgeError(Exception):
    """A request is refused."""

    def __init__(self, refusal: Refusal, **changes: Any) -> None:
        """`changes`: members of the refusal that depend on the request."""
        self.refusal = replace(refusal, **changes) if changes else refusal
        super().__init__(self.refusal.message)


def by_fault(fault: Fault) -> Refusal:
    """What the bridge answers for a fault of the service."""
    return Refusal(
        code=fault.code,
        message=fault.message,
        retryable=fault.retryable,
        retry_after_seconds=fault.retry_after_seconds,
        fault=fault,
    )


def insufficient_scope(scope: str) -> Refusal:
    """For a valid service token without the scope of the operation."""
    challenge = f'Bearer realm="payments", error="insufficient_scope", scope="{scope}"'
    return replace(FORBIDDEN, message="The service token does not allow this call.", challenge=challenge)


class CallerGoneError(Exception):
    """The caller of a long poll hung up; no answer can be sent."""


INTERNAL: Final = Refusal(
    code=FaultCode.INTERNAL_ERROR, message="Something went wrong on our side. Please try again later."
)
"""A bug; the log has the details."""

# --- the request is at fault

INVALID_REQUEST: Final = Refusal(code=FaultCode.VALIDATION_ERROR, message="The request is not valid.")
"""The message that replaces this one names the field."""
INCOMPLETE_BODY: Final = replace(INVALID_REQUEST, message="The request body is not complete.", closes_connection=True)
NO_IDENTITY: Final = Refusal(
    code=BridgeCode.UNAUTHORIZED,
    message="The request carries no valid X-User-Id and X-User-Roles.",
    challenge='PlatformHeaders realm="payments"',
)
NO_TOKEN: Final = replace(
    NO_IDENTITY, message="The request carries no service token.", challenge='Bearer realm="payments"'
)
INVALID_TOKEN: Final = replace(
    NO_IDENTITY,
    message="The service token is not valid.",  # which check failed is not disclosed
    challenge='Bearer realm="payments", error="invalid_token"',
)
FORBIDDEN: Final = Refusal(code=BridgeCode.FORBIDDEN, message="Only service accounts may use this service.")
RATE_LIMITED: Final = Refusal(
    code=BridgeCode.RATE_LIMITED,
    message="There are too many requests at the moment. Please try again shortly.",
    retryable=True,
)
UNKNOWN_ROUTE: Final = Refusal(code=FaultCode.NOT_FOUND, message="There is nothing at this address.")
METHOD_NOT_ALLOWED: Final = Refusal(
    code=BridgeCode.METHOD_NOT_ALLOWED, message="This address does not support the request method."
)
REQUEST_TIMEOUT: Final = Refusal(
    code=BridgeCode.REQUEST_TIMEOUT,
    message="The request did not arrive in time.",
    retryable=True,
    closes_connection=True,
)
BODY_TOO_LARGE: Final = Refusal(
    code=BridgeCode.PAYLOAD_TOO_LARGE, message="The request body is too large.", closes_connection=True
)
UNSUPPORTED_MEDIA_TYPE: Final = Refusal(
    code=BridgeCode.UNSUPPORTED_MEDIA_TYPE, message="The request body must be sent as application/json."
)
UNSUPPORTED_ENCODING: Final = replace(
    UNSUPPORTED_MEDIA_TYPE,
    message="The request body must be sent without a content encoding.",
    accept_encoding="identity",
)
HEADERS_TOO_LARGE: Final = Refusal(
    code=BridgeCode.HEADERS_TOO_LARGE, message="The request headers are too large.", closes_connection=True
)
NOT_IMPLEMENTED: Final = Refusal(
    code=BridgeCode.NOT_IMPLEMENTED, message="The request needs something of HTTP that is not supported."
)

# --- the path to the service is at fault

UNAVAILABLE: Final = Refusal(
    code=FaultCode.SERVICE_UNAVAILABLE,
    message="The payment service is not available at the moment. Please try again shortly.",
    retryable=True,
    retry_after_seconds=2,
)
"""No connection to the broker, or it was lost while the call was pending."""
NO_SERVICE: Final = replace(UNAVAILABLE)
"""The broker has no queue for the command, or the queue takes no message."""
NO_KEYS: Final = replace(UNAVAILABLE)
"""Service tokens cannot be checked: their keys could not be fetched yet."""
BUSY: Final = replace(
    UNAVAILABLE,
    message="The payment service is busy at the moment. Please try again shortly.",
    retry_after_seconds=1,
)
STOPPING: Final = replace(UNAVAILABLE, retry_after_seconds=1, closes_connection=True)
DEADLINE_EXCEEDED: Final = Refusal(
    code=FaultCode.DEADLINE_EXCEEDED,
    message="The payment service did not answer in time. Repeating the request is safe.",
    retryable=True,
)
BAD_REPLY: Final = Refusal(
    code=BridgeCode.BAD_REPLY,
    message="The payment service gave an answer that could not be understood.",
    retryable=True,
)
