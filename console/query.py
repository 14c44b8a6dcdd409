"""What a person has typed into the search: one field that finds anything, or a form with one for each member."""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from contracts.envelope import is_token
from contracts.fields import MAX_INT64, is_session_id
from service.application.ports.search import Place, Wanted
from service.domain.payment import AttentionReason, FailureReason, PaymentStatus

CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "status": tuple(PaymentStatus),
    "reason": tuple(FailureReason),
    "attention": ("any", *AttentionReason),
}
_AMOUNT: Final = re.compile(r"([0-9]{1,13}|[0-9]{1,3}(,[0-9]{2,3}){0,4},[0-9]{3})(\.[0-9]{1,3})?", re.ASCII)
"""Commas are for thousands (and lakhs), so that one for decimals is not taken for nothing."""
_CURRENCY: Final = re.compile("[A-Za-z]{3}", re.ASCII)
_DIGITS: Final = re.compile(r"[0-9]{1,19}", re.ASCII)
_PLACE: Final = re.compile(r"([0-9]{1,18})\.([0-9]{1,19})", re.ASCII)
_PREFIXED: Final = re.compile(r"(booking|payment|user)[: ]+([0-9]+)", re.ASCII | re.IGNORECASE)


class MistypedError(Exception):
    """What was typed can match nothing; the text says which field and why."""


def anything(text: str) -> list[Wanted]:
    """What the one field may mean: a number is a booking or a payment, the rest shows by its form."""
    text = text.strip()
    if found := _PREFIXED.fullmatch(text):
        return [wanted({f"{found[1].lower()}_id": found[2]})]
    if text.isascii() and text.isdigit():
        number = _id("booking_id", text)
        return [Wanted(booking_id=number), Wanted(payment_id=number)]
    if is_session_id(text):
        return [Wanted(session_id=text)]
    if is_token(text):
        return [Wanted(request_id=text)]
    raise MistypedError("Type a booking, a payment, a session (cs_…) or a request id.")


def wanted(fields: Mapping[str, str]) -> Wanted:
    """What the form means; MistypedError for the first field that is wrong."""
    given = {name: text.strip() for name, text in fields.items() if name in _READERS and text.strip()}
    return Wanted(**{name: _READERS[name](name, text) for name, text in given.items()})


def narrower(given: Mapping[str, str]) -> str:
    """What to name besides, for a search that the database ended."""
    time = "a shorter time" if given.get("since") else "when it was begun, by the day"
    return f"The search took too long and was ended. Name a booking or a user, or {time}."


def place(text: str) -> Place | None:
    """Where the list goes on, from an address; None at its beginning."""
    if not text:
        return None
    try:
        found = _PLACE.fullmatch(base64.urlsafe_b64decode(text.encode()).decode())
        if found is None:
            raise MistypedError("This page of the list does not exist.")
        seconds, microseconds = divmod(int(found[1]), 1_000_000)
        at = datetime.fromtimestamp(seconds, UTC).replace(microsecond=microseconds)
        return Place(created_at=at, id=min(int(found[2]), MAX_INT64))
    except (ValueError, OverflowError, OSError, binascii.Error):
        raise MistypedError("This page of the list does not exist.") from None


def address(at: Place) -> str:
    """The same for an address."""
    microseconds = int(at.created_at.timestamp()) * 1_000_000 + at.created_at.microsecond
    return base64.urlsafe_b64encode(f"{microseconds}.{at.id}".encode()).decode()


def _id(name: str, text: str) -> int:
    if not _DIGITS.fullmatch(text) or not 0 < int(text) <= MAX_INT64:
        raise MistypedError(f"{name.removesuffix('_id').capitalize()} must be a positive whole number.")
    return int(text)


def _choice(name: str, text: str) -> str:
    if text not in CHOICES[name]:
        raise MistypedError(f"There is no such {name}.")
    return text


def _session(_: str, text: str) -> str:
    if not is_session_id(text):
        raise MistypedError("A session begins with cs_test_ or cs_live_.")
    return text


def _request(_: str, text: str) -> str:
    if not is_token(text):
        raise MistypedError("A request id has up to 128 printable characters without blanks.")
    return text


def _amount(_: str, text: str) -> Decimal:
    if _AMOUNT.fullmatch(text) is None:
        raise MistypedError("Amount must be a number, such as 449.97.")
    return Decimal(text.replace(",", ""))


def _currency(_: str, text: str) -> str:
    if _CURRENCY.fullmatch(text) is None:
        raise MistypedError("A currency has three letters.")
    return text.lower()


def _moment(_: str, text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise MistypedError("A time looks like 2026-11-30T21:45; it is in UTC.") from None


_READERS: Final[Mapping[str, Callable[[str, str], Any]]] = {
    **dict.fromkeys(("booking_id", "payment_id", "user_id"), _id),
    **dict.fromkeys(CHOICES, _choice),
    "session_id": _session,
    "request_id": _request,
    "amount": _amount,
    "currency": _currency,
    "since": _moment,
    "until": _moment,
}
"""What each field of the form holds."""
