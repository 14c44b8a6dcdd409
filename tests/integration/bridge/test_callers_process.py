"""The process itself, with service tokens: when it starts, when it does not, and what it says."""

import asyncio
import json
import signal

import pytest

from tests.integration.bridge.conftest import BASE
from tests.integration.bridge.issuer import AUDIENCE, ISSUER, bearer, both_keys, key_server, token
from tests.integration.bridge.peer import Peer
from tests.integration.bridge.processes import COMMAND, running
from tests.kit.programs import ended
from tools.devstack.processes import free_ports

READ = f"{BASE}/status/cs_test_a1"
TOKENS = {"BRIDGE_AUTH": "jwt", "BRIDGE_JWT_ISSUER": ISSUER, "BRIDGE_JWT_AUDIENCE": AUDIENCE}


@pytest.mark.parametrize(
    ("variables", "wrong"),
    [
        (
            {"BRIDGE_HOST": "0.0.0.0", "AMQP_URL": "canary", "BRIDGE_PORT": "canary"},  # noqa: S104
            ["AMQP_URL", "BRIDGE_PORT", "BRIDGE_AUTH"],
        ),
        (TOKENS | {"BRIDGE_JWT_JWKS": "/nowhere/canary.json"}, ["BRIDGE_JWT_JWKS"]),
    ],
)
async def test_the_process_does_not_start_before_it_can_know_its_callers(
    variables: dict[str, str], wrong: list[str]
) -> None:
    """S1: on any other host than loopback somebody must have chosen how; with tokens there must be keys to check."""
    bridge = await ended(*COMMAND, **variables)
    assert bridge.status == 2
    first, *lines = bridge.said.splitlines()
    assert first == "The bridge cannot start:"
    assert [line.split()[0] for line in lines] == wrong
    assert "canary" not in bridge.said


async def test_while_the_keys_cannot_be_fetched_the_process_serves_503(peer: Peer, amqp_url: str) -> None:
    """And 200 once they can; the log has one line for each of the two, and no token."""
    (source,) = free_ports(1)
    good = bearer(token())
    variables = TOKENS | {"BRIDGE_JWT_JWKS": f"http://127.0.0.1:{source}/keys"}
    async with running(amqp_url, wanted=503, **variables) as bridge:
        async with asyncio.timeout(20):
            while (parts := (await bridge.health(wanted=503)).json()["components"])["broker"]["status"] != "UP":  # noqa: ASYNC110 - knows no event
                await asyncio.sleep(0.1)
        assert parts["keys"] == {"status": "DOWN"}
        answer = await bridge.client.get(READ, headers=good)
        assert (answer.status_code, answer.headers["retry-after"], answer.json()["retryable"]) == (503, "2", True)
        assert (await bridge.client.get(READ)).status_code == 401
        async with key_server(both_keys(), port=source):
            await bridge.health(wanted=200)
        assert (await bridge.client.get(READ, headers=good)).status_code == 200
        bridge.process.send_signal(signal.SIGTERM)
        logged = await bridge.end()
    lines = [json.loads(line) for line in logged.splitlines()]
    assert [line["level"] for line in lines if line["logger"] == "bridge.jwks"] == ["WARNING", "INFO"]
    assert good["Authorization"].removeprefix("Bearer ") not in logged
    assert {command.headers["x-caller"] for command in peer.commands} == {"booking-service"}


async def test_the_rate_limits_are_those_of_the_settings(peer: Peer, amqp_url: str) -> None:
    limits = {
        "BRIDGE_CALLER_REQUESTS_PER_SECOND": "0.001",
        "BRIDGE_CALLER_BURST": "3",
        "BRIDGE_BOOKING_CREATES_PER_MINUTE": "1",
    }
    command = {"bookingId": 4711, "userId": 42, "amount": 540.9}
    async with running(amqp_url, **limits) as bridge:
        assert [(await bridge.client.get(READ)).status_code for _ in range(4)] == [200, 200, 200, 429]
        others = [{"X-User-Id": str(each)} for each in (8, 9)]
        created = [await bridge.client.post(f"{BASE}/checkout/create", json=command, headers=each) for each in others]
        assert [answer.status_code for answer in created] == [200, 429]
        assert 1 <= int(created[1].headers["retry-after"]) <= 60
    assert len(peer.commands) == 4
