"""Stripe's answers in our words: pure functions from checkout sessions and SDK errors to outcomes.

Sources: Stripe's "Checkout Session" object (status, payment_status), "Fulfillment" (fulfil on payment_status, never on
status alone), "Errors" and "Low-level error handling" (a 5xx is indeterminate).
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import aiohttp
import stripe
from stripe import oauth_error

from contracts.fields import is_session_id
from service.application.ports import Page, Told
from service.domain.money import Money
from service.domain.outcomes import Expired, Open, Opened, Outcome, Paid, Processing, Refused, Unknown, UnknownCause

REFERENCE: Final = "paymentReference"
"""Metadata key under which a session carries our payment's reference."""

IDEMPOTENCY_KEY_IN_USE: Final = "idempotency_key_in_use"
_MAX_DETAIL: Final = 200
_PERMISSION: Final = re.compile(r"\brak_[a-z_]{1,60}\b")
"""How Stripe's prose names what a restricted key may not do; no other member of the error does."""

# Every class of the SDK's error tree. A test walks the tree and fails on a class that is not here.
ERROR_CAUSES: Final[dict[type[stripe.StripeError], UnknownCause | None]] = {
    # None: a definite refusal of this very request (if the status says so too).
    stripe.InvalidRequestError: None,
    stripe.CardError: None,
    stripe.AuthenticationError: UnknownCause.DENIED,
    stripe.PermissionError: UnknownCause.DENIED,
    stripe.RateLimitError: UnknownCause.BUSY,
    stripe.StripeError: UnknownCause.FAILED,
    stripe.StripeErrorWithParamCode: UnknownCause.FAILED,
    stripe.APIError: UnknownCause.FAILED,
    stripe.APIConnectionError: UnknownCause.FAILED,
    # The same key with other parameters: a mistake of ours. The session of the first call may well exist.
    stripe.IdempotencyError: UnknownCause.FAILED,
    # Of webhooks, of Stripe's v2 API and of its OAuth: nothing that we call raises these.
    stripe.SignatureVerificationError: UnknownCause.FAILED,
    stripe.AlreadyCanceledError: UnknownCause.FAILED,
    stripe.BlockedByStripeError: UnknownCause.FAILED,
    stripe.CannotProceedError: UnknownCause.FAILED,
    stripe.CapabilityNotEnabledError: UnknownCause.FAILED,
    stripe.ControlledByAlternateResourceError: UnknownCause.FAILED,
    stripe.FeatureNotEnabledError: UnknownCause.FAILED,
    stripe.FinancialAccountNotOpenError: UnknownCause.FAILED,
    stripe.FxQuoteNeedsRefreshError: UnknownCause.FAILED,
    stripe.InsufficientFundsError: UnknownCause.FAILED,
    stripe.InvalidPaymentMethodError: UnknownCause.FAILED,
    stripe.InvalidPayoutMethodError: UnknownCause.FAILED,
    stripe.InvalidVaultedCredentialError: UnknownCause.FAILED,
    stripe.NotCancelableError: UnknownCause.FAILED,
    stripe.QuotaExceededError: UnknownCause.FAILED,
    stripe.RecipientNotNotifiableError: UnknownCause.FAILED,
    stripe.TemporarySessionExpiredError: UnknownCause.FAILED,
    stripe.VerificationAttemptFailedError: UnknownCause.FAILED,
    stripe.VerificationExpiredError: UnknownCause.FAILED,
    stripe.VerificationNotInitiatedError: UnknownCause.FAILED,
    oauth_error.OAuthError: UnknownCause.FAILED,
    oauth_error.InvalidClientError: UnknownCause.FAILED,
    oauth_error.InvalidGrantError: UnknownCause.FAILED,
    oauth_error.InvalidRequestError: UnknownCause.FAILED,
    oauth_error.InvalidScopeError: UnknownCause.FAILED,
    oauth_error.UnsupportedGrantTypeError: UnknownCause.FAILED,
    oauth_error.UnsupportedResponseTypeError: UnknownCause.FAILED,
}
_REFUSALS: Final = frozenset({400, 402})


def of_created(session: Mapping[str, Any]) -> Opened | Unknown:
    """The outcome of a create."""
    return _opened(session) if session.get("url") is not None else unreadable("a session without a page")


def of_found(session: Mapping[str, Any]) -> Opened | Unknown:
    """The outcome of finding the session that an earlier create made; if it has ended it has no url any more."""
    return _opened(session)


def _opened(session: Mapping[str, Any]) -> Opened | Unknown:
    url = session.get("url")
    try:
        return Opened(
            session_id=_session_id(session["id"]),
            payment_url=None if url is None else _text(url),
            expires_at=datetime.fromtimestamp(_integer(session["expires_at"]), UTC),
        )
    except (KeyError, ValueError, OverflowError, OSError) as error:
        return unreadable(f"created session: {type(error).__name__}")


def of_session(session: Mapping[str, Any]) -> Outcome:
    """How a retrieved session stands. Whatever we do not know word for word is unknown."""
    match session.get("status"), session.get("payment_status"):
        case "open", "unpaid":
            return Open()
        case "expired", "unpaid":
            return Expired()
        case "complete", "unpaid":
            return Processing()  # a delayed payment method: the money may still come, or not
        case "complete", "paid" | "no_payment_required":
            return _paid(session)
        case status, payment_status:
            return unreadable(f"status {status!r}, payment_status {payment_status!r}")


def reference(session: Mapping[str, Any]) -> str | None:
    """The payment that the session says it is for."""
    metadata = session.get("metadata")
    return metadata.get(REFERENCE) if isinstance(metadata, Mapping) else None


def _paid(session: Mapping[str, Any]) -> Paid | Unknown:
    """Money arrived. "no_payment_required" is told as what it is: nothing was collected."""
    try:
        collected = _integer(session["amount_total"]) if session["payment_status"] == "paid" else 0
        money = Money(collected, _text(session["currency"]).lower())
    except (KeyError, ValueError):
        return unreadable("a paid session without an amount or a currency")
    return Paid(money=money, reference=reference(session), livemode=session.get("livemode") is True)


def of_events(answer: Mapping[str, Any]) -> Page | Unknown:
    """What a list of events tells. Each holds the session as it was at that moment, which only an end outlasts."""
    return _page(answer, _subject)


def of_sessions(answer: Mapping[str, Any]) -> Page | Unknown:
    """What a list of sessions tells."""
    return _page(answer, lambda session: session)


def _page(answer: Mapping[str, Any], session_of: Callable[[Mapping[str, Any]], Any]) -> Page | Unknown:
    members = answer.get("data")
    if not isinstance(members, list) or not all(isinstance(member, Mapping) for member in members):
        return unreadable("a list without members")
    told = [each for each in (_told(member, session_of(member)) for member in members) if each is not None]
    if answer.get("has_more") is not True or not members:
        return Page(told=told, next=None)
    last = members[-1].get("id")
    if not isinstance(last, str) or not last:
        return unreadable("a list that cannot be read on")
    return Page(told=told, next=last)


def _subject(event: Mapping[str, Any]) -> Any:
    data = event.get("data")
    return data.get("object") if isinstance(data, Mapping) else None


def _told(member: Mapping[str, Any], session: Any) -> Told | None:
    """None if it tells of no checkout session in a shape that we can read."""
    if not isinstance(session, Mapping):
        return None
    try:
        outcome = of_session(session)
        return Told(
            id=_text(member.get("id")),
            at=datetime.fromtimestamp(_integer(member.get("created")), UTC),
            session_id=_session_id(session.get("id")),
            outcome=outcome if isinstance(outcome, Paid | Expired) else None,
        )
    except (ValueError, OverflowError, OSError):
        return None


def of_error(error: BaseException) -> Refused | Unknown:
    """The outcome of a call that raised.

    Refused only for a definite refusal of this very request; everything else is unknown.
    """
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return Unknown(cause=UnknownCause.TIMEOUT, detail="no answer in time")
    if not isinstance(error, stripe.StripeError):  # the SDK lets aiohttp's body-read failures through
        return Unknown(cause=UnknownCause.FAILED, detail=type(error).__name__)
    if isinstance(error.__cause__, TimeoutError | aiohttp.ServerTimeoutError):
        return Unknown(cause=UnknownCause.TIMEOUT, detail="no answer in time")
    detail = _detail(error)
    if code(error) == IDEMPOTENCY_KEY_IN_USE:
        return Unknown(cause=UnknownCause.BUSY, detail=detail)
    cause = ERROR_CAUSES.get(type(error), UnknownCause.FAILED)
    if cause is None and error.http_status in _REFUSALS:
        return Refused(detail=detail)
    return Unknown(cause=cause or UnknownCause.FAILED, detail=detail)


def code(error: stripe.StripeError) -> str | None:
    """Stripe's machine-readable code. The exception's own `.code` is empty for several classes."""
    body = getattr(error, "error", None)
    return getattr(body, "code", None) or error.code


def _detail(error: stripe.StripeError) -> str:
    """For our log and journal: class, status, code, parameter, permission, request id; none of Stripe's prose."""
    permission = _PERMISSION.search(error.user_message or "") if isinstance(error, stripe.PermissionError) else None
    parts = {
        "status": error.http_status,
        "code": code(error),
        "param": getattr(error, "param", None),
        "missing permission": permission and permission[0],
        "request": error.request_id,
    }
    named = ", ".join(f"{name} {value}" for name, value in parts.items() if value)
    return f"{type(error).__name__}: {named}"[:_MAX_DETAIL] if named else type(error).__name__


def unreadable(detail: str) -> Unknown:
    """An answer that we do not understand."""
    return Unknown(cause=UnknownCause.UNREADABLE, detail=detail[:_MAX_DETAIL])


def _session_id(value: Any) -> str:
    if not isinstance(value, str) or not is_session_id(value):
        raise ValueError
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError
    return value


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError
    return value
