import asyncio
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from jwt import api_jws

from bridge import jwt_auth
from bridge.auth import Permission
from bridge.errors import INVALID_TOKEN, BridgeError, insufficient_scope
from bridge.jwks import JwksCache
from bridge.jwt_auth import JwtAuth
from tests.integration.bridge.issuer import AUDIENCE, ISSUER, claims, ec_key, encoded, jwk, key_set, token
from tests.kit.bridge import MachineClock

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "alg": st.sampled_from(["none", "HS256", "RS256", "ES256"]) | JSON,
        "kid": st.sampled_from(["ec-1", "rsa-1"]) | JSON,
        **dict.fromkeys(("typ", "crit", "b64", "jku", "jwk", "x5u", "x5c", "zip", "enc"), JSON),
    },
)
CLAIMS = st.fixed_dictionaries({}, optional=dict.fromkeys(("iss", "aud", "sub", "exp", "iat", "nbf", "scope"), JSON))


async def keys() -> bytes:
    return key_set(jwk("ec-1", ec_key("ec-1")))


def outcomes(*shown: str) -> list[Any]:
    """The caller or the refusal that each token in `Authorization` leads to."""

    async def ask() -> list[Any]:
        async with JwksCache(keys, rest_seconds=3600) as cache:
            auth = JwtAuth(cache, issuer=ISSUER, audience=AUDIENCE, clock=MachineClock())
            found: list[Any] = []
            for each in shown:
                try:
                    headers = [(b"authorization", b"Bearer " + each.encode("latin-1", "replace"))]
                    found.append(await auth.authenticate(headers, Permission.READ))
                except BridgeError as error:
                    found.append(error.refusal.message)
            assert len(auth._valid) <= jwt_auth.MAX_REMEMBERED
            return found

    return asyncio.run(ask())


@given(HEADERS | JSON, CLAIMS | JSON, st.binary(max_size=64))
@settings(max_examples=200, deadline=None)
def test_any_header_and_any_claims_without_a_signature_are_refused(header: Any, content: Any, signature: bytes) -> None:
    assert outcomes(f"{encoded(header)}.{encoded(content)}.{encoded(signature)}") == [INVALID_TOKEN.message]


@given(CLAIMS.filter(len))
@settings(max_examples=100, deadline=None)
def test_strange_claims_under_a_good_signature_break_nothing(changes: dict[str, Any]) -> None:
    """Whatever the issuer writes; a value that happens to be good is let in."""
    shown = api_jws.encode(json.dumps(claims() | changes).encode(), ec_key("ec-1"), "ES256", headers={"kid": "ec-1"})
    refused = [INVALID_TOKEN.message, insufficient_scope(Permission.READ).message]
    assert outcomes(shown)[0] in [*refused, changes.get("sub", "booking-service")]


def test_more_tokens_than_are_remembered_are_all_let_in() -> None:
    shown = [token(sub=f"service-{number}") for number in range(jwt_auth.MAX_REMEMBERED + 20)]
    assert outcomes(*shown, *shown[:20]) == [f"service-{number}" for number in [*range(len(shown)), *range(20)]]
