"""The OpenAPI document of the bridge: words, headers and examples.

The examples of errors are made by `bridge.problems`, so that a body or a header that changes there changes here.
"""

import json
from collections.abc import Iterable
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from bridge.auth import Permission
from bridge.errors import Refusal
from bridge.problems import MEDIA_TYPE, STATUS, Problem, problem
from bridge.routes import BASE_PATH, RETRY_AFTER_PENDING_SECONDS
from contracts import VERSION, envelope
from contracts.body import Record
from contracts.commands import CreateCheckout, VerifyCheckout
from contracts.replies import CheckoutSession, PaymentState, StatusSource
from tools.documents import openapi_examples

TITLE: Final = "BookTicket Payment Service"
DESCRIPTION: Final = f"""\
Collects the money for bookings through Stripe Checkout: create a checkout session, send the payer to its page, ask how
it stands until it is COMPLETED or FAILED. Both are final, and answered the same for ever.

- **Repeating is safe.** A create with the same `Idempotency-Key`, or for a booking that has a live payment with the
  same content, answers the same session again. Other content ends the old session first, then makes a new one.
- **Poll** at the pace that `Retry-After` suggests. The outcomes are events, too: see the AsyncAPI document.
- **Every error** is `{MEDIA_TYPE}` with one body: `paymentStatus` is its code, `message` one sentence that an end user
  may read, and `retryable` says whether the very same request may succeed later. Another method on these addresses is
  answered 405 `METHOD_NOT_ALLOWED`.
- **Be lenient:** answers may get further members, and further error codes may come; then go by the HTTP status.
"""

_SECURITY_SCHEMES: Final = {
    "platformUserId": {
        "type": "apiKey",
        "in": "header",
        "name": "X-User-Id",
        "description": "With `BRIDGE_AUTH=headers`: on whose behalf the call is made, an integer from 1 to 2^63 - 1.",
    },
    "platformUserRoles": {
        "type": "apiKey",
        "in": "header",
        "name": "X-User-Roles",
        "description": "With `BRIDGE_AUTH=headers`: separated by commas, `SERVICE_ACCOUNT` among them.",
    },
    "serviceToken": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "With `BRIDGE_AUTH=jwt`: a signed service token with the scope that the operation names "
        "(`payments:create`, `payments:read`). The two headers then grant nothing.",
    },
}

_MEANING: Final = {
    "400": "The request is not valid, or Stripe refused it for good (`FAILED`).",
    "401": "No or half an identity; no token, or none that is valid.",
    "403": "The role `SERVICE_ACCOUNT`, or the scope, is missing.",
    "404": "No such payment here.",
    "408": "The request did not arrive in time.",
    "409": "The booking is paid already (`ALREADY_PAID`), is being worked on at this moment"
    " (`IN_PROGRESS`), or has a newer checkout than this create (`SUPERSEDED`).",
    "413": "The body is over 16 KiB.",
    "415": "The body is not declared as JSON, or is encoded.",
    "422": "The idempotency key was used before with another body.",
    "429": "`RATE_LIMITED`: more requests of this caller, or for this booking, than are allowed. Repeating is safe.",
    "431": "The headers are over 8 KiB.",
    "500": "A bug of ours.",
    "501": "A transfer coding other than chunked, or the method CONNECT.",
    "502": "Stripe failed, or the service's answer is none. Repeating is safe.",
    "503": "No service behind the broker, overload, or shutting down. Repeating is safe.",
    "504": "No answer in time, the outcome is unknown. Repeating is safe.",
}

_HEADERS: Final[dict[str, dict[str, Any]]] = {
    "X-Request-ID": {
        "description": "The request's id: yours, or one made here.",
        "schema": {"type": "string"},
        "example": openapi_examples.REQUEST_ID,
    },
    "Retry-After": {
        "description": "Seconds to wait before the next try.",
        "schema": {"type": "integer", "minimum": 1},
        "example": RETRY_AFTER_PENDING_SECONDS,
    },
    "X-Payment-Status-Source": {
        "description": "`local`: Stripe could not be asked, and the answer is the last known status.",
        "schema": {"type": "string", "enum": [source.value for source in StatusSource]},
        "example": StatusSource.GATEWAY.value,
    },
    "X-Payment-Attention": {
        "description": "Why a person must look at the payment: `paid_differently`, `paid_after_failed`, `unsettled`, "
        "`unknown_session`, or a word of a later release. Absent if none must.",
        "schema": {"type": "string"},
        "example": "paid_differently",
    },
    "Preference-Applied": {
        "description": "`wait=N`: your wish was heeded, and for how long at most. Absent if you did not wait, because "
        "too many do or we are shutting down.",
        "schema": {"type": "string", "pattern": "^wait=[0-9]+$"},
        "example": "wait=30",
    },
    "WWW-Authenticate": {
        "description": "How to say who one is; with `BRIDGE_AUTH=jwt` also what is wrong with the token.",
        "schema": {"type": "string"},
        "example": 'Bearer realm="payments", error="invalid_token"',
    },
}


_LINKS: Final = {
    "verify": {"operationId": "verifyCheckoutSession", "parameters": {"sessionId": "$response.body#/sessionId"}},
    "status": {"operationId": "getPaymentStatus", "parameters": {"transactionId": "$response.body#/sessionId"}},
}
"""What can be asked about the session that was just created."""


def _create() -> dict[str, Any]:
    key = _request_header(
        "Idempotency-Key",
        "Makes repeating safe for 30 days; scoped to the caller.",
        example=openapi_examples.IDEMPOTENCY_KEY,
        pattern=f"^{envelope.IDEMPOTENCY_KEY_PATTERN}$",
    )
    content = {"schema": _ref(CreateCheckout), "examples": openapi_examples.REQUESTS}
    created = {"created": {"value": openapi_examples.SESSION}}
    session = _answer("Send the payer to `paymentUrl`.", CheckoutSession, created) | {"links": _LINKS}
    return _operation(
        "createCheckoutSession",
        "Start a payment for a booking",
        "Start a payment for a booking. Safe to repeat.",
        scope=Permission.CREATE,
        parameters=[key],
        answer=session,
        refusals=openapi_examples.create_refusals(),
        requestBody={"required": True, "content": {"application/json": content}},
    )


def _verify() -> dict[str, Any]:
    headers = ("Retry-After", "X-Payment-Status-Source", "X-Payment-Attention", "Preference-Applied")
    answer = _answer("The status.", PaymentState, openapi_examples.VERIFIED, *headers)
    prefer = _request_header(
        "Prefer",
        "RFC 7240. `wait=N`: answer as soon as the payment is final, after N seconds with the last known status; N is "
        f"a whole number, and more than {envelope.MAX_WAIT_SECONDS} counts as {envelope.MAX_WAIT_SECONDS}. Other "
        "preferences are passed over. Let your own timeout be 15 s longer than N.",
        example="wait=2",
    )
    return _operation(
        "verifyCheckoutSession",
        "Ask Stripe how a checkout session stands",
        "Ask the gateway how a checkout session stands.",
        scope=Permission.READ,
        parameters=[_session_id("sessionId"), prefer],
        answer=answer,
        refusals=openapi_examples.verify_refusals(),
    )


def _status() -> dict[str, Any]:
    headers = ("Retry-After", "X-Payment-Attention")
    answer = _answer("The status as it was last known.", PaymentState, openapi_examples.STATES, *headers)
    return _operation(
        "getPaymentStatus",
        "Read a payment's status without asking Stripe",
        "Read a payment as it was last known; Stripe is not asked.",
        scope=Permission.READ,
        parameters=[_session_id("transactionId")],
        answer=answer,
        refusals=openapi_examples.status_refusals(),
    )


def _operation(
    name: str,
    summary: str,
    description: str,
    *,
    scope: Permission,
    parameters: list[Any],
    answer: Any,
    refusals: Iterable[Refusal],
    **more: Any,
) -> dict[str, Any]:
    return {
        "tags": ["payments"],
        "description": description,
        "operationId": name,
        "summary": summary,
        # Either the platform's two headers or a token.
        "security": [{"platformUserId": [], "platformUserRoles": []}, {"serviceToken": [scope.value]}],
        "parameters": [*parameters, *_common_headers()],
        **more,
        "responses": {"200": answer} | _refusals(refusals),
    }


def document() -> dict[str, Any]:
    """The document.

    FastAPI's own generator leaves null out of examples, and makes floats of all bounds (2^63 - 1 is none).
    """
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": VERSION, "description": DESCRIPTION},
        "paths": {
            f"{BASE_PATH}/checkout/create": {"post": _create()},
            f"{BASE_PATH}/checkout/verify/{{sessionId}}": {"get": _verify()},
            f"{BASE_PATH}/status/{{transactionId}}": {"get": _status()},
        },
        "components": {"schemas": _schemas(), "securitySchemes": _SECURITY_SCHEMES},
    }


def _schemas() -> dict[str, Any]:
    models: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        (CreateCheckout, "validation"),
        (CheckoutSession, "serialization"),
        (PaymentState, "serialization"),
        (Problem, "serialization"),
    ]
    _, definitions = models_json_schema(models, ref_template="#/components/schemas/{model}")
    schemas: dict[str, Any] = definitions["$defs"]
    for name in schemas.keys() - {CreateCheckout.__name__}:
        schemas[name].pop("additionalProperties", None)  # we are strict with requests; be lenient with answers
    return schemas


def _ref(model: type[Record]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _answer(description: str, model: type[Record], named_examples: dict[str, Any], *headers: str) -> dict[str, Any]:
    content = {"application/json": {"schema": _ref(model), "examples": named_examples}}
    return {"description": description, "headers": _headers("X-Request-ID", *headers), "content": content}


def _refusals(errors: Iterable[Refusal]) -> dict[str, dict[str, Any]]:
    """By status, with an example of each code, and the headers that come with it."""
    by_status: dict[str, dict[str, Any]] = {}
    for error in errors:
        status = str(int(STATUS[error.code]))
        sent = problem(error, request_id=openapi_examples.REQUEST_ID)
        response = by_status.setdefault(status, _refusal(status))
        response["headers"] |= _headers(*(name for name in _HEADERS if name in sent.headers))
        named = response["content"][MEDIA_TYPE].setdefault("examples", {})
        named[error.code.value] = {"value": json.loads(bytes(sent.body))}
    return dict(sorted(by_status.items()))


def _refusal(status: str, *headers: str) -> dict[str, Any]:
    return {
        "description": _MEANING[status],
        "headers": _headers("X-Request-ID", *headers),
        "content": {MEDIA_TYPE: {"schema": _ref(Problem)}},
    }


def _common_headers() -> list[dict[str, Any]]:
    return [
        _request_header(
            "X-Request-ID",
            "Carried through logs and messages, and echoed: 1 to 128 printable ASCII characters without blanks. "
            "Anything else is replaced.",
            example=openapi_examples.REQUEST_ID,
        ),
        _request_header(
            "traceparent", "W3C Trace Context; anything else is replaced.", example=openapi_examples.TRACE_PARENT
        ),
    ]


def _headers(*names: str) -> dict[str, Any]:
    return {name: _HEADERS[name] for name in names}


def _request_header(name: str, description: str, *, example: str, **schema: str) -> dict[str, Any]:
    schema = {"type": "string"} | schema
    return {"name": name, "in": "header", "description": description, "schema": schema, "example": example}


def _session_id(name: str) -> dict[str, Any]:
    schema = VerifyCheckout.model_json_schema()["properties"]["sessionId"]
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": schema["description"],
        "schema": {"type": schema["type"], "pattern": schema["pattern"]},
        "example": openapi_examples.SESSION_ID,
    }
