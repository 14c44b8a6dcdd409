"""What only a real socket shows: slow, endless and lying requests, callers that hang up, and the process itself."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI

import bridge.http
from bridge.app import Lifecycle, create_app
from bridge.requester import Requester
from tests.integration.bridge.conftest import BASE, IDENTITY, Serve, until
from tests.integration.bridge.peer import Answer, Command, Peer, reply

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
        async with asyncio.timeout(10):
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
        ((head("Content-Length: 20000"), b"x" * 20000), 413, "PAYLOAD_TOO_LARGE"),
        ((head("Content-Length: 99999999999"), b"x" * 100), 413, "PAYLOAD_TOO_LARGE"),
        ((head("Transfer-Encoding: chunked"), *[b"1000\r\n" + b"x" * 4096 + b"\r\n"] * 9), 413, "PAYLOAD_TOO_LARGE"),
        ((b"this is not HTTP\r\n\r\n",), 400, "VALIDATION_ERROR"),
        ((b"GET /\x00 HTTP/1.1\r\n\r\n",), 400, "VALIDATION_ERROR"),
        ((b"GET / HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n",), 431, "HEADERS_TOO_LARGE"),
        ((b"GET / HTTP/1.1\r\nX: ", *[b"x" * 16384] * 8), 431, "HEADERS_TOO_LARGE"),
        ((head(method="GET", path=f"{BASE}/checkout/verify/../../status/cs_test_a"),), 400, "VALIDATION_ERROR"),
        ((head(method="GET", path=f"{BASE}/status/..%2fcs_test_a"),), 400, "VALIDATION_ERROR"),
    ],
)
async def test_what_is_slow_endless_or_no_http_gets_a_problem(
    *,
    serve: Serve,
    app: FastAPI,
    peer: Peer,
    caplog: pytest.LogCaptureFixture,
    pieces: tuple[bytes, ...],
    status: int,
    code: str,
) -> None:
    caplog.set_level("INFO", logger="bridge.access")
    answered, headers, problem = await exchange(await serve(app), *pieces)
    assert (answered, problem["paymentStatus"]) == (status, code)
    assert headers["content-type"] == "application/problem+json"
    assert headers["x-request-id"] == problem["requestId"]
    lines = [line.__dict__ for line in caplog.records if line.name == "bridge.access"]
    said = [(line["request_id"], line["code"]) for line in lines]
    assert said == [(problem["requestId"], code)]
    assert peer.commands == []


async def test_a_body_in_small_pieces_is_put_together(serve: Serve, app: FastAPI, peer: Peer) -> None:
    chunks = [b"1\r\n" + GOOD[index : index + 1] + b"\r\n" for index in range(len(GOOD))]
    status, _, _ = await exchange(await serve(app), head("Transfer-Encoding: chunked"), *chunks, b"0\r\n\r\n")
    assert status == 200
    assert peer.commands[0].body == GOOD


async def test_a_head_that_never_ends_is_cut(serve: Serve, app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge.http, "HEAD_SECONDS", 0.1)
    port = await serve(app)
    for beginning in (b"", b"GET / HTTP/1.1\r\nX: "):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(beginning)
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()


async def test_a_caller_who_hangs_up_does_not_stop_the_work(
    serve: Serve, app: FastAPI, peer: Peer, requester: Requester, caplog: pytest.LogCaptureFixture
) -> None:
    """F1 Client drops the socket mid-request: work goes on, no unhandled error."""
    release = asyncio.Event()

    async def wait(command: Command) -> Answer:
        await release.wait()
        return reply(command)

    peer.handler = wait
    port = await serve(app)
    for _ in range(20):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head(f"Content-Length: {len(GOOD)}") + GOOD)
        await until(lambda: requester.in_flight == 1)
        writer.transport.abort()
        release.set()
        await until(lambda: requester.in_flight == 0)
        release.clear()
    assert len(peer.commands) == requester.counters.answered == 20
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_stopping_bridge_refuses_what_is_new(requester: Requester) -> None:
    lifecycle = Lifecycle(stopping=True)
    transport = httpx.ASGITransport(create_app(requester, lifecycle=lifecycle))
    async with httpx.AsyncClient(transport=transport, base_url="http://bridge", headers=IDENTITY) as client:
        answer = await client.get(f"{BASE}/status/cs_test_a")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        ready = await client.get("/actuator/health/readiness")
        assert (ready.status_code, ready.json()["status"]) == (503, "OUT_OF_SERVICE")
        assert (await client.get("/actuator/health/liveness")).status_code == 200


# --- the process ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def process(**variables: str) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {"PATH": os.environ["PATH"], "LOG_FORMAT": "json"} | variables
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bridge", "run", env=environment, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


async def health(port: int, *, wanted: int) -> httpx.Response:
    """The answer of `/actuator/health/readiness` once it has the wanted status."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client, asyncio.timeout(20):
        while True:
            with contextlib.suppress(httpx.TransportError):
                answer = await client.get("/actuator/health/readiness")
                if answer.status_code == wanted:
                    return answer
            await asyncio.sleep(0.05)


async def test_wrong_settings_end_the_process_with_status_2_and_no_values() -> None:
    async with process(AMQP_URL="canary", BRIDGE_PORT="canary", BRIDGE_HOST="0.0.0.0") as bridge:  # noqa: S104
        _, errors = await bridge.communicate()
    assert bridge.returncode == 2
    assert [line.split()[0] for line in errors.decode().splitlines()[1:]] == ["AMQP_URL", "BRIDGE_PORT", "BRIDGE_AUTH"]
    assert b"canary" not in errors


async def test_a_port_that_is_taken_is_one_clear_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        async with process(BRIDGE_PORT=port) as bridge:
            _, errors = await bridge.communicate()
    assert bridge.returncode == 1
    assert errors.decode() == f"The bridge cannot listen on 127.0.0.1 port {port}: Address already in use.\n"


async def test_without_a_broker_the_process_stays_up_and_says_503(unused_tcp_port_factory: object) -> None:
    assert callable(unused_tcp_port_factory)
    port, nobody = unused_tcp_port_factory(), unused_tcp_port_factory()
    async with process(BRIDGE_PORT=str(port), AMQP_URL=f"amqp://user:canary@127.0.0.1:{nobody}/") as bridge:
        answer = await health(port, wanted=503)
        assert answer.json() == {
            "status": "DOWN",
            "components": {"broker": {"status": "DOWN"}, "readinessState": {"status": "UP"}},
        }
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=IDENTITY) as client:
            assert (await client.get(f"{BASE}/status/cs_test_a")).headers["retry-after"] == "2"
            assert (await client.get("/actuator/health/liveness")).status_code == 200
        bridge.send_signal(signal.SIGTERM)
        _, errors = await bridge.communicate()
    assert bridge.returncode == 0
    assert b"canary" not in errors
    assert b"Traceback" not in errors


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_finishes_what_has_begun(
    peer: Peer, amqp_url: str, unused_tcp_port: int, stop: signal.Signals
) -> None:
    release = asyncio.Event()

    async def wait(command: Command) -> Answer:
        await release.wait()
        return reply(command)

    peer.handler = wait
    async with (
        process(BRIDGE_PORT=str(unused_tcp_port), AMQP_URL=amqp_url) as bridge,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{unused_tcp_port}", headers=IDENTITY) as client,
    ):
        await health(unused_tcp_port, wanted=200)
        begun = asyncio.create_task(client.get(f"{BASE}/status/cs_test_a"))
        await until(lambda: len(peer.commands) == 1)
        bridge.send_signal(stop)
        await asyncio.sleep(0.3)
        release.set()
        assert (await begun).status_code == 200
        _, errors = await bridge.communicate()
    assert bridge.returncode == 0
    lines = [json.loads(line) for line in errors.decode().splitlines()]
    assert lines[-1]["message"] == "Stopped."
    assert [line["status"] for line in lines if line["logger"] == "bridge.access"] == [200]
