"""Stripe's answers in our words: pure functions from checkout sessions and SDK errors to outcomes.

Sources: Stripe's "Checkout Session" object (status, payment_status), "Fulfillment" (fulfil on payment_status, never on
status alone), "Errors" and "Low-level error handling" (a 5xx is indeterminate).
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

from contracts.fields import is_session_id
from service.adapters.stripe.sdk_import import stripe
from service.application.ports import EventPage, SessionEvent, ToldPage, ToldSession
from service.domain.money import Money
from service.domain.outcomes import Expired, Open, Opened, Outcome, Paid, Processing, Refused, Unknown, UnknownCause
from service.domain.payment import LastOutcome

ASYNC_PAYMENT_FAILED: Final = "checkout.session.async_payment_failed"
REFERENCE: Final = "paymentReference"
"""Metadata key under which a session carries our payment's reference."""
BOOKING: Final = "bookingId"
USER: Final = "userId"
AMOUNT: Final = "amountMinor"
CURRENCY: Final = "currency"
PAY_UNTIL: Final = "payUntil"
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,18}")
_CURRENCY: Final = re.compile(r"[A-Za-z]{3}")
_MAX_INT64: Final = 2**63 - 1
RESOURCE_MISSING: Final = "resource_missing"

IDEMPOTENCY_KEY_IN_USE: Final = "idempotency_key_in_use"
_MAX_DETAIL: Final = 200
_PERMISSION: Final = re.compile(r"\brak_[a-z_]{1,60}\b")
"""How Stripe's prose names what a restricted key may not do; no other member of the error does."""

ERROR_CAUSES: Final[dict[type[stripe.StripeError], UnknownCause]] = {
    stripe.InvalidRequestError: UnknownCause.MISCONFIGURED,
    stripe.CardError: UnknownCause.MISCONFIGURED,
    stripe.IdempotencyError: UnknownCause.KEPT,
    stripe.AuthenticationError: UnknownCause.DENIED,
    stripe.PermissionError: UnknownCause.DENIED,
    stripe.RateLimitError: UnknownCause.BUSY,
}
"""Every other class is FAILED. An IdempotencyError (the same key with other parameters, a mistake of ours) says that
the key is taken: the session of the first call may well exist."""
REFUSED_CODES: Final = frozenset({"amount_too_large", "amount_too_small", "url_invalid"})
"""What booking, payer or caller can cause. All other codes of Stripe's are about us."""
REFUSED_PARAMETERS: Final = re.compile(
    r"success_url|cancel_url|line_items\[\d+\]\[price_data\]\[(?:currency|unit_amount)\]"
)
"""Parameters whose values come from the caller, and are refused without a code or with one of form."""
_REFUSED_FORMS: Final = frozenset({None, "parameter_invalid_integer"})
_REFUSALS: Final = frozenset({400, 402})
_CAUSES: Final = {
    "amount_too_small": LastOutcome.AMOUNT_TOO_SMALL,
    "amount_too_large": LastOutcome.AMOUNT_TOO_LARGE,
    "url_invalid": LastOutcome.URL_REFUSED,
}
_KEPT: Final = frozenset({UnknownCause.FAILED, UnknownCause.MISCONFIGURED})


def of_created(session: Mapping[str, Any]) -> Opened | Unknown:
    """The outcome of a create."""
    return of_found(session) if session.get("url") is not None else unreadable("a session without a page")


def of_found(session: Mapping[str, Any]) -> Opened | Unknown:
    """The outcome of finding the session that an earlier create made; if it has ended it has no url any more."""
    url = session.get("url")
    try:
        return Opened(
            session_id=_session_id(session["id"]),
            payment_url=None if url is None else text(url),
            expires_at=moment(session["expires_at"]),
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
    return optional(metadata.get(REFERENCE)) if isinstance(metadata, Mapping) else None


def _paid(session: Mapping[str, Any]) -> Paid | Unknown:
    """Money arrived. With "no_payment_required" nothing was collected, and the amount says so."""
    try:
        collected = integer(session["amount_total"]) if session["payment_status"] == "paid" else 0
        money = Money(collected, text(session["currency"]).lower())
    except (KeyError, ValueError):
        return unreadable("a paid session without an amount or a currency")
    return Paid(money=money, reference=reference(session), livemode=session.get("livemode") is True)


def of_told(session: Mapping[str, Any]) -> ToldSession | Unknown:
    """All that the session says of itself; what makes a payment of it may be missing: it may be a stranger's."""
    metadata = session.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    amount, currency, expires_at = session.get("amount_total"), session.get("currency"), session.get("expires_at")
    try:
        return ToldSession(
            session_id=_session_id(session.get("id")),
            reference=reference(session),
            livemode=session.get("livemode") is True,
            created_at=moment(session.get("created")),
            outcome=of_session(session),
            payment_url=optional(session.get("url")),
            expires_at=None if expires_at is None else moment(expires_at),
            booking_id=_number(metadata.get(BOOKING)),
            user_id=_number(metadata.get(USER)),
            money=None if amount is None or currency is None else Money(integer(amount), _currency(currency)),
            asked=_asked(metadata),
            pay_until=None if (seconds := _number(metadata.get(PAY_UNTIL))) is None else moment(seconds),
            success_url=optional(session.get("success_url")) or "",
            cancel_url=optional(session.get("cancel_url")) or "",
        )
    except (ValueError, OverflowError, OSError) as error:
        return unreadable(f"told session: {type(error).__name__}")


def of_events(answer: Mapping[str, Any]) -> EventPage | Unknown:
    """The page of a list of events. Each holds the session as it was at that moment, which only an end outlasts."""
    return _page(answer, subject)


def of_sessions(answer: Mapping[str, Any]) -> EventPage | Unknown:
    """The page of a list of sessions."""
    return _page(answer, lambda session: session)


def of_told_page(answer: Mapping[str, Any]) -> ToldPage | Unknown:
    """The page of a list of sessions, each with all that it says. One that cannot be read at all is left out."""
    listed = members(answer)
    if isinstance(listed, Unknown):
        return listed
    entries, after = listed
    told = [of_told(each) for each in entries]
    return ToldPage(sessions=[each for each in told if isinstance(each, ToldSession)], next=after)


def _page(answer: Mapping[str, Any], session_of: Callable[[Mapping[str, Any]], Any]) -> EventPage | Unknown:
    listed = members(answer)
    if isinstance(listed, Unknown):
        return listed
    entries, after = listed
    events = [each for each in (_event(member, session_of(member)) for member in entries) if each is not None]
    return EventPage(events=events, next=after)


def members(answer: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], str | None] | Unknown:
    """The members of a page of a list, and what to ask for the next page with."""
    listed = answer.get("data")
    if not isinstance(listed, list) or not all(isinstance(member, Mapping) for member in listed):
        return unreadable("a list without members")
    if answer.get("has_more") is not True or not listed:
        return listed, None
    last = listed[-1].get("id")
    return (listed, last) if isinstance(last, str) and last else unreadable("a list that cannot be read on")


def subject(event: Mapping[str, Any]) -> Any:
    """What the event is about."""
    data = event.get("data")
    return data.get("object") if isinstance(data, Mapping) else None


def _event(member: Mapping[str, Any], session: Any) -> SessionEvent | None:
    """None if it concerns no checkout session, or has a shape that we cannot read."""
    if not isinstance(session, Mapping):
        return None
    try:
        outcome = of_session(session)
        return SessionEvent(
            id=text(member.get("id")),
            at=moment(member.get("created")),
            session_id=_session_id(session.get("id")),
            outcome=outcome if isinstance(outcome, Paid | Expired) else None,
            has_failed=member.get("type") == ASYNC_PAYMENT_FAILED,
            reference=reference(session),
        )
    except (ValueError, OverflowError, OSError):
        return None


def of_error(error: BaseException) -> Refused | Unknown:
    """The outcome of a call that raised: refused only for what booking, payer or caller can change, else unknown."""
    if isinstance(error.__cause__ if isinstance(error, stripe.StripeError) else error, TimeoutError):
        return Unknown(cause=UnknownCause.TIMEOUT, detail="no answer in time")
    if not isinstance(error, stripe.StripeError):  # aiohttp's, of an answer that breaks off
        return Unknown(cause=UnknownCause.FAILED, detail=type(error).__name__)
    detail = _detail(error)
    if code(error) == IDEMPOTENCY_KEY_IN_USE:
        return Unknown(cause=UnknownCause.BUSY, detail=detail)
    if error.http_status == HTTPStatus.NOT_FOUND and code(error) == RESOURCE_MISSING:
        return Unknown(cause=UnknownCause.NO_SESSION, detail=detail)
    if _is_refusal(error):
        return Refused(detail=detail, cause=_refusal(error))
    cause = ERROR_CAUSES.get(type(error), UnknownCause.FAILED)
    if cause is UnknownCause.MISCONFIGURED and (not _is_4xx(error) or code(error) == RESOURCE_MISSING):
        cause = UnknownCause.FAILED  # what one session lacks says nothing of us
    if cause in _KEPT and (error.headers or {}).get("Idempotent-Replayed") == "true":
        cause = UnknownCause.KEPT
    return Unknown(cause=cause, detail=detail, is_rejection=_is_4xx(error) and error.http_status not in {408, 409, 429})


def _is_4xx(error: stripe.StripeError) -> bool:
    return HTTPStatus.BAD_REQUEST <= (error.http_status or 0) < HTTPStatus.INTERNAL_SERVER_ERROR


def _is_refusal(error: stripe.StripeError) -> bool:
    """Whether booking, payer or caller have caused it: Stripe's codes, and where it gives none, the parameter."""
    if error.http_status not in _REFUSALS or not isinstance(error, stripe.InvalidRequestError | stripe.CardError):
        return False
    if isinstance(error, stripe.CardError) or code(error) in REFUSED_CODES:
        return True
    parameter = getattr(error, "param", None) or ""
    return code(error) in _REFUSED_FORMS and REFUSED_PARAMETERS.fullmatch(parameter) is not None


def _refusal(error: stripe.StripeError) -> LastOutcome:
    """Why the request is refused, as far as callers may know it. Stripe has no code for an unknown currency."""
    if str(getattr(error, "param", None)).endswith(("currency", "[currency]")):
        return LastOutcome.CURRENCY_REFUSED
    return _CAUSES.get(code(error) or "", LastOutcome.REFUSED)


def is_missing(answer: Refused | Unknown) -> bool:
    """Whether Stripe says that it has no such object."""
    return f"code {RESOURCE_MISSING}" in answer.detail


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


def text(value: Any) -> str:
    """A text that is there, or ValueError."""
    if not isinstance(value, str) or not value:
        raise ValueError
    return value


def integer(value: Any) -> int:
    """A whole number, or ValueError."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError
    return value


def optional(value: Any) -> str | None:
    """A text, or None for anything else."""
    return value if isinstance(value, str) and value else None


def moment(value: Any) -> datetime:
    """A moment, exact to the second, or ValueError, OverflowError or OSError."""
    return datetime.fromtimestamp(integer(value), UTC)


def _number(value: Any) -> int | None:
    """A positive number; None if it is not one that we have written."""
    return int(value) if isinstance(value, str) and _NUMBER.fullmatch(value) and int(value) <= _MAX_INT64 else None


def _asked(metadata: Mapping[str, Any]) -> Money | None:
    """The money that we have written; None if there is none."""
    minor = _number(metadata.get(AMOUNT))
    return None if minor is None else Money(minor, _currency(metadata.get(CURRENCY)))


def _currency(value: Any) -> str:
    if not isinstance(value, str) or not _CURRENCY.fullmatch(value):
        raise ValueError
    return value.lower()
