"""The types of single fields. The text of each error follows the field's name: "amount must be ..."."""

import re
from decimal import Decimal
from typing import Annotated, Any, Final, TypeGuard
from urllib.parse import unquote_plus

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

MAX_INT64: Final = 2**63 - 1
MIN_AMOUNT: Final = Decimal("1e-6")
MAX_AMOUNT: Final = Decimal(10) ** 12
"""Major units. Bounds against nonsense alone; the service checks the currency's own limits."""

_AMOUNT_TEXT = re.compile(r"[0-9]{1,13}(\.[0-9]{1,20})?", re.ASCII)
_SESSION_ID = re.compile(r"cs_(test|live)_[A-Za-z0-9]{1,246}", re.ASCII)
_CURRENCY = re.compile(r"[A-Za-z]{3}", re.ASCII)
_MAX_URL_LENGTH = 2048  # Stripe: "URL must be 2048 characters or less."

# Card numbers must never come in: not be stored, not be passed on, not be written to a log.
# The forms of card numbers: 13 to 19 digits, bare or in the groups that are printed on cards. The first digit is that
# of a bank or a card company (2 to 6), and no part of a longer word counts: times in milliseconds (1...), UUIDs and
# hexadecimal digests are common identifiers.
_WRITTEN: Final = [
    re.compile(rf"(?<![0-9A-Za-z]){digits}(?![0-9A-Za-z])", re.ASCII)
    for digits in (
        r"[2-6][0-9]{12,18}",
        r"[2-6][0-9]{3}(?:[ -][0-9]{4}){2}[ -][0-9]{1,4}",
        r"[2-6][0-9]{3}(?:[ -][0-9]{4}){3}[ -][0-9]{1,3}",
        r"[2-6][0-9]{3}[ -][0-9]{6}[ -][0-9]{4,5}",
    )
]
_BEGINNING: Final = re.compile(r"(?<![0-9A-Za-z])[2-6][0-9]{3}", re.ASCII)
"""The beginning of all forms, which most texts do not contain."""


def holds_card_number(text: str) -> bool:
    """Whether the text contains a payment card's number, percent-encoded or not.

    One in ten numbers of that length and beginning passes the check digit by chance, so this is not for integer ids.
    """
    readings = [reading for reading in {text, unquote_plus(text)} if _BEGINNING.search(reading)]
    return any(_is_luhn(found[0]) for text in readings for form in _WRITTEN for found in form.finditer(text))


def _is_luhn(written: str) -> bool:
    """ISO/IEC 7812-1, annex B: from the right, every second digit doubled, the sum is a multiple of ten."""
    digits = [int(character) for character in reversed(written) if character.isdigit()]
    return sum(digits[0::2] + [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]) % 10 == 0


def _positive_int64(value: Any) -> int:
    """Java's `Long`. `1.0` and `1e3` are integers too (JSON has one kind of number); `true` and `"7"` are not."""
    is_number = isinstance(value, int | Decimal) and not isinstance(value, bool)
    if not is_number or not 1 <= value <= MAX_INT64 or value != int(value):
        raise ValueError(f"must be an integer from 1 to {MAX_INT64}")
    return int(value)


def _amount(value: Any) -> Decimal:
    """Major units: a JSON number, or a decimal string without a sign or an exponent."""
    if isinstance(value, str) and _AMOUNT_TEXT.fullmatch(value):
        value = Decimal(value)
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueError("must be a number or a decimal string")
    if not MIN_AMOUNT <= value <= MAX_AMOUNT:
        raise ValueError("must be greater than 0 and within the currency's limits")
    return Decimal(value)


def _currency(value: Any) -> str:
    if not isinstance(value, str) or not _CURRENCY.fullmatch(value):
        raise ValueError("must be a three-letter ISO 4217 code")
    return value.lower()


def _url(value: Any) -> str:
    if not isinstance(value, str) or not (
        value.isascii() and value.isprintable() and 0 < len(value) <= _MAX_URL_LENGTH
    ):
        raise ValueError(f"must be an absolute URL of at most {_MAX_URL_LENGTH} printable ASCII characters")
    if holds_card_number(value):
        raise ValueError("must not hold a card number")
    return value


def is_session_id(value: object) -> TypeGuard[str]:
    """Whether the value has the form of a checkout session id."""
    return isinstance(value, str) and _SESSION_ID.fullmatch(value) is not None


def _session_id(value: Any) -> str:
    if not is_session_id(value):
        raise ValueError("must be a checkout session id (cs_test_... or cs_live_...)")
    return value


PositiveInt64 = Annotated[
    int, BeforeValidator(_positive_int64), WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_INT64})
]
"""`bookingId`, `userId`, `paymentId`."""

AmountIn = Annotated[
    Decimal,
    BeforeValidator(_amount),
    WithJsonSchema(
        {
            "oneOf": [
                {"type": "number", "exclusiveMinimum": 0, "maximum": int(MAX_AMOUNT)},
                {"type": "string", "pattern": f"^{_AMOUNT_TEXT.pattern}$"},
            ]
        }
    ),
]
"""An amount in a request: major units."""

AmountOut = Annotated[
    Decimal, PlainSerializer(float, return_type=float), WithJsonSchema({"type": "number", "exclusiveMinimum": 0})
]
"""An amount in an answer: major units, a JSON number with no more decimals than the currency has.

JSON has no decimal type. Below 10^13 with at most three decimals the shortest float prints the same digits.
"""

Currency = Annotated[
    str, BeforeValidator(_currency), WithJsonSchema({"type": "string", "pattern": f"^{_CURRENCY.pattern}$"})
]
"""ISO 4217: lower case as Stripe writes it, either case in a request."""

Url = Annotated[
    str,
    BeforeValidator(_url),
    WithJsonSchema({"type": "string", "format": "uri", "minLength": 1, "maxLength": _MAX_URL_LENGTH}),
]
"""The shape alone; the service's settings say which origins are allowed."""

SessionId = Annotated[
    str, BeforeValidator(_session_id), WithJsonSchema({"type": "string", "pattern": f"^{_SESSION_ID.pattern}$"})
]
"""Stripe's checkout session id, the payment's `transactionId`."""

Sentence = Annotated[str, Field(description="One plain sentence that an end user may read.")]
