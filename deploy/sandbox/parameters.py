"""The kinds of parameters.

A schema made of kinds reads the tree that a form becomes, and whatever does not fit is refused in Stripe's words, with
``param`` naming the place.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Protocol
from urllib.parse import urlsplit

from deploy.sandbox import errors

_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
LONG = 5000
"""Stripe's limit for strings that have no other."""


class Kind(Protocol):
    """What one parameter may be."""

    def read(self, raw: Any, param: str) -> Any:
        """The value, or ``ApiError`` with ``param``."""


@dataclass(frozen=True, kw_only=True)
class Text:
    """A string; ``clearable`` where an empty one is allowed and unsets."""

    most: int = LONG
    choices: tuple[str, ...] = ()
    clearable: bool = False

    def read(self, raw: Any, param: str) -> str:
        """The string as it was sent."""
        if not isinstance(raw, str):
            raise errors.invalid("Invalid string: must be a string, not a hash or an array", param)
        if raw == "" and not self.clearable:
            raise errors.empty(param)
        if len(raw) > self.most:
            shown = f"{raw[:5]}...{raw[-5:]}"
            raise errors.invalid(f"Invalid string: {shown}; must be at most {self.most} characters", param)
        if self.choices and raw not in self.choices:
            listed = ", ".join(self.choices[:-1]) + f", or {self.choices[-1]}" if self.choices[1:] else self.choices[0]
            raise errors.invalid(f"Invalid {param}: must be one of {listed}", param)
        return raw


_PLAIN = Text()
_ENDLESS = Text(most=1 << 20)


@dataclass(frozen=True, kw_only=True)
class Whole:
    """An integer within bounds, both inclusive."""

    least: int = 0
    most: int = 2**53

    def read(self, raw: Any, param: str) -> int:
        """The integer."""
        value = _PLAIN.read(raw, param)
        if _INTEGER.fullmatch(value) is None:
            raise errors.invalid(f"Invalid integer: {value[:40]}", param, "parameter_invalid_integer")
        number = int(value)
        if number < self.least:
            message = f"This value must be greater than or equal to {self.least}."
            raise errors.invalid(message, param, "parameter_invalid_integer")
        if number > self.most:
            message = f"This value must be less than or equal to {self.most}."
            raise errors.invalid(message, param, "parameter_invalid_integer")
        return number


@dataclass(frozen=True, kw_only=True)
class Fraction:
    """A decimal number of at least zero with at most 12 places."""

    def read(self, raw: Any, param: str) -> Decimal:
        """The exact decimal."""
        value = _PLAIN.read(raw, param)
        try:
            number = Decimal(value)
        except InvalidOperation:
            raise errors.invalid(f"Invalid decimal: {value}", param) from None
        if re.fullmatch(r"[0-9]+(\.[0-9]{1,12})?", value) is None:
            message = f"Invalid decimal: {value}; must be at least 0 and have at most 12 decimal places"
            raise errors.invalid(message, param)
        return number


@dataclass(frozen=True, kw_only=True)
class Flag:
    """``true`` or ``false``; ``on=False`` where the sandbox can only do without."""

    on: bool = True

    def read(self, raw: Any, param: str) -> bool:
        """The boolean."""
        value = _PLAIN.read(raw, param)
        if value not in {"true", "false"}:
            raise errors.invalid(f"Invalid boolean: {value[:40]}", param)
        if value == "true" and not self.on:
            raise errors.unsupported(param)
        return value == "true"


@dataclass(frozen=True, kw_only=True)
class Url:
    """An absolute address of the web, at most 2048 characters."""

    def read(self, raw: Any, param: str) -> str:
        """The address as it was sent."""
        value = _ENDLESS.read(raw, param)
        problem = _url_problem(value)
        if problem is not None:
            raise errors.invalid(problem, param, "url_invalid")
        return value


@lru_cache(maxsize=1024)
def _url_problem(value: str) -> str | None:
    """Remembered, because a shop sends the same two addresses with every session."""
    if len(value) > 2048:  # noqa: PLR2004 - the figure is in the message
        return "Invalid URL: URL must be 2048 characters or less."
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", value) is None or re.match(r"[^/:]+:[0-9]+(/|$)", value):
        return "Invalid URL: An explicit scheme (such as https) must be provided."
    return None if _is_web_address(value) else "Not a valid URL"


def _is_web_address(value: str) -> bool:
    if re.search(r"[\s\x00-\x1f\x7f\\<>\"]", value):
        return False
    try:
        parts = urlsplit(value)
        return parts.scheme.lower() in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


@dataclass(frozen=True, kw_only=True)
class Email:
    """An address with one @ and a domain."""

    def read(self, raw: Any, param: str) -> str:
        """The address as it was sent."""
        value = _PLAIN.read(raw, param)
        if re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s.]+", value) is None:
            raise errors.invalid(f"Invalid email address: {value}", param, "email_invalid")
        return value


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """At most 50 pairs of strings, keys of 40 and values of 500 characters (https://docs.stripe.com/metadata).

    An empty value, or an empty string instead of the pairs, unsets; the caller sees it as ``""``.
    """

    def read(self, raw: Any, param: str) -> dict[str, str]:
        """The pairs; empty values are still there, so that an update can unset them."""
        if raw == "":
            return {}
        if not isinstance(raw, dict):
            raise errors.invalid("Invalid hash: metadata must be a set of key-value pairs", param)
        for key, value in raw.items():
            place = f"{param}[{key}]"
            if not isinstance(value, str):
                raise errors.invalid("Metadata values must be strings, and keys may not hold square brackets", place)
            if len(key) > 40:  # noqa: PLR2004 - the figure is in the message
                message = f"Metadata keys can be at most 40 characters long: {key[:40]}..."
                raise errors.invalid(message, param)
            if len(value) > 500:  # noqa: PLR2004 - the figure is in the message
                message = f"Metadata values must be 500 characters or less; the one of '{key}' has {len(value)}"
                raise errors.invalid(message, place)
        if len(raw) > METADATA_PAIRS:
            raise too_much_metadata(param)
        return dict(raw)


METADATA_PAIRS = 50


def too_much_metadata(param: str) -> errors.ApiError:
    """The refusal of a 51st pair."""
    return errors.invalid(f"Metadata can have at most {METADATA_PAIRS} keys", param)


@dataclass(frozen=True, kw_only=True)
class Items:
    """A list, written ``x[0]`` or ``x[]``."""

    of: Kind
    most: int
    least: int = 1

    def read(self, raw: Any, param: str) -> list[Any]:
        """The elements in the order of their indexes."""
        if raw == "":
            raise errors.empty(param)
        if isinstance(raw, dict) and all(key.isdecimal() for key in raw):
            elements = [raw[key] for key in sorted(raw, key=int)]
        elif isinstance(raw, list):
            elements = raw
        else:
            raise errors.invalid("Invalid array", param)
        if len(elements) > self.most:
            raise errors.invalid(f"Array too long: at most {self.most} elements are allowed", param)
        return [self.of.read(element, f"{param}[{place}]") for place, element in enumerate(elements)]


@dataclass(frozen=True, kw_only=True)
class Hash:
    """Named parameters. Unknown names are refused first, then values, then what is missing."""

    fields: Mapping[str, Kind]
    required: tuple[str, ...] = ()
    scalar: Kind | None = field(default=None)
    """What a plain value means, where Stripe allows one (``created=123`` beside ``created[gte]=123``)."""

    def read(self, raw: Any, param: str = "") -> Any:
        """The values that were sent, by name."""
        if self.scalar is not None and isinstance(raw, str):
            return self.scalar.read(raw, param)
        if not isinstance(raw, dict):
            raise errors.empty(param) if raw == "" else errors.invalid("Invalid hash", param)
        if not raw.keys() <= self.fields.keys():
            raise errors.unknown([_place(param, name) for name in raw if name not in self.fields])
        values = {name: self.fields[name].read(value, _place(param, name)) for name, value in raw.items()}
        for name in self.required:
            if name not in values:
                raise errors.missing(_place(param, name))
        return values


def _place(param: str, name: str) -> str:
    return f"{param}[{name}]" if param else name


@dataclass(frozen=True, kw_only=True)
class Unsupported:
    """Stripe takes this parameter; the sandbox cannot play what it asks for and says so, rather than ignore it."""

    def read(self, raw: Any, param: str) -> Any:  # noqa: ARG002 - a kind's signature
        """Never a value."""
        raise errors.unsupported(param)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The id of an object that this account cannot have, because the sandbox makes none of its type."""

    resource: str

    def read(self, raw: Any, param: str) -> Any:
        """Never a value: Stripe's answer for an id that does not exist."""
        raise errors.no_such(self.resource, _PLAIN.read(raw, param), param, status=400)
