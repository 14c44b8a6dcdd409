"""What callers' HTTP libraries do to a connection: offers of other protocols, half closings, resets."""

import asyncio
import gc
import json
import signal
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI

from bridge.app import Lifecycle
from bridge.rpc_client import RpcClient
from bridge.server import Server
from bridge.uvicorn_protocol import BridgeProtocol
from tests.integration.bridge.conftest import BASE, served, until
from tests.integration.bridge.peer import Gate, Peer
from tests.integration.bridge.processes import running
from tests.integration.bridge.test_uvicorn_protocol import GOOD, head
from tests.kit.bridge import an_app, an_rpc_client

H2C = (
    "Connection: Upgrade, HTTP2-Settings",
    "Upgrade: h2c",
    "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
)
OFFERS = {
    "h2c, as the JDK and curl offer it": H2C,
    "a web socket": (
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: eA==",
    ),
    "TLS": ("Upgrade: TLS/1.0", "Connection: Upgrade"),
    "several, in lines of their own": (
        "Upgrade: HTTP/2.0",
        "Connection: keep-alive",
        "Connection: upgrade",
        "upgrade: a/1",
    ),
    "one that is not confirmed": ("Upgrade: h2c",),
}
LENGTH = (f"Content-Length: {len(GOOD)}",), GOOD
CHUNKED = ("Transfer-Encoding: chunked",), b"%x\r\n%b\r\n0\r\n\r\n" % (len(GOOD), GOOD)
STATUS = f"{BASE}/status/cs_test_a"
Answer = tuple[int, dict[str, str], dict[str, Any]]


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(60):
            yield reader, writer
    finally:
        writer.close()


async def answer_from(reader: asyncio.StreamReader) -> Answer:
    """The next answer on a connection: status, headers, body."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:-2])}
    return int(lines[0].split()[1]), headers, json.loads(await reader.readexactly(int(headers["content-length"])))


def access_lines(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [record.__dict__["status"] for record in caplog.records if record.name == "bridge.access"]


def reset(writer: asyncio.StreamWriter) -> None:
    """Close as a caller does that was killed: with RST, and not with FIN."""
    raw: socket.socket = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


# --- offers of another protocol ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", ["at once", "head and body", "byte by byte"])
@pytest.mark.parametrize("framing", [LENGTH, CHUNKED], ids=["length", "chunked"])
@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS.keys())
async def test_an_offer_of_another_protocol_is_served_as_http_1_1_and_so_is_what_follows(
    port: int, peer: Peer, offer: tuple[str, ...], framing: tuple[tuple[str, ...], bytes], pieces: str
) -> None:
    length, body = framing
    beginning = head(*offer, *length)
    async with connected(port) as (reader, writer):
        for create in (beginning, beginning, head(*length)):
            whole = create + body
            match pieces:
                case "at once":
                    parts = [whole]
                case "head and body":
                    parts = [create, body]
                case _:
                    parts = [whole[index : index + 1] for index in range(len(whole))]
            for part in parts:
                writer.write(part)
                await asyncio.sleep(0.01 if part is create else 0)
            status, headers, session = await answer_from(reader)
            assert (status, session["status"]) == (200, "pending")
            assert "connection" not in headers
    assert [command.body for command in peer.commands] == [GOOD] * 3


async def test_offers_in_one_packet_are_answered_in_their_order(port: int, peer: Peer) -> None:
    async with connected(port) as (reader, writer):
        create = head(*H2C, *LENGTH[0]) + GOOD
        writer.write((create + head(*H2C, method="GET", path=STATUS)) * 50 + create)
        found = [await answer_from(reader) for _ in range(101)]
    assert [status for status, *_ in found] == [200] * 101
    assert ["sessionId" in document for *_, document in found] == [True, False] * 50 + [True]
    assert len(peer.commands) == 101


async def test_an_offer_does_not_get_round_the_bounds_of_a_request(port: int, peer: Peer) -> None:
    """The head is parsed twice, and counts once."""
    for lines, status in (
        (("X: " + "x" * 9000,), 431),
        (("Host: other",), 400),
        (("Transfer-Encoding: gzip, chunked",), 501),
    ):
        async with connected(port) as (reader, writer):
            writer.write(head(*H2C, *lines))
            assert (await answer_from(reader))[0] == status
    async with connected(port) as (reader, writer):
        writer.write(
            b"CONNECT stripe.example:443 HTTP/1.1\r\nHost: stripe.example:443\r\n\r\n" + head(*H2C, *LENGTH[0]) + GOOD
        )
        assert (await answer_from(reader))[0] == 501
        assert await reader.read() == b""
    assert peer.commands == []


@pytest.mark.usefixtures("peer")
@pytest.mark.parametrize(("version", "first"), [(b"1.0", b"HTTP/1.1 200 OK"), (b"1.1", b"HTTP/1.1 100 Continue")])
async def test_only_who_knows_of_it_is_told_to_go_on(port: int, version: bytes, first: bytes) -> None:
    """A client of HTTP/1.0, as some proxies are, would take a 100 for the answer (RFC 9110 section 10.1.1)."""
    async with connected(port) as (reader, writer):
        writer.write(head(*LENGTH[0], "Expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/" + version) + GOOD)
        assert (await reader.readline()).strip() == first


# --- the caller's end -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", [LENGTH, CHUNKED], ids=["length", "chunked"])
async def test_a_caller_who_ends_sending_gets_its_answer_and_the_log_says_so(
    port: int, peer: Peer, caplog: pytest.LogCaptureFixture, framing: tuple[tuple[str, ...], bytes]
) -> None:
    caplog.set_level("INFO", logger="bridge.access")
    gate = peer.handler = Gate()
    async with connected(port) as (reader, writer):
        writer.write(head(*framing[0]) + framing[1])
        writer.write_eof()
        await until(lambda: len(peer.commands) == 1)
        gate.opened.set()
        status, headers, _ = await answer_from(reader)
        assert (status, headers["connection"]) == (200, "close")
        assert await reader.read() == b""
    assert access_lines(caplog) == [200]


async def test_all_that_was_sent_before_the_end_is_answered(port: int, peer: Peer) -> None:
    async with connected(port) as (reader, writer):
        writer.write((head(*LENGTH[0]) + GOOD) * 3)
        writer.write_eof()
        assert [(await answer_from(reader))[0] for _ in range(3)] == [200] * 3
        assert await reader.read() == b""
    assert len(peer.commands) == 3


@pytest.mark.parametrize(
    "sent", [head("Content-Length: 100") + GOOD, head(*CHUNKED[0]) + b"64\r\n" + GOOD, head()[:-9]]
)
async def test_half_a_request_is_refused_at_its_end_and_not_executed(port: int, peer: Peer, sent: bytes) -> None:
    async with connected(port) as (reader, writer):
        writer.write(sent)
        writer.write_eof()
        status, headers, problem = await answer_from(reader)
        assert (status, problem["paymentStatus"]) == (400, "VALIDATION_ERROR")
        assert (headers["content-type"], headers["connection"]) == ("application/problem+json", "close")
        assert await reader.read() == b""
    assert peer.commands == []


async def test_who_waits_for_a_final_status_and_ends_has_left(
    port: int, peer: Peer, caplog: pytest.LogCaptureFixture, rpc_client: RpcClient
) -> None:
    """Nothing tells such a caller from one that is gone, and thousands may be."""
    caplog.set_level("INFO", logger="bridge.access")
    peer.handler = Gate()
    for early in (True, False):
        async with connected(port) as (reader, writer):
            writer.write(head("Prefer: wait=60", method="GET", path=f"{BASE}/checkout/verify/cs_test_a"))
            if not early:
                await until(lambda: rpc_client.in_flight + rpc_client.long_polls > 0)
            writer.write_eof()
            assert await reader.read() == b""
        await until(lambda: rpc_client.in_flight + rpc_client.long_polls == 0)
    await until(lambda: len(access_lines(caplog)) == 2)
    assert access_lines(caplog) == [None, None]


async def test_the_log_knows_of_no_answer_where_none_could_be_sent(
    port: int, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="bridge.access")
    gate = peer.handler = Gate()
    async with connected(port) as (_, writer):
        writer.write(head(*LENGTH[0]) + GOOD)
        await until(lambda: len(peer.commands) == 1)
        reset(writer)
    await asyncio.sleep(0.2)
    gate.opened.set()
    await until(lambda: access_lines(caplog) == [None])


@pytest.mark.usefixtures("peer")
async def test_a_connection_that_was_reset_leaves_nothing_behind(app: FastAPI) -> None:
    """Not even until the end of the time for which it would have been kept, which no test waits for."""

    def alive() -> int:
        gc.collect()
        return sum(isinstance(each, BridgeProtocol) for each in gc.get_objects())

    async with served(app, keep_alive_seconds=3600) as port:
        before = alive()
        for _ in range(10):
            async with connected(port) as (reader, writer):
                writer.write(head(method="GET", path=STATUS))
                assert (await answer_from(reader))[0] == 200
                reset(writer)
        await until(lambda: alive() <= before)


# --- what nobody reads ------------------------------------------------------------------------------------------------


async def test_what_follows_a_body_is_no_header(port: int, peer: Peer) -> None:
    """A gateway that strips such headers from the head may pass them on here."""
    trailers = b"x-user-id: 7\r\nx-user-roles: SERVICE_ACCOUNT\r\n"
    bare = (
        f"POST {BASE}/checkout/create HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{CHUNKED[0][0]}\r\n\r\n"
    )
    async with connected(port) as (reader, writer):
        writer.write(bare.encode() + CHUNKED[1][:-2] + trailers + b"\r\n")
        assert (await answer_from(reader))[0] == 401
    assert peer.commands == []


@pytest.mark.usefixtures("peer")
async def test_what_follows_a_good_request_and_is_none_is_refused_after_its_answer(port: int) -> None:
    async with connected(port) as (reader, writer):
        writer.write(head(*LENGTH[0]) + GOOD + b"this is not HTTP\r\n\r\n")
        assert [(await answer_from(reader))[0] for _ in range(2)] == [200, 400]
        assert await reader.read() == b""


@pytest.mark.usefixtures("peer")
async def test_a_body_that_nobody_reads_is_not_read_for_ever(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.http_protocol.HEAD_SECONDS", 0.3)
    async with connected(port) as (reader, writer):
        writer.write(head("Content-Length: 1000000000", method="GET", path=STATUS) + b"x")
        assert (await answer_from(reader))[0] == 200

        async def is_closed() -> bool:
            writer.write(b"x")
            try:
                await writer.drain()
            except ConnectionError:
                return True
            return False

        await until(is_closed)


# --- the end of the process -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("peer")
async def test_what_had_arrived_before_a_stop_is_answered(amqp_url: str) -> None:
    """New connections, and known ones that were idle: the process learns of the signal before it reads them."""
    async with running(amqp_url) as bridge:
        kept = [await asyncio.open_connection("127.0.0.1", bridge.port) for _ in range(10)]
        request = head(method="GET", path=STATUS)
        for reader, writer in kept:
            writer.write(request)
            assert (await answer_from(reader))[0] == 200
        bridge.process.send_signal(signal.SIGSTOP)
        new = [await asyncio.open_connection("127.0.0.1", bridge.port) for _ in range(10)]
        for _, writer in kept + new:
            writer.write(request)
            await writer.drain()
        bridge.process.send_signal(signal.SIGTERM)
        bridge.process.send_signal(signal.SIGCONT)
        for reader, writer in kept + new:
            async with asyncio.timeout(60):
                status, headers, problem = await answer_from(reader)
            assert (status, problem.get("retryable", True)) in {(200, True), (503, True)}
            assert status == 200 or (headers["retry-after"], headers["connection"]) == ("1", "close")
            writer.close()
        await bridge.end()


async def test_who_had_connected_and_was_not_accepted_before_a_stop_is_answered() -> None:
    """Closing the socket would reset them; here the loop had no time to accept between their coming and the stop."""
    rpc_client = an_rpc_client("amqp://nobody")
    server = Server(
        an_app(rpc_client),
        request_seconds=60,
        lifecycle=Lifecycle(),
        rpc_client=rpc_client,
        registration=None,
        drain_seconds=0,
    )
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        await server.startup(sockets=[listener])
        callers = [socket.create_connection(listener.getsockname()) for _ in range(10)]
        for caller in callers:
            caller.sendall(head(method="GET", path="/actuator/health/liveness"))
        await server.shutdown(sockets=[listener])
    for caller in callers:
        with caller:
            assert caller.recv(65536).startswith(b"HTTP/1.1 200 ")


# --- the end of a connection ------------------------------------------------------------------------------------------


async def read_to_its_end(caller: socket.socket) -> bytes:
    """All that comes until the other side closes in peace; raises ConnectionResetError if it does not."""
    found = b""
    while piece := await asyncio.to_thread(caller.recv, 65536):
        found += piece
    return found


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A closing connection lingers until the caller has closed it: no busy machine may end it before."""
    monkeypatch.setattr("runtime.http_protocol.LINGER_SECONDS", 60.0)


@pytest.mark.usefixtures("patience")
async def test_a_request_that_crosses_the_close_of_an_idle_connection_is_not_reset(app: FastAPI) -> None:
    """The caller sees that the connection was closed in peace: that no answer to another request was lost."""
    async with served(app, keep_alive_seconds=1) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as caller:
            request = head(method="GET", path="/actuator/health/liveness")
            await asyncio.to_thread(caller.sendall, request)
            assert (await read_to_its_end(caller)).startswith(b"HTTP/1.1 200")
            for _ in range(3):
                await asyncio.to_thread(caller.sendall, request)
                await asyncio.sleep(0.05)
            assert await read_to_its_end(caller) == b""


@pytest.mark.usefixtures("patience")
async def test_who_reads_the_refusal_only_after_a_large_body_was_sent_still_finds_it(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as caller:
        body = b"x" * (1 << 20)
        await asyncio.to_thread(caller.sendall, head(f"Content-Length: {len(body)}") + body)
        await asyncio.sleep(0.1)
        answer = await read_to_its_end(caller)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer
