"""The types of parameters.

A schema of types parses the tree of a form and refuses invalid values in Stripe's words, with ``param`` as the place.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Protocol
from urllib.parse import urlsplit

from tools.sandbox import stripe_errors

_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
LONG = 5000
"""Stripe's limit of strings without a limit of their own."""


class Kind(Protocol):
    """The type of a parameter."""

    def parse(self, raw: Any, param: str) -> Any:
        """The value, or ``ApiError`` with ``param``."""


@dataclass(frozen=True, kw_only=True)
class Text:
    """A string; where ``clearable`` an empty one unsets the parameter."""

    most: int = LONG
    choices: tuple[str, ...] = ()
    clearable: bool = False

    def parse(self, raw: Any, param: str) -> str:
        if not isinstance(raw, str):
            raise stripe_errors.invalid("Invalid string: must be a string, not a hash or an array", param)
        if raw == "" and not self.clearable:
            raise stripe_errors.empty(param)
        if len(raw) > self.most:
            shown = f"{raw[:5]}...{raw[-5:]}"
            raise stripe_errors.invalid(f"Invalid string: {shown}; must be at most {self.most} characters", param)
        if self.choices and raw not in self.choices:
            listed = ", ".join(self.choices[:-1]) + f", or {self.choices[-1]}" if self.choices[1:] else self.choices[0]
            raise stripe_errors.invalid(f"Invalid {param}: must be one of {listed}", param)
        return raw


_PLAIN = Text()
_ENDLESS = Text(most=1 << 20)


@dataclass(frozen=True, kw_only=True)
class Whole:
    """An integer within bounds, both inclusive."""

    least: int = 0
    most: int = 2**53

    def parse(self, raw: Any, param: str) -> int:
        value = _PLAIN.parse(raw, param)
        if _INTEGER.fullmatch(value) is None:
            raise stripe_errors.invalid(f"Invalid integer: {value[:40]}", param, "parameter_invalid_integer")
        number = int(value)
        if number < self.least:
            message = f"This value must be greater than or equal to {self.least}."
            raise stripe_errors.invalid(message, param, "parameter_invalid_integer")
        if number > self.most:
            message = f"This value must be less than or equal to {self.most}."
            raise stripe_errors.invalid(message, param, "parameter_invalid_integer")
        return number


@dataclass(frozen=True, kw_only=True)
class Fraction:
    """A decimal number of at least zero with at most 12 places."""

    def parse(self, raw: Any, param: str) -> Decimal:
        value = _PLAIN.parse(raw, param)
        try:
            number = Decimal(value)
        except InvalidOperation:
            raise stripe_errors.invalid(f"Invalid decimal: {value}", param) from None
        if re.fullmatch(r"[0-9]+(\.[0-9]{1,12})?", value) is None:
            message = f"Invalid decimal: {value}; must be at least 0 and have at most 12 decimal places"
            raise stripe_errors.invalid(message, param)
        return number


@dataclass(frozen=True, kw_only=True)
class Flag:
    """``true`` or ``false``; ``on=False`` where the sandbox supports only ``false``."""

    on: bool = True

    def parse(self, raw: Any, param: str) -> bool:
        value = _PLAIN.parse(raw, param)
        if value not in {"true", "false"}:
            raise stripe_errors.invalid(f"Invalid boolean: {value[:40]}", param)
        if value == "true" and not self.on:
            raise stripe_errors.unsupported(param)
        return value == "true"


@dataclass(frozen=True, kw_only=True)
class Url:
    """An absolute web URL of at most 2048 characters."""

    def parse(self, raw: Any, param: str) -> str:
        value = _ENDLESS.parse(raw, param)
        problem = _url_problem(value)
        if problem is not None:
            raise stripe_errors.invalid(problem, param, "url_invalid")
        return value


@lru_cache(maxsize=1024)
def _url_problem(value: str) -> str | None:
    """Cached, because a shop sends the same two URLs with every session."""
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

    def parse(self, raw: Any, param: str) -> str:
        value = _PLAIN.parse(raw, param)
        if re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s.]+", value) is None:
            raise stripe_errors.invalid(f"Invalid email address: {value}", param, "email_invalid")
        return value


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """At most 50 pairs of strings, keys of 40 and values of 500 characters (https://docs.stripe.com/metadata).

    An empty value, or an empty string instead of the pairs, unsets them.
    """

    def parse(self, raw: Any, param: str) -> dict[str, str]:
        """The pairs; empty values are kept, so that an update can unset them."""
        if raw == "":
            return {}
        if not isinstance(raw, dict):
            raise stripe_errors.invalid("Invalid hash: metadata must be a set of key-value pairs", param)
        for key, value in raw.items():
            place = f"{param}[{key}]"
            if not isinstance(value, str):
                raise stripe_errors.invalid(
                    "Metadata values must be strings, and keys may not hold square brackets", place
                )
            if len(key) > 40:  # noqa: PLR2004 - the figure is in the message
                message = f"Metadata keys can be at most 40 characters long: {key[:40]}..."
                raise stripe_errors.invalid(message, param)
            if len(value) > 500:  # noqa: PLR2004 - the figure is in the message
                message = f"Metadata values must be 500 characters or less; the one of '{key}' has {len(value)}"
                raise stripe_errors.invalid(message, place)
        if len(raw) > METADATA_PAIRS:
            raise too_much_metadata(param)
        return dict(raw)


METADATA_PAIRS = 50


def too_much_metadata(param: str) -> stripe_errors.ApiError:
    """The error of more than 50 pairs."""
    return stripe_errors.invalid(f"Metadata can have at most {METADATA_PAIRS} keys", param)


@dataclass(frozen=True, kw_only=True)
class Items:
    """A list, written ``x[0]`` or ``x[]``."""

    of: Kind
    most: int
    least: int = 1

    def parse(self, raw: Any, param: str) -> list[Any]:
        if raw == "":
            raise stripe_errors.empty(param)
        if isinstance(raw, dict) and all(key.isdecimal() for key in raw):
            elements = [raw[key] for key in sorted(raw, key=int)]
        elif isinstance(raw, list):
            elements = raw
        else:
            raise stripe_errors.invalid("Invalid array", param)
        if len(elements) > self.most:
            raise stripe_errors.invalid(f"Array too long: at most {self.most} elements are allowed", param)
        return [self.of.parse(element, f"{param}[{place}]") for place, element in enumerate(elements)]


@dataclass(frozen=True, kw_only=True)
class Hash:
    """Named parameters. Unknown names are refused first, then values, then what is missing."""

    fields: Mapping[str, Kind]
    required: tuple[str, ...] = ()
    scalar: Kind | None = field(default=None)
    """The type of a plain value, where Stripe allows one (``created=123`` beside ``created[gte]=123``)."""

    def parse(self, raw: Any, param: str = "") -> Any:
        if self.scalar is not None and isinstance(raw, str):
            return self.scalar.parse(raw, param)
        if not isinstance(raw, dict):
            raise stripe_errors.empty(param) if raw == "" else stripe_errors.invalid("Invalid hash", param)
        if not raw.keys() <= self.fields.keys():
            raise stripe_errors.unknown([_place(param, name) for name in raw if name not in self.fields])
        values = {name: self.fields[name].parse(value, _place(param, name)) for name, value in raw.items()}
        for name in self.required:
            if name not in values:
                raise stripe_errors.missing(_place(param, name))
        return values


def _place(param: str, name: str) -> str:
    return f"{param}[{name}]" if param else name


@dataclass(frozen=True, kw_only=True)
class Unsupported:
    """A parameter that Stripe supports and the sandbox does not; refused rather than ignored."""

    def parse(self, raw: Any, param: str) -> Any:  # noqa: ARG002 - the protocol's signature
        raise stripe_errors.unsupported(param)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The id of an object of a type that the sandbox does not have."""

    resource: str

    def parse(self, raw: Any, param: str) -> Any:
        raise stripe_errors.no_such(self.resource, _PLAIN.parse(raw, param), param, status=400)
