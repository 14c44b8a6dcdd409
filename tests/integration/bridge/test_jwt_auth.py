"""Service tokens: what is forged, stale, for others, or for less than the call. X-User-* headers grant nothing."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from bridge.jwks import JwksCache, source_at
from bridge.jwt_auth import JwtAuth
from bridge.rate_limit import RateLimit
from bridge.rpc_client import RpcClient
from bridge.service_clock import ServiceClock
from bridge.token_clock import TokenClock
from contracts import envelope
from tests.integration.bridge.conftest import BASE, IDENTITY, client_of, until
from tests.integration.bridge.forgeries import FORGED, GOOD_TOKENS
from tests.integration.bridge.issuer import AUDIENCE, ISSUER, bearer, both_keys, ec_key, jwk, key_server, key_set, token
from tests.integration.bridge.peer import Peer
from tests.kit.bridge import an_app, an_rpc_client, rate_limits

GOOD = {"bookingId": 4711, "userId": 42, "amount": 540.9}
READ = f"{BASE}/status/cs_test_a1"
ROUTES = {
    "create": ("POST", f"{BASE}/checkout/create"),
    "verify": ("GET", f"{BASE}/checkout/verify/cs_test_a1"),
    "status": ("GET", READ),
}


@pytest.fixture
async def authenticator(tmp_path: Path, rpc_client: RpcClient, peer: Peer) -> AsyncIterator[JwtAuth]:
    """With an RSA and a P-256 key in a file, and with the service's clock, which was asked for."""
    (tmp_path / "keys.json").write_bytes(both_keys())
    async with JwksCache(source_at(str(tmp_path / "keys.json"))) as cache:
        clock = TokenClock(rpc_client=rpc_client)
        peer.is_dated = True
        await until(lambda: rpc_client.ready)
        await clock.asked()
        peer.commands.clear()
        yield JwtAuth(cache, issuer=ISSUER, audience=AUDIENCE, clock=clock)


@pytest.fixture
async def app(rpc_client: RpcClient, authenticator: JwtAuth) -> FastAPI:
    return an_app(rpc_client, authenticator=authenticator)


async def call(client: httpx.AsyncClient, route: str, headers: dict[str, str]) -> httpx.Response:
    """The client's own headers claim the platform's identity in every call."""
    method, path = ROUTES[route]
    return await client.request(method, path, json=GOOD if method == "POST" else None, headers=headers)


# --- good tokens ------------------------------------------------------------------------------------------------------


async def test_every_form_of_a_good_token_is_let_in_and_its_subject_is_the_caller(
    client: httpx.AsyncClient, peer: Peer
) -> None:
    """Though the platform's headers name somebody else, and need not be there at all."""
    answers = {name: (await call(client, "create", bearer(make()))).status_code for name, make in GOOD_TOKENS.items()}
    assert answers == dict.fromkeys(GOOD_TOKENS, 200)
    client.headers = httpx.Headers()
    peer.commands.clear()
    for route, scheme in itertools.product(ROUTES, ("Bearer", "bearer", "BEARER")):
        assert (await call(client, route, {"Authorization": f"{scheme} {token()}"})).status_code == 200
    assert {command.headers[envelope.CALLER] for command in peer.commands} == {"booking-service"}


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
        *(
            {"Authorization": value}
            for value in ("", "Bearer", "Bearer ", "Basic dXNl", "Token abc", "SERVICE_ACCOUNT")
        ),
        *({}, {"X-Authorization": "Bearer x"}, {"Cookie": "access_token=x"}, {"Proxy-Authorization": "Bearer x"}),
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
    for health in ("liveness", "readiness"):  # needs none
        assert (await client.get(f"/actuator/health/{health}", headers=bearer("forged"))).status_code == 200
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

    async def status(credentials: str) -> int:
        return (await client.get(READ, headers=bearer(credentials))).status_code

    async with asyncio.timeout(60):
        credentials = token(exp=-28)
        while await status(credentials) != 200:  # on a machine that stalled for a second
            credentials = token(exp=-28)
        while await status(credentials) == 200:  # noqa: ASYNC110 - what is waited for is time itself
            await asyncio.sleep(0.1)
    assert await status(credentials) == 401


@pytest.mark.parametrize("skew", [15, -15, 360, -360, 3600, -3600])
async def test_a_token_is_judged_by_the_services_clock_which_is_asked_for(
    tmp_path: Path, amqp_url: str, peer: Peer, skew: int
) -> None:
    """T6 This machine's is off: whose token is good is let in, and whose token is over is not, whatever it says."""
    (tmp_path / "keys.json").write_bytes(both_keys())
    good, over, to_come, wall = token(), token(exp=-60, iat=-240), token(nbf=200, exp=290), time.time
    peer.is_dated = True
    rpc_client = an_rpc_client(amqp_url, clock=ServiceClock(wall=lambda: wall() + skew))
    async with rpc_client, JwksCache(source_at(str(tmp_path / "keys.json"))) as cache:
        await until(lambda: rpc_client.ready)
        auth = JwtAuth(cache, issuer=ISSUER, audience=AUDIENCE, clock=TokenClock(rpc_client=rpc_client))
        async with client_of(an_app(rpc_client, authenticator=auth)) as client:
            found = [(await client.get(READ, headers=bearer(each))).status_code for each in (good, over, to_come) * 2]
    assert found == [200, 401, 401] * 2
    asked = [each for each in peer.commands if each.document["transactionId"] != "cs_test_a1"]
    assert len(asked) == (0 if abs(skew) == 15 else 1)


async def test_who_cannot_be_judged_because_no_service_tells_the_time_is_told_to_come_again(
    tmp_path: Path, amqp_url: str
) -> None:
    (tmp_path / "keys.json").write_bytes(both_keys())
    rpc_client = an_rpc_client(amqp_url)
    async with JwksCache(source_at(str(tmp_path / "keys.json"))) as cache:
        auth = JwtAuth(cache, issuer=ISSUER, audience=AUDIENCE, clock=TokenClock(rpc_client=rpc_client))
        async with client_of(an_app(rpc_client, authenticator=auth)) as client:
            answer = await client.get(READ, headers=bearer(token(exp=-60, iat=-240)))
    assert (answer.status_code, "retry-after" in answer.headers) == (503, True)


# --- scopes -----------------------------------------------------------------------------------------------------------


EVERY, READING = {"create", "verify", "status"}, {"verify", "status"}
NO_SCOPES = [
    *",openid profile,payments,payments:*,*,payments:admin payments:write payments:verify".split(","),
    *("payments:create,payments:read", "PAYMENTS:CREATE Payments:Read", "xpayments:create payments:reads"),
    *("payments.create payments.read", "SERVICE_ACCOUNT"),
]
SCOPES: dict[str, set[str]] = {
    "payments:create payments:read": EVERY,
    "payments:read payments:create openid": EVERY,
    "payments:create": {"create"},
    "payments:read": READING,
    "openid payments:read": READING,
    **{words: set[str]() for words in NO_SCOPES},
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
    rpc_client: RpcClient, authenticator: JwtAuth, peer: Peer
) -> None:
    """Nor whatever user it names; calls that its token does not allow use up nothing."""
    rates = rate_limits(callers=RateLimit(per_second=1e-6, burst=3))
    async with client_of(an_app(rpc_client, authenticator=authenticator, rate_limits=rates)) as client:
        for _ in range(5):
            assert (await call(client, "status", bearer(token(scope="")))).status_code == 403
        shown = [bearer(token(jti=str(number))) | {"X-User-Id": str(number)} for number in range(1, 6)]
        answers = [await call(client, "status", headers) for headers in shown]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
        assert (await call(client, "status", bearer(token(sub="other")))).status_code == 200
    assert len(peer.commands) == 4
