"""Every error of the API, in Stripe's words.

Body: ``{"error": {"type", "code"?, "message", "param"?, "doc_url"?, "request_log_url"?}}``, absent keys omitted.
Source of the shapes: https://docs.stripe.com/api/errors; wordings are as observed in Stripe's answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True, eq=False)
class ApiError(Exception):
    """An error answer of the API."""

    message: str
    status: int = 400
    type: str = "invalid_request_error"
    code: str | None = None
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self, request_id: str | None) -> dict[str, Any]:
        """The JSON body; an error without a request id (a bad key, a lock) has no log URL."""
        error: dict[str, Any] = {}
        if self.code is not None:
            error["code"] = self.code
            error["doc_url"] = f"https://stripe.com/docs/error-codes/{self.code.replace('_', '-')}"
        error["message"] = self.message
        if self.param is not None:
            error["param"] = self.param
        if request_id is not None and self.status != UNAUTHORIZED:
            error["request_log_url"] = f"https://dashboard.stripe.com/test/logs/{request_id}"
        error["type"] = self.type
        return {"error": error}


UNAUTHORIZED = 401


def unauthorized(message: str, code: str | None = None) -> ApiError:
    """401 with Stripe's challenge."""
    challenge = {"WWW-Authenticate": 'Basic realm="Stripe"'}
    return ApiError(status=UNAUTHORIZED, message=message, code=code, headers=challenge)


def no_such(resource: str, identifier: str, param: str, *, status: int = 404) -> ApiError:
    """404 for an unknown object of the path, 400 for one of a parameter."""
    message = f"No such {resource}: '{identifier}'"
    return ApiError(status=status, message=message, code="resource_missing", param=param)


def unknown_url(method: str, path: str) -> ApiError:
    """404 for an unknown endpoint."""
    message = (
        f"Unrecognized request URL ({method}: {path}). Please see https://stripe.com/docs or we can help at "
        "https://support.stripe.com/."
    )
    return ApiError(status=404, message=message)


def unsupported(param: str) -> ApiError:
    """The only error that Stripe would not give: Stripe supports this, the sandbox does not."""
    message = f"Stripe knows `{param}` with this value, but the BookTicket sandbox does not play that part."
    return ApiError(message=message, param=param)


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """400 for an invalid parameter."""
    return ApiError(message=message, param=param, code=code)


def missing(param: str) -> ApiError:
    """400 for a missing parameter."""
    return ApiError(message=f"Missing required param: {param}.", code="parameter_missing", param=param)


def unknown(params: list[str]) -> ApiError:
    """400 for unknown parameters; ``param`` names the first."""
    noun = "parameter" if len(params) == 1 else "parameters"
    message = f"Received unknown {noun}: {', '.join(params)}"
    return ApiError(message=message, code="parameter_unknown", param=params[0])


def empty(param: str) -> ApiError:
    """400 for an empty value of a parameter that cannot be unset."""
    message = (
        f"You passed an empty string for '{param}'. We assume empty values are an attempt to unset a parameter; "
        f"however '{param}' cannot be unset. You should remove '{param}' from your request or supply a non-empty value."
    )
    return ApiError(message=message, code="parameter_invalid_empty", param=param)


def account_not_set_up() -> ApiError:
    """400 for what is wrong with the account and not with the request (observed); no code says so."""
    message = (
        "In order to use Checkout, you must set an account or business name at https://dashboard.stripe.com/account."
    )
    return ApiError(message=message)


def rate_limited(reason: str) -> ApiError:
    """429 of the rate limiter; ``reason`` is ``global-rate`` or ``endpoint-rate``.

    Stripe marks these 429s as not retryable, so its SDKs do not retry (https://docs.stripe.com/rate-limits).
    """
    message = (
        "Request rate limit exceeded. You can learn more about rate limits here https://stripe.com/docs/rate-limits."
    )
    headers = {"Stripe-Rate-Limited-Reason": reason, "Stripe-Should-Retry": "false"}
    return ApiError(status=429, message=message, code="rate_limit", headers=headers)


def server_error() -> ApiError:
    """500: a failure at Stripe, after which the outcome of the call is unknown."""
    message = "An unknown error occurred. If this error persists, please contact us via https://support.stripe.com/."
    return ApiError(status=500, message=message, type="api_error")


def key_reused(key: str) -> ApiError:
    """400: one idempotency key, two different requests."""
    message = (
        "Keys for idempotent requests can only be used with the same parameters they were first used with. Try using "
        f"a key other than '{key}' if you meant to execute a different request."
    )
    return ApiError(message=message, type="idempotency_error")


def key_in_use(key: str) -> ApiError:
    """409: the first request with this key is still running."""
    message = (
        "There is currently another in-progress request using this Idempotent Key (that probably means you submitted "
        f"twice, and the other request is still going through): {key}. Please try again later."
    )
    return ApiError(status=409, message=message, code="idempotency_key_in_use", headers={"Stripe-Should-Retry": "true"})
