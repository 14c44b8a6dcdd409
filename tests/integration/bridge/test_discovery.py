"""The bridge's registration in Eureka: what it says of itself, what it survives, and that it leaves before it goes."""

import asyncio
import logging
import signal
from typing import Any

import httpx
import pytest

from bridge.discovery import Registration
from deploy.local.processes import free_ports
from tests.integration.bridge.conftest import BASE, IDENTITY, until
from tests.integration.bridge.eureka import Eureka, eureka
from tests.integration.bridge.peer import Peer
from tests.integration.bridge.test_http import health, process

UP, LOST, LEFT = "Registered in Eureka", "No Eureka takes", "Deregistered from Eureka"


def registration(*peers: str, **changes: Any) -> Registration:
    """As the bridge has it, only in more of a hurry."""
    members: dict[str, Any] = {
        "peers": peers,
        "app_name": "payment-service",
        "host": None,
        "listens_at": ("127.0.0.1", 8085),
        "version": "1.2.3",
        "heartbeat_seconds": 0.02,
        "call_seconds": 5,
    }
    return Registration(**members | changes)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Everything that is logged, by the libraries too."""
    caplog.set_level(logging.DEBUG)
    return caplog


def lines(told: pytest.LogCaptureFixture) -> list[str]:
    """What the registration said, by the beginnings of its sentences."""
    said = [record.getMessage() for record in told.records if record.name == "bridge.discovery"]
    return [next(begin for begin in (UP, LOST, LEFT) if line.startswith(begin)) for line in said]


async def test_the_instance_says_of_itself_what_springs_tools_look_for() -> None:
    async with eureka() as server, registration(server.url):
        await until(lambda: bool(server.instances))
        instance = server.instance
    assert instance["instanceId"] == "127.0.0.1:payment-service:8085"
    assert (instance["app"], instance["vipAddress"]) == ("PAYMENT-SERVICE", "payment-service")
    assert (instance["hostName"], instance["ipAddr"], instance["status"]) == ("127.0.0.1", "127.0.0.1", "UP")
    assert (instance["port"], instance["securePort"]["@enabled"]) == ({"$": 8085, "@enabled": "true"}, "false")
    assert instance["homePageUrl"] == "http://127.0.0.1:8085/"
    assert instance["statusPageUrl"] == "http://127.0.0.1:8085/actuator/info"
    assert instance["healthCheckUrl"] == "http://127.0.0.1:8085/actuator/health"
    assert instance["metadata"] == {"management.port": "8085", "version": "1.2.3"}
    lease = instance["leaseInfo"]
    assert lease["renewalIntervalInSecs"] == 30
    assert lease["durationInSecs"] * 2 == 90  # Netflix's server counts it twice


@pytest.mark.parametrize(
    ("host", "listens_at", "name", "address"),
    [
        ("payments.internal", "127.0.0.1", "payments.internal", "127.0.0.1"),
        ("10.0.0.5", "127.0.0.1", "10.0.0.5", "10.0.0.5"),
        (None, "127.0.0.2", "127.0.0.2", "127.0.0.2"),
        (None, "::1", "[::1]", "::1"),  # as Java has it in an address
        ("fd00::5", "127.0.0.1", "[fd00::5]", "fd00::5"),
    ],
)
async def test_the_host_is_the_named_one_or_where_the_bridge_listens(
    host: str | None, listens_at: str, name: str, address: str
) -> None:
    async with eureka() as server, registration(server.url, host=host, listens_at=(listens_at, 8085)):
        await until(lambda: bool(server.instances))
        assert (server.instance["hostName"], server.instance["ipAddr"]) == (name, address)


@pytest.mark.parametrize("peer", ["http://127.0.0.1:1/eureka/", "http://no-such-host.invalid/eureka/"])
async def test_a_bridge_that_listens_everywhere_names_an_address_that_leads_to_it(peer: str) -> None:
    listener = await asyncio.start_server(lambda _, writer: writer.close(), "0.0.0.0", 0)  # noqa: S104
    port: int = listener.sockets[0].getsockname()[1]
    async with listener, eureka() as server, registration(peer, server.url, listens_at=("0.0.0.0", port)):  # noqa: S104
        await until(lambda: bool(server.instances), 30)
        assert server.instance["hostName"] == server.instance["ipAddr"] != "0.0.0.0"  # noqa: S104
        _, writer = await asyncio.open_connection(server.instance["hostName"], port)
        writer.close()


async def test_who_is_forgotten_registers_again(told: pytest.LogCaptureFixture) -> None:
    async with eureka() as server, registration(server.url):
        await until(lambda: server.calls.count("heartbeat") >= 3)
        assert lines(told) == [UP]
        server.instances.clear()
        await until(lambda: bool(server.instances))
        before = len(server.calls)
        await until(lambda: len(server.calls) >= before + 3)
    assert server.calls.count("register") == 2
    assert lines(told) == [UP, UP, LEFT]


@pytest.mark.parametrize("trouble", ["down", "refuses", "hangs"])
async def test_the_next_peer_is_asked_when_one_fails(told: pytest.LogCaptureFixture, trouble: str) -> None:
    async with eureka(down=trouble == "down") as first, eureka() as second:
        first.refuses = 500 if trouble == "refuses" else None
        first.hangs = trouble == "hangs"
        async with registration(first.url, second.url, call_seconds=0.5 if first.hangs else 5):
            await until(lambda: second.calls.count("heartbeat") >= 3, 30)
        assert len(first.calls) == (0 if trouble == "down" else 1)
    assert lines(told) == [UP, LEFT]


async def test_a_peer_that_dies_is_left_for_one_that_lives(told: pytest.LogCaptureFixture) -> None:
    async with eureka() as first, eureka() as second, registration(first.url, second.url):
        await until(lambda: first.calls.count("heartbeat") >= 2)
        await first.stop()
        await until(lambda: second.calls.count("heartbeat") >= 2)
    assert second.calls[:2] == ["heartbeat", "register"]  # a real one may know it already from its peer
    assert lines(told) == [UP, UP, LEFT]


async def test_a_eureka_that_is_down_at_first_is_found_later(told: pytest.LogCaptureFixture) -> None:
    async with eureka(down=True) as server, registration(server.url):
        await until(lambda: lines(told) == [LOST])
        await server.start()
        await until(lambda: server.calls.count("heartbeat") >= 2, 30)
    assert lines(told) == [LOST, UP, LEFT]


async def test_an_outage_is_one_line_and_its_end_another(told: pytest.LogCaptureFixture) -> None:
    async with eureka() as server, registration(server.url):
        await until(lambda: server.calls.count("heartbeat") >= 2)
        server.refuses = 503
        await until(lambda: server.calls.count("refused") >= 2, 30)
        assert lines(told) == [UP, LOST]
        server.refuses = None
        before = server.calls.count("heartbeat")
        await until(lambda: server.calls.count("heartbeat") >= before + 3, 30)
    assert lines(told) == [UP, LOST, UP, LEFT]
    assert server.calls.count("register") == 1


async def test_a_eureka_that_restarts_and_knows_nobody_gets_the_bridge_back(told: pytest.LogCaptureFixture) -> None:
    async with eureka() as server, registration(server.url):
        await until(lambda: server.calls.count("heartbeat") >= 2)
        await server.stop()
        await until(lambda: lines(told) == [UP, LOST])
        await server.start()
        await until(lambda: bool(server.instances), 30)
    assert lines(told) == [UP, LOST, UP, LEFT]


async def test_leaving_is_out_of_service_then_gone_and_for_good(told: pytest.LogCaptureFixture) -> None:
    async with eureka() as server, registration(server.url) as ours:
        await until(lambda: server.calls.count("heartbeat") >= 2)
        ours.leave()
        await until(lambda: lines(told) == [UP, LEFT])
        await asyncio.sleep(0.3)  # many heartbeats long
    assert server.calls[-2:] == ["OUT_OF_SERVICE", "cancel"]
    assert not server.instances


async def test_leaving_is_tried_until_eureka_takes_it(told: pytest.LogCaptureFixture) -> None:
    async with eureka() as server, registration(server.url) as ours:
        await until(lambda: bool(server.instances))
        server.refuses = 503
        await until(lambda: lines(told) == [UP, LOST])
        ours.leave()
        before = len(server.calls)
        await until(lambda: len(server.calls) >= before + 2, 30)
        server.refuses = None
        await until(lambda: lines(told) == [UP, LOST, LEFT], 30)
        assert not server.instances


async def test_credentials_reach_eureka_and_no_log(told: pytest.LogCaptureFixture) -> None:
    async with eureka() as server:
        with_password = server.url.replace("//", "//canary:canary%40%2C@")
        async with registration("http://canary:canary@127.0.0.1:1/", with_password):
            await until(lambda: bool(server.instances))
            server.refuses = 401
            await until(lambda: lines(told) == [UP, LOST], 30)
            server.refuses = None
            await until(lambda: lines(told) == [UP, LOST, UP], 30)
            await server.stop()
            await until(lambda: lines(told)[-1] == LOST, 30)
    assert server.credentials == {"canary:canary@,"}
    assert "canary" not in told.text
    assert "canary" not in repr(registration(with_password))


# --- the process ------------------------------------------------------------------------------------------------------


def environment(server: Eureka, port: int, amqp_url: str, **changes: str) -> dict[str, str]:
    peer = server.url.replace("//", "//canary:canary@")
    return {"BRIDGE_PORT": str(port), "AMQP_URL": amqp_url, "EUREKA_URL": peer} | changes


async def end(bridge: asyncio.subprocess.Process) -> str:
    """What the bridge said until it ended, well."""
    async with asyncio.timeout(60):
        _, errors = await bridge.communicate()
    said = errors.decode()
    assert bridge.returncode == 0, said
    assert "Traceback" not in said
    return said


async def test_a_drain_leaves_eureka_and_refuses_nothing(peer: Peer, amqp_url: str) -> None:  # noqa: ARG001
    (port,) = free_ports(1)
    async with (
        eureka() as server,
        process(**environment(server, port, amqp_url, BRIDGE_DRAIN_SECONDS="600")) as bridge,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=IDENTITY) as client,
    ):
        await health(port, wanted=200)
        await until(lambda: bool(server.instances))
        assert server.instance["port"]["$"] == port
        bridge.send_signal(signal.SIGTERM)
        await until(lambda: server.calls[-2:] == ["OUT_OF_SERVICE", "cancel"])
        assert (await client.get(f"{BASE}/status/cs_test_a")).status_code == 200
        assert (await client.get("/actuator/health/liveness")).status_code == 200
        ready = await client.get("/actuator/health/readiness")
        assert (ready.status_code, ready.json()["status"]) == (503, "OUT_OF_SERVICE")
        bridge.send_signal(signal.SIGTERM)  # ends the drain
        errors = await end(bridge)
    assert server.calls[-1] == "cancel"
    assert errors.count("Registered in Eureka") == errors.count("Deregistered from Eureka") == 1
    assert "canary" not in errors


async def test_a_drain_ends_by_itself(amqp_url: str) -> None:
    (port,) = free_ports(1)
    async with (
        eureka() as server,
        process(**environment(server, port, amqp_url, BRIDGE_DRAIN_SECONDS="1")) as bridge,
    ):
        await until(lambda: bool(server.instances), 30)
        bridge.send_signal(signal.SIGTERM)
        assert "Draining for 1 s" in await end(bridge)
    assert not server.instances


async def test_a_eureka_that_is_never_there_harms_nothing(peer: Peer, amqp_url: str) -> None:  # noqa: ARG001
    (port,) = free_ports(1)
    async with (
        eureka(down=True) as nobody,
        process(**environment(nobody, port, amqp_url)) as bridge,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=IDENTITY) as client,
    ):
        await health(port, wanted=200)
        assert (await client.get(f"{BASE}/status/cs_test_a")).status_code == 200
        bridge.send_signal(signal.SIGTERM)
        await health(port, wanted=503)
        assert (await client.get(f"{BASE}/status/cs_test_a")).status_code == 200
        bridge.send_signal(signal.SIGTERM)
        errors = await end(bridge)
    assert "Draining for 95 s" in errors
    assert errors.count("bridge.discovery") == 1
    assert "canary" not in errors


async def test_without_a_drain_the_bridge_still_leaves_eureka(amqp_url: str) -> None:
    (port,) = free_ports(1)
    async with (
        eureka() as server,
        process(**environment(server, port, amqp_url, BRIDGE_DRAIN_SECONDS="0")) as bridge,
    ):
        await until(lambda: bool(server.instances), 30)
        bridge.send_signal(signal.SIGTERM)
        await end(bridge)
    assert server.calls[-2:] == ["OUT_OF_SERVICE", "cancel"]
