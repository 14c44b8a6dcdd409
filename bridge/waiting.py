"""Callers who would rather wait for an outcome than come again: `Prefer: wait=N` (RFC 7240), and when they hang up."""

import re
from typing import Final

from bridge.identity import RawHeaders
from contracts import envelope

WATCH: Final = "bridge.watch"
"""Key in the ASGI scope: called with what is to be called once the caller hangs up, or with None, when nobody cares.

To await `receive` instead takes a task, which thousands of callers who wait cannot have each.
"""
HELD: Final = object()
"""What stands there instead once the answer is held: how long that took says nothing about us."""

_ELEMENT: Final = re.compile(r'(?:[^,"]|"(?:\\.|[^"\\])*"?)+')
"""Of a list: what lies between commas, those in quoted strings not counted."""
_PREFERENCE: Final = re.compile(
    r"\s*(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*(?:=\s*(?P<value>\"[^\"]*\"|[^\s;\"]*))?\s*(?:;.*)?", re.DOTALL
)
"""A name, perhaps a value, perhaps parameters, of which `wait` has none."""


def wait_seconds(headers: RawHeaders) -> int:
    """How long the caller would wait, in whole seconds up to `envelope.MAX_WAIT_SECONDS`; 0 if it did not say so.

    A preference is a wish: what cannot be understood is passed over, and of one that is given twice the first counts.
    """
    given = ",".join(value.decode("latin-1") for name, value in headers if name == b"prefer")
    for element in _ELEMENT.findall(given):
        preference = _PREFERENCE.fullmatch(element)
        if preference is not None and preference["name"].lower() == "wait":
            return envelope.wait_seconds((preference["value"] or "").strip('"'))
    return 0
