"""What an attempt that raised says, of Stripe and of another attempt: pure functions of errors of SDK and aiohttp."""

from http import HTTPStatus

import aiohttp

from service.adapters.stripe.circuit_breaker import Verdict
from service.adapters.stripe.sdk_import import stripe


def verdict_of(error: Exception, *, fair: bool) -> Verdict:
    """What an attempt that raised says of Stripe."""
    if isinstance(error, TimeoutError):
        return Verdict.FAILS if fair else Verdict.NOTHING
    if isinstance(error, stripe.AuthenticationError):
        return Verdict.DENIES_ALL
    if isinstance(error, stripe.PermissionError):
        return Verdict.DENIES
    if _is_transport(error):
        return Verdict.FAILS
    status = status_of(error)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Verdict.NOTHING if _is_replayed(error) else Verdict.FAILS
    # Limits are the rate limiter's business; an answer that makes no sense (200, a proxy's page) is no sign of health.
    return Verdict.ANSWERS if status >= HTTPStatus.BAD_REQUEST and not is_limit(error) else Verdict.NOTHING


def may_pass(error: Exception) -> bool:
    """Whether another attempt under the same key may end otherwise."""
    advice = header_of(error, "Stripe-Should-Retry")
    # Stripe says "false" of a limit because an SDK would not wait for a permit; we do, and at a lower rate.
    if _is_transport(error) or is_limit(error) or advice == "true":
        return True
    status = status_of(error)
    is_passing = status == HTTPStatus.CONFLICT or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return is_passing and advice != "false" and not _is_replayed(error)


def _is_transport(error: Exception) -> bool:
    """Also what came too late; an answer that breaks off is aiohttp's error."""
    return isinstance(error, stripe.APIConnectionError | aiohttp.ClientError | OSError)


def is_limit(error: Exception) -> bool:
    """Too many calls, or another call holds the object's lock."""
    return isinstance(error, stripe.RateLimitError) or status_of(error) == HTTPStatus.TOO_MANY_REQUESTS


def _is_replayed(error: Exception) -> bool:
    """Whether this is the answer that is kept under the key: old news, and it stays."""
    return header_of(error, "Idempotent-Replayed") == "true"


def status_of(error: Exception) -> int:
    """Of Stripe's answer; 0 without one."""
    return (error.http_status or 0) if isinstance(error, stripe.StripeError) else 0


def header_of(error: Exception, name: str) -> str:
    """Of Stripe's answer; empty without one."""
    headers = error.headers if isinstance(error, stripe.StripeError) else None
    return str((headers or {}).get(name, ""))
