"""`Prefer: wait=N` (RFC 7240): callers who would rather wait for an outcome than poll, and how they hang up."""

import re
from typing import Final

from bridge.auth import RawHeaders
from contracts import envelope

WATCH: Final = "bridge.watch"
"""Key in the ASGI scope: a function that takes what to call once the caller hangs up, or None to forget it.

To await `receive` instead takes a task, and thousands of callers may wait.
"""
LONG_POLL: Final = object()
"""Replaces that value once the request is a long poll, whose duration says nothing about us."""

_ELEMENT: Final = re.compile(r'(?:[^,"]|"(?:\\.|[^"\\])*"?)+')
"""An element of a list: what lies between commas, those in quoted strings not counted."""
_PREFERENCE: Final = re.compile(
    r"\s*(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*(?:=\s*(?P<value>\"[^\"]*\"|[^\s;\"]*))?\s*(?:;.*)?", re.DOTALL
)
"""A name, perhaps a value, perhaps parameters, of which `wait` has none."""


def wait_seconds(headers: RawHeaders) -> int:
    """How long the caller would wait, in whole seconds up to `envelope.MAX_WAIT_SECONDS`; 0 without the preference.

    A preference is a wish: one that cannot be understood is ignored, and of a repeated one the first counts.
    """
    given = ",".join(value.decode("latin-1") for name, value in headers if name == b"prefer")
    for element in _ELEMENT.findall(given):
        preference = _PREFERENCE.fullmatch(element)
        if preference is not None and preference["name"].lower() == "wait":
            return envelope.wait_seconds((preference["value"] or "").strip('"'))
    return 0
