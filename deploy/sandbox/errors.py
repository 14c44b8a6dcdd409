"""Every refusal of the API, in Stripe's words.

Body: ``{"error": {"type", "code"?, "message", "param"?, "doc_url"?, "request_log_url"?}}``, absent keys omitted.
Source of the shapes: https://docs.stripe.com/api/errors; wordings are as observed in Stripe's answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True, eq=False)
class ApiError(Exception):
    """A refusal that travels to the caller as it is."""

    message: str
    status: int = 400
    type: str = "invalid_request_error"
    code: str | None = None
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self, request_id: str | None) -> dict[str, Any]:
        """The JSON body; a refusal without a request id (a bad key, a lock) names no log line."""
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
    """401, with the challenge that Stripe sends."""
    challenge = {"WWW-Authenticate": 'Basic realm="Stripe"'}
    return ApiError(status=UNAUTHORIZED, message=message, code=code, headers=challenge)


def no_such(resource: str, identifier: str, param: str, *, status: int = 404) -> ApiError:
    """404 for the object that a path names, 400 for one that a parameter names."""
    message = f"No such {resource}: '{identifier}'"
    return ApiError(status=status, message=message, code="resource_missing", param=param)


def unknown_url(method: str, path: str) -> ApiError:
    """404 for a path that is no endpoint."""
    message = (
        f"Unrecognized request URL ({method}: {path}). Please see https://stripe.com/docs or we can help at "
        "https://support.stripe.com/."
    )
    return ApiError(status=404, message=message)


def unsupported(param: str) -> ApiError:
    """The one refusal that Stripe would not give: Stripe can do this, the sandbox cannot."""
    message = f"Stripe knows `{param}` with this value, but the BookTicket sandbox does not play that part."
    return ApiError(message=message, param=param)


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """400 for a parameter that cannot be used."""
    return ApiError(message=message, param=param, code=code)


def missing(param: str) -> ApiError:
    """400 for a parameter that must be there."""
    return ApiError(message=f"Missing required param: {param}.", code="parameter_missing", param=param)


def unknown(params: list[str]) -> ApiError:
    """400 for parameters that the endpoint does not have; ``param`` names the first."""
    noun = "parameter" if len(params) == 1 else "parameters"
    message = f"Received unknown {noun}: {', '.join(params)}"
    return ApiError(message=message, code="parameter_unknown", param=params[0])


def empty(param: str) -> ApiError:
    """400 for an empty value where nothing can be unset."""
    message = (
        f"You passed an empty string for '{param}'. We assume empty values are an attempt to unset a parameter; "
        f"however '{param}' cannot be unset. You should remove '{param}' from your request or supply a non-empty value."
    )
    return ApiError(message=message, code="parameter_invalid_empty", param=param)


def rate_limited(reason: str) -> ApiError:
    """429 of the rate limiter; ``reason`` is ``global-rate`` or ``endpoint-rate``.

    Stripe marks these 429s as not to be repeated at once, so its SDKs do not (https://docs.stripe.com/rate-limits).
    """
    message = (
        "Request rate limit exceeded. You can learn more about rate limits here https://stripe.com/docs/rate-limits."
    )
    headers = {"Stripe-Rate-Limited-Reason": reason, "Stripe-Should-Retry": "false"}
    return ApiError(status=429, message=message, code="rate_limit", headers=headers)


def server_error() -> ApiError:
    """500: something broke on Stripe's side, and whether the work was done is not said."""
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
    """409: the first request with this key has not been answered yet."""
    message = (
        "There is currently another in-progress request using this Idempotent Key (that probably means you submitted "
        f"twice, and the other request is still going through): {key}. Please try again later."
    )
    return ApiError(status=409, message=message, code="idempotency_key_in_use", headers={"Stripe-Should-Retry": "true"})
