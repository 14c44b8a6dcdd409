"""The bridge's registration in Eureka: what it says of itself, what it survives, and that it leaves before it goes."""

import asyncio
import logging
import signal
from typing import Any

import pytest

from bridge.eureka import EurekaRegistration
from tests.integration.bridge.conftest import BASE, until
from tests.integration.bridge.eureka_server import Eureka, eureka
from tests.integration.bridge.processes import running

UP, LOST, LEFT = "Registered in Eureka", "No Eureka takes", "Deregistered from Eureka"


def registration(*peers: str, **changes: Any) -> EurekaRegistration:
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
    return EurekaRegistration(**members | changes)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Everything that is logged, by the libraries too."""
    caplog.set_level(logging.DEBUG)
    return caplog


def lines(log: pytest.LogCaptureFixture) -> list[str]:
    """What the registration said, by the beginnings of its sentences."""
    said = [record.getMessage() for record in log.records if record.name == "bridge.eureka"]
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
        await until(lambda: bool(server.instances))
        assert server.instance["hostName"] == server.instance["ipAddr"] != "0.0.0.0"  # noqa: S104
        _, writer = await asyncio.open_connection(server.instance["hostName"], port)
        writer.close()


async def test_who_is_forgotten_registers_again(log: pytest.LogCaptureFixture) -> None:
    async with eureka() as server, registration(server.url):
        await until(lambda: server.calls.count("heartbeat") >= 3)
        assert lines(log) == [UP]
        server.instances.clear()
        await until(lambda: bool(server.instances))
        before = len(server.calls)
        await until(lambda: len(server.calls) >= before + 3)
    assert server.calls.count("register") == 2
    assert lines(log) == [UP, UP, LEFT]


@pytest.mark.parametrize("trouble", ["down", "refuses", "hangs"])
async def test_the_next_peer_is_asked_when_one_fails(log: pytest.LogCaptureFixture, trouble: str) -> None:
    async with eureka(down=trouble == "down") as first, eureka() as second:
        first.refuses = 500 if trouble == "refuses" else None
        first.hangs = trouble == "hangs"
        async with registration(first.url, second.url, call_seconds=2 if first.hangs else 5):
            await until(lambda: second.calls.count("heartbeat") >= 3, 30)
            assert len(first.calls) == (0 if trouble == "down" else 1)
            first.refuses, first.hangs = None, False
            if trouble == "down":
                await first.start()
            await second.stop()  # a peer that dies is left for one that lives
            await until(lambda: first.calls.count("heartbeat") >= 2, 30)
    known = first.calls.index("heartbeat")  # a real one may know it already from its peer
    assert first.calls[known : known + 2] == ["heartbeat", "register"]
    assert lines(log) == [UP, UP, LEFT]


async def test_an_outage_is_one_line_and_its_end_another_whatever_eureka_has_forgotten(
    log: pytest.LogCaptureFixture,
) -> None:
    async with eureka(down=True) as server, registration(server.url):
        await until(lambda: lines(log) == [LOST])
        await server.start()
        await until(lambda: server.calls.count("heartbeat") >= 2, 30)
        server.refuses = 503
        await until(lambda: server.calls.count("refused") >= 2, 30)
        assert lines(log) == [LOST, UP, LOST]
        server.refuses = None
        before = server.calls.count("heartbeat")
        await until(lambda: server.calls.count("heartbeat") >= before + 3, 30)
        assert server.calls.count("register") == 1
        await server.stop()
        await until(lambda: lines(log) == [LOST, UP, LOST, UP, LOST])
        await server.start()
        await until(lambda: bool(server.instances), 30)
    assert lines(log) == [LOST, UP, LOST, UP, LOST, UP, LEFT]


async def test_leaving_is_tried_until_eureka_takes_it_out_of_service_then_gone_and_for_good(
    log: pytest.LogCaptureFixture,
) -> None:
    async with eureka() as server, registration(server.url) as ours:
        await until(lambda: server.calls.count("heartbeat") >= 2)
        server.refuses = 503
        await until(lambda: lines(log) == [UP, LOST])
        ours.leave()
        before = len(server.calls)
        await until(lambda: len(server.calls) >= before + 2)
        server.refuses = None
        await until(lambda: lines(log) == [UP, LOST, LEFT], 30)
        await asyncio.sleep(0.3)  # many heartbeats long
    assert server.calls[-2:] == ["OUT_OF_SERVICE", "cancel"]
    assert not server.instances


async def test_credentials_reach_eureka_and_no_log(log: pytest.LogCaptureFixture) -> None:
    async with eureka() as server:
        with_password = server.url.replace("//", "//canary:canary%40%2C@")
        async with registration("http://canary:canary@127.0.0.1:1/", with_password):
            await until(lambda: bool(server.instances))
            server.refuses = 401
            await until(lambda: lines(log) == [UP, LOST], 30)
            server.refuses = None
            await until(lambda: lines(log) == [UP, LOST, UP], 30)
            await server.stop()
            await until(lambda: lines(log)[-1] == LOST, 30)
    assert server.credentials == {"canary:canary@,"}
    assert "canary" not in log.text
    assert "canary" not in repr(registration(with_password))


# --- the process ------------------------------------------------------------------------------------------------------


def known_to(server: Eureka, drain: str | None = None) -> dict[str, str]:
    """The variables of a bridge that registers there, with a password."""
    peer = server.url.replace("//", "//canary:canary@")
    return {"EUREKA_URL": peer} | ({} if drain is None else {"BRIDGE_DRAIN_SECONDS": drain})


@pytest.mark.usefixtures("peer")
async def test_a_drain_leaves_eureka_and_refuses_nothing(amqp_url: str) -> None:
    async with eureka() as server, running(amqp_url, **known_to(server, drain="600")) as bridge:
        await until(lambda: bool(server.instances))
        assert server.instance["port"]["$"] == bridge.port
        bridge.process.send_signal(signal.SIGTERM)
        await until(lambda: server.calls[-2:] == ["OUT_OF_SERVICE", "cancel"])
        assert (await bridge.client.get(f"{BASE}/status/cs_test_a")).status_code == 200
        assert (await bridge.client.get("/actuator/health/liveness")).status_code == 200
        assert (await bridge.health(wanted=503)).json()["status"] == "OUT_OF_SERVICE"
        bridge.process.send_signal(signal.SIGTERM)  # ends the drain
        logged = await bridge.end()
    assert server.calls[-1] == "cancel"
    assert logged.count("Registered in Eureka") == logged.count("Deregistered from Eureka") == 1
    assert "canary" not in logged


@pytest.mark.parametrize(("drain", "logged"), [("1", "Draining for 1 s"), ("0", "Stopped.")])
async def test_a_drain_ends_by_itself_and_without_one_the_bridge_still_leaves_eureka(
    amqp_url: str, drain: str, logged: str
) -> None:
    async with eureka() as server, running(amqp_url, **known_to(server, drain)) as bridge:
        await until(lambda: bool(server.instances), 30)
        bridge.process.send_signal(signal.SIGTERM)
        assert logged in await bridge.end()
    assert server.calls[-2:] == ["OUT_OF_SERVICE", "cancel"]


@pytest.mark.usefixtures("peer")
async def test_a_eureka_that_is_never_there_harms_nothing(amqp_url: str) -> None:
    async with eureka(down=True) as nobody, running(amqp_url, **known_to(nobody)) as bridge:
        assert (await bridge.client.get(f"{BASE}/status/cs_test_a")).status_code == 200
        bridge.process.send_signal(signal.SIGTERM)
        await bridge.health(wanted=503)
        assert (await bridge.client.get(f"{BASE}/status/cs_test_a")).status_code == 200
        bridge.process.send_signal(signal.SIGTERM)
        logged = await bridge.end()
    assert "Draining for 95 s" in logged
    assert logged.count("bridge.eureka") == 1
    assert "canary" not in logged
