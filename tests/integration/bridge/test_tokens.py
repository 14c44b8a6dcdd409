"""Service tokens: what is forged, stale, for others, or for less than the call. X-User-* headers grant nothing."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from bridge.app import create_app
from bridge.keys import KeyRing, source_at
from bridge.rates import RateLimit, RateLimits
from bridge.requester import Requester
from bridge.tokens import ServiceTokens
from contracts import envelope
from tests.integration.bridge.conftest import BASE, IDENTITY
from tests.integration.bridge.forgeries import FORGED, GOOD_TOKENS
from tests.integration.bridge.issuer import (
    AUDIENCE,
    ISSUER,
    bearer,
    both_keys,
    ec_key,
    jwk,
    key_server,
    key_set,
    token,
)
from tests.integration.bridge.peer import Peer

GOOD = {"bookingId": 4711, "userId": 42, "amount": 540.9}
READ = f"{BASE}/status/cs_test_a1"
ROUTES = {
    "create": ("POST", f"{BASE}/checkout/create"),
    "verify": ("GET", f"{BASE}/checkout/verify/cs_test_a1"),
    "status": ("GET", READ),
}


@pytest.fixture
async def app(requester: Requester, tmp_path: Path) -> AsyncIterator[FastAPI]:
    """In mode `jwt`, with an RSA and a P-256 key in a file."""
    (tmp_path / "keys.json").write_bytes(both_keys())
    async with KeyRing(source_at(str(tmp_path / "keys.json"))) as ring:
        yield create_app(requester, identity=ServiceTokens(ring, issuer=ISSUER, audience=AUDIENCE))


async def call(client: httpx.AsyncClient, route: str, headers: dict[str, str]) -> httpx.Response:
    """The client's own headers claim the platform's identity in every call."""
    method, path = ROUTES[route]
    return await client.request(method, path, json=GOOD if method == "POST" else None, headers=headers)


# --- good tokens ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_a_good_token_is_let_in_and_its_subject_is_the_caller(
    client: httpx.AsyncClient, peer: Peer, scheme: str
) -> None:
    """Though the platform's headers name somebody else, and need not be there at all."""
    headers = {"Authorization": f"{scheme} {token()}"}
    assert (await call(client, "create", headers)).status_code == 200
    client.headers = httpx.Headers()
    for route in ROUTES:
        assert (await call(client, route, headers)).status_code == 200
    assert {command.headers[envelope.CALLER] for command in peer.commands} == {"booking-service"}


async def test_every_form_of_a_good_token_is_let_in(client: httpx.AsyncClient) -> None:
    answers = {name: (await call(client, "create", bearer(make()))).status_code for name, make in GOOD_TOKENS.items()}
    assert answers == dict.fromkeys(GOOD_TOKENS, 200)


# --- forged ones ------------------------------------------------------------------------------------------------------


async def test_no_forged_token_comes_in_whatever_the_headers_say(client: httpx.AsyncClient, peer: Peer) -> None:
    """S1, S2: every variant on a creating and on a reading route, with `X-User-Roles: SERVICE_ACCOUNT` beside it."""
    assert client.headers["X-User-Roles"] == IDENTITY["X-User-Roles"]
    answers = {}
    for name, make in FORGED.items():
        for route in ("create", "status"):
            forged = make().encode("latin-1")
            answer = await call(client, route, {"Authorization": b"Bearer " + forged})  # type: ignore[dict-item]
            answers[name, route] = (answer.status_code, answer.headers.get("www-authenticate"))
            assert answer.json()["paymentStatus"] == "UNAUTHORIZED", name
            assert answer.headers["content-type"] == "application/problem+json"
    expected = (401, 'Bearer realm="payments", error="invalid_token"')
    assert {name: answer for name, answer in answers.items() if answer != expected} == {}
    assert len(answers) >= 2 * 60
    assert peer.commands == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic dXNlcjpwYXNz"},
        {"Authorization": "Token abc"},
        {"Authorization": "SERVICE_ACCOUNT"},
        {"X-Authorization": "Bearer x"},
        {"Cookie": "access_token=x"},
        {"Proxy-Authorization": "Bearer x"},
    ],
)
async def test_without_a_token_the_platform_headers_grant_nothing(
    client: httpx.AsyncClient, peer: Peer, headers: dict[str, str]
) -> None:
    """S1: the challenge names the scheme, and no error, as nothing was shown (RFC 6750 §3.1)."""
    for route in ROUTES:
        answer = await call(client, route, headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="payments"')
        assert answer.json()["paymentStatus"] == "UNAUTHORIZED"
    assert peer.commands == []


async def test_a_token_anywhere_else_or_twice_is_none(client: httpx.AsyncClient, peer: Peer) -> None:
    good = token()
    answer = await client.get(READ, params={"access_token": good})
    assert answer.status_code == 401
    twice = [("Authorization", f"Bearer {good}"), ("Authorization", f"Bearer {good}")]
    assert (await client.get(READ, headers=twice)).status_code == 400
    assert peer.commands == []


async def test_the_address_that_a_token_names_is_never_asked(client: httpx.AsyncClient, peer: Peer) -> None:
    """S2 jku, x5u: the forger's own server has the right key, and hears nothing."""
    key = ec_key("stranger")
    async with key_server(key_set(jwk("stranger", key), jwk("ec-1", key))) as forger:
        for kid, name in itertools.product(("stranger", "ec-1"), ("jku", "x5u")):
            forged = token(key, kid=kid, header={name: forger.url})
            assert (await client.get(READ, headers=bearer(forged))).status_code == 401
    assert (forger.requests, peer.commands) == ([], [])


async def test_what_was_let_in_once_is_let_in_no_longer_than_it_lives(client: httpx.AsyncClient) -> None:
    """A remembered token, too. This one lives for the last second of the allowed difference between clocks."""

    async def status(held: str) -> int:
        return (await client.get(READ, headers=bearer(held))).status_code

    async with asyncio.timeout(60):
        held = token(exp=-28)
        while await status(held) != 200:  # on a machine that stalled for a second
            held = token(exp=-28)
        while await status(held) == 200:  # noqa: ASYNC110 - what is waited for is time itself
            await asyncio.sleep(0.1)
    assert await status(held) == 401


# --- scopes -----------------------------------------------------------------------------------------------------------


SCOPES: dict[str, set[str]] = {
    "payments:create payments:read": {"create", "verify", "status"},
    "payments:read payments:create openid": {"create", "verify", "status"},
    "payments:create": {"create"},
    "payments:read": {"verify", "status"},
    "openid payments:read": {"verify", "status"},
    "": set(),
    "openid profile": set(),
    "payments": set(),
    "payments:*": set(),
    "*": set(),
    "payments:admin payments:write payments:verify": set(),
    "payments:create,payments:read": set(),
    "PAYMENTS:CREATE Payments:Read": set(),
    "xpayments:create payments:reads": set(),
    "payments.create payments.read": set(),
    "SERVICE_ACCOUNT": set(),
}


@pytest.mark.parametrize("claim", ["scope", "scp", "scp as a list"])
async def test_each_scope_opens_its_routes_and_no_other(client: httpx.AsyncClient, peer: Peer, claim: str) -> None:
    """S3: the whole table of scopes and routes, 0 wrong allows; the refusal names what would be needed."""
    needed = {"create": "payments:create", "verify": "payments:read", "status": "payments:read"}
    for words, allowed in SCOPES.items():
        given = (
            {"scope": words} if claim == "scope" else {"scope": None, "scp": words if claim == "scp" else words.split()}
        )
        opened = set()
        for route, scope in needed.items():
            answer = await call(client, route, bearer(token(**given)))
            if answer.status_code == 200:
                opened.add(route)
                continue
            assert (answer.status_code, answer.json()["paymentStatus"]) == (403, "FORBIDDEN")
            challenge = f'Bearer realm="payments", error="insufficient_scope", scope="{scope}"'
            assert answer.headers["www-authenticate"] == challenge
        assert opened == allowed, words
    assert len(peer.commands) == sum(map(len, SCOPES.values()))


async def test_a_service_has_one_rate_limit_whatever_tokens_it_shows(
    requester: Requester, peer: Peer, tmp_path: Path
) -> None:
    """Nor whatever user it names; calls that its token does not allow use up nothing."""
    (tmp_path / "keys.json").write_bytes(both_keys())
    rates = RateLimits(callers=RateLimit(per_second=1e-6, burst=3))
    async with KeyRing(source_at(str(tmp_path / "keys.json"))) as ring:
        app = create_app(requester, identity=ServiceTokens(ring, issuer=ISSUER, audience=AUDIENCE), rates=rates)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://bridge") as client:
            for _ in range(5):
                assert (await call(client, "status", bearer(token(scope="")))).status_code == 403
            asked = [
                await call(client, "status", bearer(token(jti=str(number))) | {"X-User-Id": str(number)})
                for number in range(1, 6)
            ]
            assert [answer.status_code for answer in asked] == [200, 200, 200, 429, 429]
            assert (await call(client, "status", bearer(token(sub="other")))).status_code == 200
    assert len(peer.commands) == 4


async def test_health_asks_for_no_token(client: httpx.AsyncClient) -> None:
    for path in ("/actuator/health/liveness", "/actuator/health/readiness"):
        assert (await client.get(path, headers=bearer("forged"))).status_code == 200


ROLES: dict[str | None, bool] = {
    "SERVICE_ACCOUNT": True,
    "USER,SERVICE_ACCOUNT": True,
    "ADMIN, SERVICE_ACCOUNT ,USER": True,
    None: False,
    "": False,
    "USER": False,
    "ADMIN": False,
    "ADMIN,USER,THEATER_OWNER": False,
    "service_account": False,
    "ROLE_SERVICE_ACCOUNT": False,
    "SERVICE_ACCOUNT_READ": False,
    "SERVICE_ACCOUNT;USER": False,
    "USER SERVICE_ACCOUNT": False,
    "*": False,
    "payments:create payments:read": False,
}


async def test_each_role_opens_all_routes_or_none(requester: Requester, peer: Peer) -> None:
    """S3 in mode `headers`: the whole table of roles and routes, 0 wrong allows. A token is not even read."""
    transport = httpx.ASGITransport(create_app(requester))
    async with httpx.AsyncClient(transport=transport, base_url="http://bridge", headers=bearer(token())) as client:
        for roles, is_allowed in ROLES.items():
            headers = {"X-User-Id": "7"} | ({} if roles is None else {"X-User-Roles": roles})
            statuses = {(await call(client, route, headers)).status_code for route in ROUTES}
            assert statuses == {200 if is_allowed else 403 if roles else 401}, roles
        anonymous = await call(client, "status", {})
    assert (anonymous.status_code, anonymous.headers["www-authenticate"]) == (401, 'PlatformHeaders realm="payments"')
    assert len(peer.commands) == len(ROUTES) * sum(ROLES.values())
