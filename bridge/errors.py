"""Everything that a call can be refused with, on one page. `problems` turns each into an HTTP answer."""

from enum import StrEnum

from contracts.faults import Fault, FaultCode


class BridgeCode(StrEnum):
    """Refusals that HTTP itself is the reason for; the service never sees the request. See also `FaultCode`."""

    UNAUTHORIZED = "UNAUTHORIZED"
    FORBIDDEN = "FORBIDDEN"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    REQUEST_TIMEOUT = "REQUEST_TIMEOUT"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE"
    RATE_LIMITED = "RATE_LIMITED"
    HEADERS_TOO_LARGE = "HEADERS_TOO_LARGE"
    BAD_REPLY = "BAD_REPLY"


Code = FaultCode | BridgeCode


class BridgeError(Exception):
    """A refusal.

    `message` is one sentence that an end user may read and echoes nothing that was sent. `retryable` means that the
    very same request may succeed later and that repeating it is safe. `closes_connection`: the rest of the request
    was not read, so that nothing further may be read from its connection. `challenge`: how to say who one is
    (RFC 9110 §11.6.1).
    """

    code: Code = FaultCode.INTERNAL_ERROR
    message = "Something went wrong on our side. Please try again later."
    retryable = False
    retry_after_seconds: int | None = None
    closes_connection = False
    fault: Fault | None = None
    allow: str | None = None
    challenge: str | None = None

    def __init__(self, message: str | None = None) -> None:
        if message is not None:
            self.message = message
        super().__init__(self.message)


class InternalError(BridgeError):
    """A bug of ours; the log has the details."""


# --- the request is at fault


class InvalidRequestError(BridgeError):
    """The request is not what it should be; the message names the field."""

    code = FaultCode.VALIDATION_ERROR


class IncompleteBodyError(InvalidRequestError):
    """The caller went away before its body was complete."""

    message = "The request body is not complete."
    closes_connection = True


class UnauthorizedError(BridgeError):
    """No identity, or half of one."""

    code = BridgeCode.UNAUTHORIZED
    message = "The request carries no valid X-User-Id and X-User-Roles."
    challenge = 'PlatformHeaders realm="payments"'


class NoTokenError(UnauthorizedError):
    """No service token where one is required."""

    message = "The request carries no service token."
    challenge = 'Bearer realm="payments"'


class InvalidTokenError(UnauthorizedError):
    """A service token that is none of ours, or is no longer one. Which check it failed is nobody's business."""

    message = "The service token is not valid."
    challenge = 'Bearer realm="payments", error="invalid_token"'


class ForbiddenError(BridgeError):
    """An identity without the role that this service is for."""

    code = BridgeCode.FORBIDDEN
    message = "Only service accounts may use this service."


class InsufficientScopeError(ForbiddenError):
    """A good service token that was not issued for this call."""

    message = "The service token does not allow this call."

    def __init__(self, scope: str) -> None:
        super().__init__()
        self.challenge = f'Bearer realm="payments", error="insufficient_scope", scope="{scope}"'


class RateLimitedError(BridgeError):
    """More requests than allowed. Those refused do not count: after the time named the next one is served."""

    code = BridgeCode.RATE_LIMITED
    message = "There are too many requests at the moment. Please try again shortly."
    retryable = True

    def __init__(self, *, retry_after_seconds: int) -> None:
        super().__init__()
        self.retry_after_seconds = retry_after_seconds


class UnknownRouteError(BridgeError):
    """No such address."""

    code = FaultCode.NOT_FOUND
    message = "There is nothing at this address."


class MethodNotAllowedError(BridgeError):
    """The address exists, but not for this method."""

    code = BridgeCode.METHOD_NOT_ALLOWED
    message = "This address does not support the request method."

    def __init__(self, *, allow: str) -> None:
        super().__init__()
        self.allow = allow


class BodyTimeoutError(BridgeError):
    """The body came too slowly."""

    code = BridgeCode.REQUEST_TIMEOUT
    message = "The request body did not arrive in time."
    retryable = True
    closes_connection = True


class BodyTooLargeError(BridgeError):
    """The body is over the limit."""

    code = BridgeCode.PAYLOAD_TOO_LARGE
    message = "The request body is too large."
    closes_connection = True


class UnsupportedMediaTypeError(BridgeError):
    """The body is declared as something else than JSON."""

    code = BridgeCode.UNSUPPORTED_MEDIA_TYPE
    message = "The request body must be sent as application/json."


class HeadersTooLargeError(BridgeError):
    """The request's head is over the limit."""

    code = BridgeCode.HEADERS_TOO_LARGE
    message = "The request headers are too large."
    closes_connection = True


# --- the way to the service is at fault


class UnavailableError(BridgeError):
    """Nobody can serve the call at the moment; repeating it is safe."""

    code = FaultCode.SERVICE_UNAVAILABLE
    message = "The payment service is not available at the moment. Please try again shortly."
    retryable = True
    retry_after_seconds = 1


class BusyError(UnavailableError):
    """As many calls as allowed are waiting for an answer."""

    message = "The payment service is busy at the moment. Please try again shortly."


class StoppingError(UnavailableError):
    """This process is shutting down."""

    closes_connection = True


class BrokerUnavailableError(UnavailableError):
    """There is no usable connection to the broker, or it was lost while the call was waiting."""

    retry_after_seconds = 2


class NoServiceError(UnavailableError):
    """The broker has no queue for the command, or its queue takes nothing."""

    retry_after_seconds = 2


class NoKeysError(UnavailableError):
    """Service tokens cannot be checked: their keys could not be fetched yet."""

    retry_after_seconds = 2


class DeadlineExceededError(BridgeError):
    """No answer in time. Whether the command was executed is unknown; repeating it is safe."""

    code = FaultCode.DEADLINE_EXCEEDED
    message = "The payment service did not answer in time. Repeating the request is safe."
    retryable = True


class CallerGoneError(Exception):
    """The caller has hung up while its answer was held. Nobody is there to be refused."""


class BadReplyError(BridgeError):
    """The service answered something that is no reply to the command."""

    code = BridgeCode.BAD_REPLY
    message = "The payment service gave an answer that could not be understood."
    retryable = True


class FaultError(BridgeError):
    """The service answered with a typed fault."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.code = fault.code
        self.retryable = fault.retryable
        self.retry_after_seconds = fault.retry_after_seconds
        self.fault = fault
