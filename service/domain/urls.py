"""Where a payer may be sent back to: only to origins that the settings name."""

import re
from typing import Final

from service.domain.errors import InvalidRequestError

# Deliberately narrower than RFC 3986: what browsers and parsers read differently (user info, backslashes, encoded or
# international host names, blanks) is refused, so there is one reading only; and what Stripe calls no URL (" < >).
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::(?P<port>[0-9]{1,5}))?(?:[/?#][!#-;=?-\[\]-~]*)?",
    re.ASCII | re.IGNORECASE,
)
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}


def origin(url: str) -> str | None:
    """`scheme://host:port` of an absolute http(s) URL, normalised; None if the text is not plainly one."""
    match = _URL.fullmatch(url)
    if match is None:
        return None
    scheme = match["scheme"].lower()
    port = (match["port"] or _DEFAULT_PORTS[scheme]).lstrip("0")
    return f"{scheme}://{match['host'].lower()}:{port}"


def allowed(url: str, *, field: str, origins: frozenset[str]) -> str:
    """The URL itself if its origin is one of `origins`.

    Raises:
        InvalidRequestError: it is not; the message names the field and not the value.
    """
    if origin(url) not in origins:
        raise InvalidRequestError(f"{field} must be an absolute URL on one of the allowed origins.")
    return url
