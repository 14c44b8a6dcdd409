"""Imports Stripe's SDK without the HTTP libraries that it takes as its defaults; ours hands it aiohttp.

When it is imported it imports requests, which its package requires, and httpx if that is there: 5 MB each, and a tenth
of a second of the start, for clients that nobody here uses. Its own fall-back is Python's urllib.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_UNUSED = ("requests", "httpx")


@contextmanager
def _hidden(*modules: str) -> Iterator[None]:
    """Modules that are not imported yet cannot be, for a while: that is what None in their place says."""
    hidden = [module for module in modules if module not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for module in hidden:
            del sys.modules[module]


with _hidden(*_UNUSED):
    import stripe

__all__ = ["stripe"]
