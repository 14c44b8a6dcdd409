"""Return URLs of payers: only those on origins that the settings allow."""

import re
from typing import Final

from service.domain.errors import InvalidRequestError

# Deliberately narrower than RFC 3986. It refuses what browsers and parsers interpret differently (user info,
# backslashes, encoded or international host names, blanks), and what Stripe does not accept as a URL (" < >).
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::(?P<port>[0-9]{1,5}))?(?:[/?#][!#-;=?-\[\]-~]*)?",
    re.ASCII | re.IGNORECASE,
)
_SESSION_ID: Final = "{CHECKOUT_SESSION_ID}"
"""Stripe fills in this, exactly so and in the success URL only; the payer would meet other spellings as they are."""
_SPELLINGS = re.compile(
    r"(?:[{<\[]|%7b|\$)+[ _]*checkout[-_ ]?session[-_ ]?id[ _]*(?:[}>\]]|%7d)*", re.ASCII | re.IGNORECASE
)
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}
_UNFILLED: Final = {
    "successUrl": f"successUrl must spell {_SESSION_ID} exactly so: nothing else is filled in.",
    "cancelUrl": f"cancelUrl must not hold {_SESSION_ID}: it is filled in in successUrl only.",
}


def origin(url: str) -> str | None:
    """The normalised `scheme://host:port` of an absolute http(s) URL; None if the text is not plainly one."""
    match = _URL.fullmatch(url)
    if match is None:
        return None
    scheme = match["scheme"].lower()
    port = (match["port"] or _DEFAULT_PORTS[scheme]).lstrip("0")
    return f"{scheme}://{match['host'].lower()}:{port}"


def success(url: str) -> str | None:
    """The origin of a success URL; None as well if Stripe would not fill in the session id as it is spelt there."""
    return origin(url) if all(found == _SESSION_ID for found in _SPELLINGS.findall(url)) else None


def cancel(url: str) -> str | None:
    """The origin of a cancel URL; None as well if it asks for the session id, which Stripe does not fill in there."""
    return None if _SPELLINGS.search(url) else origin(url)


def allowed(url: str, *, field: str, origins: frozenset[str]) -> str:
    """The URL itself if its origin is allowed; otherwise InvalidRequestError, which names the field, not the value."""
    found = origin(url)
    if found not in origins:
        raise InvalidRequestError(f"{field} must be an absolute URL on one of the allowed origins.")
    if (success(url) if field == "successUrl" else cancel(url)) is None:
        raise InvalidRequestError(_UNFILLED[field])
    return url
