"""The types of single fields. Each refusal is a phrase that follows the field's name: "amount must be ..."."""

import re
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

from contracts.cards import holds_card_number

MAX_INT64: Final = 2**63 - 1
MIN_AMOUNT: Final = Decimal("1e-6")
MAX_AMOUNT: Final = Decimal(10) ** 12
"""Major units. Only bounds against nonsense; the currency's own limits are the service's business."""

_AMOUNT_TEXT = re.compile(r"[0-9]{1,13}(\.[0-9]{1,20})?", re.ASCII)
_SESSION_ID = re.compile(r"cs_(test|live)_[A-Za-z0-9]{1,246}", re.ASCII)
_CURRENCY = re.compile(r"[A-Za-z]{3}", re.ASCII)
_MAX_URL_LENGTH = 2048  # Stripe: "URL must be 2048 characters or less."


def _positive_int64(value: Any) -> int:
    """Java's `Long`. `1.0` and `1e3` are integers too (JSON has one kind of number); `true` and `"7"` are not."""
    expected = f"must be an integer from 1 to {MAX_INT64}"
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueError(expected)
    if not 1 <= value <= MAX_INT64 or value != int(value):
        raise ValueError(expected)
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
    if (
        not isinstance(value, str)
        or not value.isascii()
        or not value.isprintable()
        or not 0 < len(value) <= _MAX_URL_LENGTH
    ):
        raise ValueError(f"must be an absolute URL of at most {_MAX_URL_LENGTH} printable ASCII characters")
    if holds_card_number(value):
        raise ValueError("must not hold a card number")
    return value


def _session_id(value: Any) -> str:
    if not isinstance(value, str) or not _SESSION_ID.fullmatch(value):
        raise ValueError("must be a checkout session id (cs_test_... or cs_live_...)")
    return value


def _number(value: Decimal) -> float:
    """JSON has no decimals. Below 10^13 with at most three decimals the shortest float prints the same digits."""
    return float(value)


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
"""An amount as callers send it, major units."""

AmountOut = Annotated[
    Decimal, PlainSerializer(_number, return_type=float), WithJsonSchema({"type": "number", "exclusiveMinimum": 0})
]
"""An amount as we answer it: major units, a JSON number with no more decimals than the currency has."""

Currency = Annotated[
    str, BeforeValidator(_currency), WithJsonSchema({"type": "string", "pattern": f"^{_CURRENCY.pattern}$"})
]
"""ISO 4217, lower case inside (as Stripe writes it), either case on the way in."""

Url = Annotated[
    str,
    BeforeValidator(_url),
    WithJsonSchema({"type": "string", "format": "uri", "minLength": 1, "maxLength": _MAX_URL_LENGTH}),
]
"""Only the shape; which origins are allowed is the service's setting."""

SessionId = Annotated[
    str, BeforeValidator(_session_id), WithJsonSchema({"type": "string", "pattern": f"^{_SESSION_ID.pattern}$"})
]
"""Stripe's checkout session id, the payment's `transactionId`."""

Sentence = Annotated[str, Field(description="One plain sentence that an end user may read.")]


def is_session_id(value: object) -> bool:
    """Whether the value has the form of a checkout session id."""
    return isinstance(value, str) and _SESSION_ID.fullmatch(value) is not None
