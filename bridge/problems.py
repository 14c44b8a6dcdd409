"""Every error as an HTTP answer: one table of statuses, one body with the Java service's names."""

from dataclasses import replace
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

from starlette.responses import Response

from bridge import errors
from bridge.errors import BridgeCode, Code, Refusal
from contracts import body
from contracts.body import Record
from contracts.faults import FaultCode
from contracts.fields import AmountOut, Sentence
from runtime.http_objections import Objection

MEDIA_TYPE: Final = "application/problem+json"

STATUS: Final[dict[Code, HTTPStatus]] = {
    FaultCode.VALIDATION_ERROR: HTTPStatus.BAD_REQUEST,
    FaultCode.FAILED: HTTPStatus.BAD_REQUEST,
    FaultCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    FaultCode.ALREADY_PAID: HTTPStatus.CONFLICT,
    FaultCode.IN_PROGRESS: HTTPStatus.CONFLICT,
    FaultCode.NEEDS_ATTENTION: HTTPStatus.CONFLICT,
    FaultCode.SUPERSEDED: HTTPStatus.CONFLICT,
    FaultCode.IDEMPOTENCY_KEY_REUSED: HTTPStatus.UNPROCESSABLE_ENTITY,
    FaultCode.GATEWAY_ERROR: HTTPStatus.BAD_GATEWAY,
    FaultCode.SERVICE_UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    FaultCode.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
    FaultCode.INTERNAL_ERROR: HTTPStatus.INTERNAL_SERVER_ERROR,
    BridgeCode.UNAUTHORIZED: HTTPStatus.UNAUTHORIZED,
    BridgeCode.FORBIDDEN: HTTPStatus.FORBIDDEN,
    BridgeCode.METHOD_NOT_ALLOWED: HTTPStatus.METHOD_NOT_ALLOWED,
    BridgeCode.REQUEST_TIMEOUT: HTTPStatus.REQUEST_TIMEOUT,
    BridgeCode.PAYLOAD_TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    BridgeCode.UNSUPPORTED_MEDIA_TYPE: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    BridgeCode.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
    BridgeCode.HEADERS_TOO_LARGE: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    BridgeCode.NOT_IMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
    BridgeCode.BAD_REPLY: HTTPStatus.BAD_GATEWAY,
}

_DEFAULT_RETRY_AFTER_SECONDS: Final = 1


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


_BY_STATUS: Final = {
    HTTPStatus.BAD_REQUEST: errors.INVALID_REQUEST,
    HTTPStatus.REQUEST_TIMEOUT: errors.REQUEST_TIMEOUT,
    HTTPStatus.NOT_IMPLEMENTED: errors.NOT_IMPLEMENTED,
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: errors.HEADERS_TOO_LARGE,
    HTTPStatus.SERVICE_UNAVAILABLE: errors.BUSY,
}


def by_objection(objection: Objection) -> Refusal:
    """What the bridge answers if HTTP itself refuses a request."""
    return replace(_BY_STATUS[objection.status], message=objection.message)


def problem(refusal: Refusal, *, request_id: str) -> Response:
    """The answer to a refused request. It repeats nothing of the request but its id."""
    status = STATUS[refusal.code]
    fault = refusal.fault
    content = Problem(
        payment_id=fault.payment_id if fault else None,
        booking_id=fault.booking_id if fault else None,
        payment_status=refusal.code.value,
        transaction_id=fault.transaction_id if fault else None,
        amount=fault.amount if fault else None,
        message=refusal.message,
        type=f"urn:bookticket:payment:problem:{refusal.code.value.lower().replace('_', '-')}",
        title=refusal.code.value.replace("_", " ").capitalize(),
        status=status,
        detail=refusal.message,
        instance=f"urn:bookticket:payment:request:{quote(request_id, safe='')}",
        request_id=request_id,
        retryable=refusal.retryable,
    )
    return Response(body.write(content), status, _headers(refusal, status), MEDIA_TYPE)


def _headers(refusal: Refusal, status: HTTPStatus) -> dict[str, str]:
    headers = {}
    retry_after = refusal.retry_after_seconds
    if retry_after is None and status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        retry_after = _DEFAULT_RETRY_AFTER_SECONDS
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    if refusal.allow is not None:
        headers["Allow"] = refusal.allow
    if refusal.accept_encoding is not None:
        headers["Accept-Encoding"] = refusal.accept_encoding
    if refusal.challenge is not None:
        headers["WWW-Authenticate"] = refusal.challenge
    if refusal.closes_connection:
        headers["Connection"] = "close"
    return headers
