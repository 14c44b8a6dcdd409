"""Tokens that are good in every allowed way, and tokens that are wrong in one way each."""

import hashlib
import hmac
import json
from collections.abc import Callable
from functools import partial
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt import api_jws

from tests.integration.bridge.issuer import AUDIENCE, ISSUER, claims, ec_key, encoded, jwk, rsa_key, token

GOOD_TOKENS: dict[str, Callable[[], str]] = {
    "P-256": token,
    "RSA": lambda: token(rsa_key("rsa-1"), kid="rsa-1", alg="RS256"),
    "no iat": lambda: token(iat=None),
    "clock ahead of ours": lambda: token(iat=15, nbf=15, exp=315),
    "clock behind ours": lambda: token(iat=-310, exp=-10),
    "five minutes": lambda: token(exp=300),
    "several audiences": lambda: token(aud=["other", AUDIENCE]),
    "scp as a list": lambda: token(scope=None, scp=["payments:read", "payments:create"]),
    "scp as words": lambda: token(scope=None, scp="payments:read payments:create"),
    "both": lambda: token(scope="payments:read", scp=["payments:create"]),
    "longest subject": lambda: token(sub="s" * 128),
    "own jku": lambda: token(header={"jku": "https://evil.example/keys", "x5u": "https://evil.example/x"}),
}


def unsigned(alg: Any, **header: Any) -> str:
    return f"{encoded({'alg': alg, 'kid': 'ec-1', 'typ': 'JWT'} | header)}.{encoded(claims())}."


def with_hmac(secret: bytes, kid: str) -> str:
    """HS256 with what everybody may know as the secret."""
    signed = f"{encoded({'alg': 'HS256', 'kid': kid})}.{encoded(claims())}"
    return f"{signed}.{encoded(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


def public_pem(key: Any) -> bytes:
    pem: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem


def altered(**changes: Any) -> str:
    """A good token's signature under other claims."""
    head, _, signature = token().split(".")
    return f"{head}.{encoded(claims() | changes)}.{signature}"


def resigned(number: int) -> str:
    head, payload, _ = token().split(".")
    return f"{head}.{payload}.{encoded(bytes([number]) * 64)}"


def signed(payload: bytes) -> str:
    """Anything, with a good signature."""
    return api_jws.encode(payload, ec_key("ec-1"), "ES256", headers={"kid": "ec-1"})


def signed_text(member: str) -> str:
    return signed(json.dumps(claims()).removesuffix("}").encode() + b"," + member.encode() + b"}")


def altered_text(name: str) -> str:
    content = claims()
    return signed(json.dumps(content | {name: str(content[name])}).encode())


WRONG_CLAIMS: list[dict[str, Any]] = [
    *({"iss": value} for value in (None, "https://evil.example", f"{ISSUER}/")),
    *({"aud": value} for value in (None, "booking-service", ["payment", "payment-service-2"], [])),
    *({"sub": value} for value in (None, "", "booking service", "b\u00fccher", "s" * 129)),
    {"sub": "a\r\nX-User-Roles: SERVICE_ACCOUNT"},
    # none, over, not yet begun
    *({"exp": None}, {"iat": -200, "exp": -40}, {"iat": -90000, "exp": -86400}),
    *({"nbf": 120}, {"iat": 86400, "exp": 86500}),
    # too long: an hour, without iat, ahead of our clock, near its end
    *({"exp": 3600}, {"exp": 3600, "iat": None}, {"iat": 28, "exp": 350}, {"iat": -3500, "exp": 100}),
]
WRONG_MEMBERS = ['"exp":NaN', '"exp":1e999', '"sub":7', '"scope":["payments:create","payments:read"]']
FORGED: dict[str, Callable[[], str]] = {
    # S2 and its kin: the algorithm and the signature
    "alg none": lambda: unsigned("none"),
    "alg None": lambda: unsigned("None"),
    "alg empty": lambda: unsigned(""),
    "alg missing": lambda: f"{encoded({'kid': 'ec-1'})}.{encoded(claims())}.",
    "alg null": lambda: unsigned(None),
    "alg list": lambda: unsigned(["ES256"]),
    "none with a signature": lambda: unsigned("none") + "AAAA",
    "HS256 with the RSA key": lambda: with_hmac(public_pem(rsa_key("rsa-1")), "rsa-1"),
    "HS256 with the EC key": lambda: with_hmac(public_pem(ec_key("ec-1")), "ec-1"),
    "HS256 with the key set's modulus": lambda: with_hmac(jwk("", rsa_key("rsa-1"))["n"].encode(), "rsa-1"),
    "HS256 with nothing": lambda: with_hmac(b"", "ec-1"),
    "RS256 under the EC key's id": lambda: token(rsa_key("rsa-1"), alg="RS256"),
    "ES256 under the RSA key's id": lambda: token(kid="rsa-1"),
    "PS256": lambda: token(rsa_key("rsa-1"), kid="rsa-1", alg="PS256"),
    "RS512": lambda: token(rsa_key("rsa-1"), kid="rsa-1", alg="RS512"),
    "ES384": lambda: token(ec_key("p384", ec.SECP384R1), alg="ES384"),
    "stripped signature": lambda: token().rpartition(".")[0] + ".",
    "no signature": lambda: token().rpartition(".")[0],
    "cut signature": lambda: token()[:-10],
    "signature of zeros": lambda: resigned(0),  # CVE-2022-21449
    "signature of ones": lambda: resigned(255),
    "another's key": lambda: token(ec_key("stranger")),
    "other claims": lambda: altered(sub="admin"),
    "a later end": lambda: altered(exp=4102444800),
    # the key
    "unknown kid": lambda: token(ec_key("stranger"), kid="stranger"),
    "no kid": lambda: token(kid=None),
    "kid empty": lambda: token(kid=""),
    "kid of another kind": lambda: f"{encoded({'alg': 'ES256', 'kid': 7})}.{encoded(claims())}.AAAA",
    "kid a path": lambda: token(ec_key("stranger"), kid="../../dev/null"),
    "jwk inside": lambda: token(ec_key("stranger"), header={"jwk": jwk("ec-1", ec_key("stranger"))}),
    "x5c inside": lambda: token(ec_key("stranger"), header={"x5c": ["MIIB"]}),
    "crit": lambda: token(header={"crit": ["exp"]}),
    "crit b64": lambda: token(header={"crit": ["b64"], "b64": True}),
    # the claims
    **{f"claims {number}: {changes}"[:60]: partial(token, **changes) for number, changes in enumerate(WRONG_CLAIMS)},
    "exp as text": lambda: altered_text("exp"),
    **{f"signed {member}": partial(signed_text, member) for member in WRONG_MEMBERS},
    # no tokens at all
    "one part": lambda: "token",
    "four parts": lambda: f"{token()}.x",
    "five parts": lambda: ".".join([encoded({"alg": "dir", "enc": "A256GCM", "kid": "ec-1"}), "", "a", "b", "c"]),
    "not base64": lambda: "\u00e9.\u00e9.\u00e9",
    "header a list": lambda: f"{encoded([])}.{encoded(claims())}.AAAA",
    "header deep": lambda: f"{encoded(b'[' * 3000)}.{encoded(claims())}.AAAA",
    "claims a list": lambda: signed(b"[]"),
    "claims not JSON": lambda: signed(b"{"),
    "claims empty": lambda: signed(b"{}"),
}
