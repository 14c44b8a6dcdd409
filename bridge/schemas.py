"""What HTTP callers see: the error body, and the words of the OpenAPI document. Legacy REST names end here.

Requests and answers themselves are `contracts.commands` and `contracts.replies`: the same JSON as over RabbitMQ.
"""

from typing import Any, Final

from contracts.body import Record
from contracts.commands import CreateCheckout
from contracts.fields import MAX_INT64, AmountOut

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
    message: str
    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    retryable: bool


CREATE_REQUEST: Final = {"bookingId": 4711, "userId": 42, "amount": 540.9, "successUrl": None, "cancelUrl": None}
CREATE_ANSWER: Final = {
    "sessionId": "cs_test_a1B2c3D4",
    "paymentUrl": "https://checkout.stripe.com/c/pay/cs_test_a1B2c3D4",
    "bookingId": 4711,
    "amount": 540.9,
    "status": "pending",
    "message": "Checkout session created.",
    "expiresAt": 1767225600,
}
STATE_ANSWER: Final = {
    "paymentId": 1001,
    "bookingId": 4711,
    "paymentStatus": "COMPLETED",
    "transactionId": "cs_test_a1B2c3D4",
    "amount": 540.9,
    "message": "The payment is complete.",
}

_REQUEST_ID_HEADER: Final = {
    "X-Request-ID": {"description": "The request's id: yours, or one made here.", "schema": {"type": "string"}}
}
_RETRY_AFTER: Final = {
    "Retry-After": {"description": "Seconds to wait before the next try.", "schema": {"type": "integer", "minimum": 1}}
}
_STATUS_SOURCE: Final = {
    "X-Payment-Status-Source": {
        "description": "`local` when Stripe could not be asked and the answer is the last known status.",
        "schema": {"type": "string", "enum": ["gateway", "local"]},
    }
}
_ERRORS: Final = {
    400: "The request is not valid, or Stripe refused it for good (`FAILED`).",
    401: "No or half an identity.",
    403: "The role SERVICE_ACCOUNT is missing.",
    404: "No such payment here.",
    408: "The body did not arrive in time.",
    409: "The booking is paid already (`ALREADY_PAID`), or the same request is being served (`IN_PROGRESS`).",
    413: "The body is over 16 KiB.",
    415: "The body is not declared as JSON.",
    422: "The idempotency key was used before with another body.",
    431: "The headers are over 8 KiB.",
    500: "A bug of ours.",
    502: "Stripe failed.",
    503: "No service behind the broker, overload, or shutting down.",
    504: "No answer in time; the outcome is unknown. Repeating the request is safe.",
}
_LINKS: Final = {
    "verify": {"operationId": "verifyCheckoutSession", "parameters": {"sessionId": "$response.body#/sessionId"}},
    "status": {"operationId": "getPaymentStatus", "parameters": {"transactionId": "$response.body#/sessionId"}},
}
"""What can be asked about the session that was just created."""
_BODY_ERRORS: Final = frozenset({408, 409, 413, 415, 422})


def responses(example: dict[str, Any], *, has_body: bool, verifies: bool = False) -> dict[int | str, dict[str, Any]]:
    """The documented answers of an operation."""
    polls = {} if has_body else _RETRY_AFTER
    source = _STATUS_SOURCE if verifies else {}
    documented: dict[int | str, dict[str, Any]] = {
        200: {"headers": _REQUEST_ID_HEADER | polls | source, "content": {"application/json": {"example": example}}}
    }
    if has_body:
        documented[200]["links"] = _LINKS
    for status, description in _ERRORS.items():
        if has_body or status not in _BODY_ERRORS:
            headers = _REQUEST_ID_HEADER | (_RETRY_AFTER if status in {409, 503} else {})
            documented[status] = {"model": Problem, "description": description, "headers": headers}
    return documented


def _header(name: str, description: str, *, required: bool = False, **schema: Any) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": required,
        "description": description,
        "schema": {"type": "string"} | schema,
    }


_HEADERS: Final = [
    _header(
        "X-User-Id", "On whose behalf the call is made.", required=True, type="integer", minimum=1, maximum=MAX_INT64
    ),
    _header("X-User-Roles", "Comma-separated; must contain SERVICE_ACCOUNT.", required=True),
    # The two are not refused, whatever is in them: a bad id is replaced, a bad trace is dropped.
    _header(
        "X-Request-ID",
        "Carried through logs and messages, and echoed: 1 to 128 printable ASCII characters without blanks. Anything "
        "else is replaced.",
    ),
    _header("traceparent", "W3C Trace Context; anything else is ignored."),
]


def create_operation() -> dict[str, Any]:
    """OpenAPI members of `createCheckoutSession` that cannot be read off the code."""
    schema = CreateCheckout.model_json_schema(by_alias=True)
    key = _header(
        "Idempotency-Key", "Makes repeating safe; scoped to the caller.", pattern="^[!-~]([ -~]{0,253}[!-~])?$"
    )
    return {
        "parameters": [*_HEADERS, key],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema, "example": CREATE_REQUEST}},
        },
    }


def read_operation(parameter: str) -> dict[str, Any]:
    """OpenAPI members of the two reading operations."""
    session_id = {
        "name": parameter,
        "in": "path",
        "required": True,
        "description": "Stripe's checkout session id.",
        "schema": {"type": "string", "pattern": "^cs_(test|live)_[A-Za-z0-9]{1,246}$"},
        "example": STATE_ANSWER["transactionId"],
    }
    return {"parameters": [session_id, *_HEADERS]}
