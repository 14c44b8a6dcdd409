"""What only a real socket shows: slow, endless and lying requests, callers that hang up, and the process itself."""

import asyncio
import json
import signal
import socket

import pytest

from bridge.app import Lifecycle
from bridge.rpc_client import RpcClient
from tests.integration.bridge.conftest import BASE, IDENTITY, client_of, until
from tests.integration.bridge.peer import Gate, Peer
from tests.integration.bridge.processes import COMMAND, running
from tests.kit.bridge import an_app, calls
from tests.kit.programs import Ended, ended
from tools.devstack.processes import free_ports

CREATE = f"{BASE}/checkout/create"
GOOD = b'{"bookingId":4711,"userId":42,"amount":540.9}'


def head(*lines: str, method: str = "POST", path: str = CREATE) -> bytes:
    identity = [f"{name}: {value}" for name, value in IDENTITY.items()]
    return "\r\n".join(
        [f"{method} {path} HTTP/1.1", "Host: bridge", "Content-Type: application/json", *identity, *lines, "", ""]
    ).encode()


async def exchange(port: int, *pieces: bytes) -> tuple[int, dict[str, str], dict[str, object]]:
    """Send the pieces and read the one answer: status, headers, body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        async with asyncio.timeout(60):
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:-2])}
            content = await reader.readexactly(int(headers["content-length"]))
            if headers.get("connection") == "close":
                assert await reader.read() == b""
        return int(lines[0].split()[1]), headers, json.loads(content)
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("pieces", "status", "code"),
    [
        ((head("Content-Length: 100"), GOOD), 408, "REQUEST_TIMEOUT"),
        ((head("Transfer-Encoding: chunked"), b"5\r\n{    \r\n"), 408, "REQUEST_TIMEOUT"),
        ((head()[:-2],), 408, "REQUEST_TIMEOUT"),
        ((b"POST ",), 408, "REQUEST_TIMEOUT"),
        ((head("Content-Length: 20000"), b"x" * 20000), 413, "PAYLOAD_TOO_LARGE"),
        ((head("Content-Length: 99999999999"), b"x" * 100), 413, "PAYLOAD_TOO_LARGE"),
        ((head("Transfer-Encoding: chunked"), *[b"1000\r\n" + b"x" * 4096 + b"\r\n"] * 9), 413, "PAYLOAD_TOO_LARGE"),
        ((b"this is not HTTP\r\n\r\n",), 400, "VALIDATION_ERROR"),
        ((b"GET /\x00 HTTP/1.1\r\n\r\n",), 400, "VALIDATION_ERROR"),
        ((b"GET / HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n",), 431, "HEADERS_TOO_LARGE"),
        ((b"GET / HTTP/1.1\r\nX: ", *[b"x" * 16384] * 8), 431, "HEADERS_TOO_LARGE"),
        ((head("X: " + "x" * 9000, method="GET"),), 431, "HEADERS_TOO_LARGE"),
        ((b"GET / HTTP/1.1\r\n\r\n",), 400, "VALIDATION_ERROR"),
        ((head(f"Content-Length: {len(GOOD)}").replace(b"HTTP/1.1", b"HTTP/2.0"), GOOD), 400, "VALIDATION_ERROR"),
        ((head("Host: other", f"Content-Length: {len(GOOD)}"), GOOD), 400, "VALIDATION_ERROR"),
        ((b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",), 400, "VALIDATION_ERROR"),
        ((head("Transfer-Encoding: gzip, chunked"), b"0\r\n\r\n"), 501, "NOT_IMPLEMENTED"),
        ((head("Transfer-Encoding: gzip"), b"abc"), 501, "NOT_IMPLEMENTED"),
        ((head("Transfer-Encoding: identity", f"Content-Length: {len(GOOD)}"), GOOD), 400, "VALIDATION_ERROR"),
        ((head("Transfer-Encoding: chunked, chunked"), b"0\r\n\r\n"), 400, "VALIDATION_ERROR"),
        ((head("Transfer-Encoding: chunked").replace(b"1.1", b"1.0"), b"0\r\n\r\n"), 400, "VALIDATION_ERROR"),
        ((head("Transfer-Encoding: chunked"), b"no length\r\n"), 400, "VALIDATION_ERROR"),
        ((head("Content-Encoding: gzip", f"Content-Length: {len(GOOD)}"), GOOD), 415, "UNSUPPORTED_MEDIA_TYPE"),
        ((head("Content-Encoding: identity, br", "Content-Length: 1"), b"x"), 415, "UNSUPPORTED_MEDIA_TYPE"),
        ((b"CONNECT stripe.example:443 HTTP/1.1\r\nHost: stripe.example:443\r\n\r\n",), 501, "NOT_IMPLEMENTED"),
        ((head(method="GET", path=f"{BASE}/checkout/verify/../../status/cs_test_a"),), 400, "VALIDATION_ERROR"),
        ((head(method="GET", path=f"{BASE}/status/..%2fcs_test_a"),), 400, "VALIDATION_ERROR"),
    ],
)
async def test_what_is_slow_endless_or_no_http_gets_a_problem(
    *, port: int, peer: Peer, caplog: pytest.LogCaptureFixture, pieces: tuple[bytes, ...], status: int, code: str
) -> None:
    caplog.set_level("INFO", logger="bridge.access")
    answered, headers, problem = await exchange(port, *pieces)
    assert (answered, problem["paymentStatus"]) == (status, code)
    assert headers["content-type"] == "application/problem+json"
    assert headers["x-request-id"] == problem["requestId"]
    assert headers.get("accept-encoding") == ("identity" if status == 415 else None)
    lines = [line.__dict__ for line in caplog.records if line.name == "bridge.access"]
    said = [(line["request_id"], line["code"]) for line in lines]
    assert said == [(problem["requestId"], code)]
    assert peer.commands == []


async def test_a_body_in_small_pieces_is_put_together(port: int, peer: Peer) -> None:
    chunks = [b"1\r\n" + GOOD[index : index + 1] + b"\r\n" for index in range(len(GOOD))]
    status, _, _ = await exchange(port, head("Transfer-Encoding: chunked"), *chunks, b"0\r\n\r\n")
    assert status == 200
    assert peer.commands[0].body == GOOD


async def test_a_caller_who_hangs_up_does_not_stop_the_work(
    port: int, peer: Peer, rpc_client: RpcClient, caplog: pytest.LogCaptureFixture
) -> None:
    """F1 Client drops the socket mid-request: work goes on, no unhandled error."""
    gate = peer.handler = Gate()
    for _ in range(20):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head(f"Content-Length: {len(GOOD)}") + GOOD)
        await until(lambda: rpc_client.in_flight == 1)
        writer.transport.abort()
        gate.opened.set()
        await until(lambda: rpc_client.in_flight == 0)
        gate.opened.clear()
    assert len(peer.commands) == calls(rpc_client, "answered")[0] == 20
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_stopping_bridge_refuses_what_is_new(rpc_client: RpcClient) -> None:
    async with client_of(an_app(rpc_client, lifecycle=Lifecycle(stopping=True))) as client:
        answer = await client.get(f"{BASE}/status/cs_test_a")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        ready = await client.get("/actuator/health/readiness")
        assert (ready.status_code, ready.json()["status"]) == (503, "OUT_OF_SERVICE")
        assert (await client.get("/actuator/health/liveness")).status_code == 200


# --- the process ------------------------------------------------------------------------------------------------------


async def test_a_port_that_is_taken_is_one_clear_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        bridge = await ended(*COMMAND, BRIDGE_PORT=port)
    where = f"127.0.0.1 port {port} (BRIDGE_HOST, BRIDGE_PORT)"
    said = f"The bridge cannot start:\nIt cannot listen on {where}: Address already in use.\n"
    assert bridge == Ended(status=1, said=said)


async def test_without_a_broker_the_process_stays_up_and_says_503() -> None:
    (nobody,) = free_ports(1)
    async with running(f"amqp://user:canary@127.0.0.1:{nobody}/", wanted=503) as bridge:
        assert (await bridge.health(wanted=503)).json() == {
            "status": "DOWN",
            "components": {"broker": {"status": "DOWN"}, "readinessState": {"status": "UP"}},
        }
        whole = await bridge.client.get("/actuator/health")
        assert (whole.status_code, whole.json()["groups"]) == (503, ["liveness", "readiness"])
        assert (await bridge.client.get(f"{BASE}/status/cs_test_a")).headers["retry-after"] == "2"
        assert (await bridge.client.get("/actuator/health/liveness")).status_code == 200
        bridge.process.send_signal(signal.SIGTERM)
        assert "canary" not in await bridge.end()


async def test_the_process_refuses_in_its_own_words_what_it_has_no_route_for() -> None:
    (nobody,) = free_ports(1)
    async with running(f"amqp://user:canary@127.0.0.1:{nobody}/", wanted=503) as bridge:
        for method, path, status in (("GET", "/nothing", 404), ("DELETE", f"{BASE}/status/cs_test_a", 405)):
            answer = await bridge.client.request(method, path)
            assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
            assert answer.json()["requestId"] == answer.headers["x-request-id"]


async def test_a_stop_finishes_what_has_begun(peer: Peer, amqp_url: str) -> None:
    gate = peer.handler = Gate()
    async with running(amqp_url) as bridge:
        begun = asyncio.create_task(bridge.client.get(f"{BASE}/status/cs_test_a"))
        await until(lambda: len(peer.commands) == 1)
        bridge.process.send_signal(signal.SIGINT)
        await asyncio.sleep(0.3)
        gate.opened.set()
        assert (await begun).status_code == 200
        lines = [json.loads(line) for line in (await bridge.end()).splitlines()]
    assert lines[-1]["message"] == "Stopped."
    assert lines[-1]["calls"] == {"answered": 1} | dict.fromkeys(
        ("busy", "unavailable", "unroutable", "expired", "gone", "stray"), 0
    )
    assert [line["status"] for line in lines if line["logger"] == "bridge.access"] == [200]


@pytest.mark.usefixtures("peer")
async def test_a_stop_resets_no_connection_of_callers_that_go_on_asking(amqp_url: str) -> None:
    """Each request is answered, or its connection is closed in peace."""
    answers, pieces = list[int](), list[bytes]()

    async def ask_again_and_again(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            while True:
                writer.write(head("Content-Length: 2") + b"[]")
                try:
                    answered = (await reader.readuntil(b"\r\n\r\n")).decode()
                except asyncio.IncompleteReadError as end:
                    pieces.append(end.partial)
                    return
                length = answered.lower().partition("content-length: ")[2].partition("\r\n")[0]
                await reader.readexactly(int(length))
                answers.append(int(answered.split()[1]))
        finally:
            writer.close()

    async with running(amqp_url) as bridge:
        callers = [asyncio.create_task(ask_again_and_again(bridge.port)) for _ in range(20)]
        await until(lambda: len(answers) > 200)
        bridge.process.send_signal(signal.SIGTERM)
        await asyncio.gather(*callers)
        await bridge.end()
    assert set(answers) <= {400, 503}
    assert pieces == [b""] * len(callers)
