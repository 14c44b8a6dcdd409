"""The process itself, with service tokens: when it starts, when it does not, and what it says."""

import asyncio
import json
import signal

import httpx
import pytest

from tests.integration.bridge.conftest import BASE, IDENTITY
from tests.integration.bridge.issuer import AUDIENCE, ISSUER, bearer, both_keys, key_server, token
from tests.integration.bridge.peer import Peer
from tests.integration.bridge.test_http import health, process

READ = f"{BASE}/status/cs_test_a1"
TOKENS = {"BRIDGE_AUTH": "jwt", "BRIDGE_JWT_ISSUER": ISSUER, "BRIDGE_JWT_AUDIENCE": AUDIENCE}


@pytest.mark.parametrize(
    ("variables", "wrong"),
    [
        ({"BRIDGE_HOST": "0.0.0.0"}, ["BRIDGE_AUTH"]),  # noqa: S104
        ({"BRIDGE_AUTH": "jwt"}, ["BRIDGE_JWT_JWKS", "BRIDGE_JWT_ISSUER", "BRIDGE_JWT_AUDIENCE"]),
        (TOKENS | {"BRIDGE_JWT_JWKS": "/nowhere/canary.json"}, ["BRIDGE_JWT_JWKS"]),
    ],
)
async def test_the_process_does_not_start_before_it_can_know_its_callers(
    variables: dict[str, str], wrong: list[str]
) -> None:
    """S1: on any other host than loopback somebody must have chosen how; with tokens there must be keys to check."""
    async with process(**variables) as bridge:
        _, errors = await bridge.communicate()
    assert bridge.returncode == 2
    head, *lines = errors.decode().splitlines()
    assert head == "The bridge cannot start:"
    assert [line.split()[0] for line in lines] == wrong
    assert b"canary" not in errors


async def test_while_the_keys_cannot_be_fetched_the_process_serves_503(
    peer: Peer, amqp_url: str, unused_tcp_port_factory: object
) -> None:
    """And 200 once they can; the log has one line for each of the two, and no token."""
    assert callable(unused_tcp_port_factory)
    port, source = unused_tcp_port_factory(), unused_tcp_port_factory()
    variables = TOKENS | {"BRIDGE_JWT_JWKS": f"http://127.0.0.1:{source}/keys", "AMQP_URL": amqp_url}
    good = bearer(token())
    async with (
        process(BRIDGE_PORT=str(port), **variables) as bridge,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=IDENTITY) as client,
    ):
        async with asyncio.timeout(20):
            while (parts := (await health(port, wanted=503)).json()["components"])["broker"]["status"] != "UP":  # noqa: ASYNC110 - knows no event
                await asyncio.sleep(0.1)
        assert parts["keys"] == {"status": "DOWN"}
        answer = await client.get(READ, headers=good)
        assert (answer.status_code, answer.headers["retry-after"], answer.json()["retryable"]) == (503, "2", True)
        assert (await client.get(READ)).status_code == 401
        async with key_server(both_keys(), port=source), asyncio.timeout(60):
            while (await client.get(READ, headers=good)).status_code != 200:  # noqa: ASYNC110 - knows no event
                await asyncio.sleep(0.2)
        assert (await client.get(READ, headers=good)).status_code == 200
        await health(port, wanted=200)
        bridge.send_signal(signal.SIGTERM)
        _, errors = await bridge.communicate()
    assert bridge.returncode == 0
    lines = [json.loads(line) for line in errors.decode().splitlines()]
    assert [line["level"] for line in lines if line["logger"] == "bridge.keys"] == ["WARNING", "INFO"]
    assert good["Authorization"].removeprefix("Bearer ") not in errors.decode()
    assert {command.headers["x-caller"] for command in peer.commands} == {"booking-service"}


async def test_the_rate_limits_are_those_of_the_settings(peer: Peer, amqp_url: str, unused_tcp_port: int) -> None:
    limits = {
        "BRIDGE_CALLER_REQUESTS_PER_SECOND": "0.001",
        "BRIDGE_CALLER_BURST": "3",
        "BRIDGE_BOOKING_CREATES_PER_MINUTE": "1",
    }
    command = {"bookingId": 4711, "userId": 42, "amount": 540.9}
    async with (
        process(BRIDGE_PORT=str(unused_tcp_port), AMQP_URL=amqp_url, **limits),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{unused_tcp_port}", headers=IDENTITY) as client,
    ):
        await health(unused_tcp_port, wanted=200)
        assert [(await client.get(READ)).status_code for _ in range(4)] == [200, 200, 200, 429]
        others = [IDENTITY | {"X-User-Id": str(each)} for each in (8, 9)]
        created = [await client.post(f"{BASE}/checkout/create", json=command, headers=each) for each in others]
        assert [answer.status_code for answer in created] == [200, 429]
        assert 1 <= int(created[1].headers["retry-after"]) <= 60
    assert len(peer.commands) == 4
