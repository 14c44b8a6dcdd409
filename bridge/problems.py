"""Every refusal as an HTTP answer: one table, one body, one handler."""

from http import HTTPStatus
from typing import Final
from urllib.parse import quote

from starlette.responses import Response

from bridge.errors import BridgeCode, BridgeError, Code
from bridge.schemas import Problem
from contracts import body
from contracts.faults import FaultCode

MEDIA_TYPE: Final = "application/problem+json"

STATUS: Final[dict[Code, HTTPStatus]] = {
    FaultCode.VALIDATION_ERROR: HTTPStatus.BAD_REQUEST,
    FaultCode.FAILED: HTTPStatus.BAD_REQUEST,
    FaultCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    FaultCode.ALREADY_PAID: HTTPStatus.CONFLICT,
    FaultCode.IN_PROGRESS: HTTPStatus.CONFLICT,
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
    BridgeCode.BAD_REPLY: HTTPStatus.BAD_GATEWAY,
}

_DEFAULT_RETRY_AFTER_SECONDS: Final = 1


def problem(error: BridgeError, *, request_id: str) -> Response:
    """The answer to a refused request. Nothing of the request is in it but its id."""
    status = STATUS[error.code]
    fault = error.fault
    content = Problem(
        payment_id=fault.payment_id if fault else None,
        booking_id=fault.booking_id if fault else None,
        payment_status=error.code.value,
        transaction_id=fault.transaction_id if fault else None,
        amount=fault.amount if fault else None,
        message=error.message,
        type=f"urn:bookticket:payment:problem:{error.code.value.lower().replace('_', '-')}",
        title=error.code.value.replace("_", " ").capitalize(),
        status=status,
        detail=error.message,
        instance=f"urn:bookticket:payment:request:{quote(request_id, safe='')}",
        request_id=request_id,
        retryable=error.retryable,
    )
    return Response(body.write(content), status, _headers(error, status), MEDIA_TYPE)


def _headers(error: BridgeError, status: HTTPStatus) -> dict[str, str]:
    headers = {}
    retry_after = error.retry_after_seconds
    if retry_after is None and status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        retry_after = _DEFAULT_RETRY_AFTER_SECONDS
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    if error.allow is not None:
        headers["Allow"] = error.allow
    if error.challenge is not None:
        headers["WWW-Authenticate"] = error.challenge
    if error.closes_connection:
        headers["Connection"] = "close"
    return headers
