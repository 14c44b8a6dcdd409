"""Identifiers in Stripe's form and length. Stripe guarantees neither, so nothing may depend on them."""

from base64 import b64encode
from os import urandom


def token(length: int) -> str:
    """Random letters and digits, by base64: choosing single characters takes 20 times as long."""
    return b64encode(urandom(length), altchars=b"aZ").decode()[:length]


def session_id() -> str:
    """66 characters, which is Stripe's limit for the path."""
    return f"cs_test_a1{token(56)}"


def object_id(prefix: str) -> str:
    """``pi_3…``, ``evt_1…``, ``pm_1…``, ``ch_3…`` and the like: prefix, one digit, 23 characters."""
    digit = "3" if prefix in {"pi", "ch"} else "1"
    return f"{prefix}_{digit}{token(23)}"


def short_id(prefix: str) -> str:
    """``req_…`` and ``prod_…``: prefix and 14 characters."""
    return f"{prefix}_{token(14)}"


def client_secret(identifier: str) -> str:
    """A PaymentIntent's client secret."""
    return f"{identifier}_secret_{token(25)}"


def fragment() -> str:
    """The ``#…`` part of a hosted page's URL, about 300 characters."""
    return f"fidkdWxOYHwnPyd1blpxYHZxWjA0{token(240)}%2F{token(24)}%3D%3D"
