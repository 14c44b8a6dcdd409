"""What may stand on the command line. Nothing is imported here that `--help` would wait for."""

import argparse
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Final

MAX_ACTOR_LENGTH: Final = 128
"""The column's length."""
_MAX_REASON_LENGTH: Final = 200
_MAX_ID: Final = 2**63 - 1
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def actor(text: str) -> str:
    """Who acts, for a journal."""
    if not text.strip() or not text.isprintable() or len(text) > MAX_ACTOR_LENGTH:
        raise argparse.ArgumentTypeError("must be 1 to 128 printable characters")
    return text


def reason(text: str) -> str:
    """Why an operator acts, for a journal."""
    from contracts.fields import holds_card_number  # noqa: PLC0415

    if not text.strip() or not text.isprintable() or len(text) > _MAX_REASON_LENGTH or holds_card_number(text):
        raise argparse.ArgumentTypeError("must be 1 to 200 printable characters, without a card number")
    return text


def currency(text: str) -> str:
    """A currency that is or was charged, in lower case."""
    from service.domain.money import CURRENCIES  # noqa: PLC0415

    if text.lower() not in CURRENCIES:
        raise argparse.ArgumentTypeError("must be an ISO 4217 code that Stripe charges, such as INR")
    return text.lower()


def duration(text: str) -> timedelta:
    """`30m`."""
    found = re.fullmatch(r"([0-9]{1,6})([smhd])", text, re.ASCII)
    if found is None:
        raise argparse.ArgumentTypeError("must be a number and s, m, h or d, such as 30m")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def moment_or_age(text: str) -> datetime | timedelta:
    """A time, or how long ago it was, which `resolved` counts back."""
    try:
        if re.fullmatch(r"[0-9]{1,6}[smhd]", text, re.ASCII):
            return duration(text)
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a time nor an age") from None


def resolved(moment: datetime | timedelta, now: datetime) -> datetime:
    """The time that is meant. `now` is the database's, by which everything in it is dated."""
    if isinstance(moment, datetime):
        return moment
    try:
        return now - moment
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def count(text: str) -> int:
    """How many."""
    if not (text.isascii() and text.isdigit() and 0 < int(text[:10]) == int(text)):
        raise argparse.ArgumentTypeError("must be a number from 1")
    return int(text)


def identity(text: str) -> int:
    """The id of a payment, a booking or a user."""
    if not (text.isascii() and text.isdigit() and 0 < int(text[:20]) <= _MAX_ID and len(text) <= len(str(_MAX_ID))):
        raise argparse.ArgumentTypeError("must be an integer from 1 to 2^63 - 1")
    return int(text)


def amount(text: str) -> Decimal:
    """Major units of a currency."""
    try:
        found = Decimal(text)
    except InvalidOperation:
        found = Decimal(0)
    if not (re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,3})?", text, re.ASCII) and found > 0):
        raise argparse.ArgumentTypeError("must be an amount such as 449.97")
    return found
