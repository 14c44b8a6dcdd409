"""The service's port stands what the bridge's does. No broker and no database: the pages are there before both."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import uvicorn
from faststream.asgi import AsgiFastStream

from runtime.health import Build, Health
from service.entrypoints import actuator, docs_page
from service.entrypoints.operator_pages import MAX_CONNECTIONS, OperatorPages, OperatorProtocol
from tests.integration.bridge.test_connections import OFFERS, answer_from, connected
from tests.kit.until import until
from tests.kit.web import listening

LIVENESS: Final = "/actuator/health/liveness"


async def _metrics() -> bytes:
    return b""


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Where the pages are served, as the process serves them."""
    health = Health(checks={}, is_leaving=lambda: False)
    build = Build.installed("payment-service", commit=None)
    routes = [*actuator.routes(health=health, build=build, metrics=_metrics), *docs_page.routes()]
    pages = OperatorPages(AsgiFastStream(asgi_routes=routes), documents=docs_page.DOCUMENTS)
    config = uvicorn.Config(
        pages, port=0, http=OperatorProtocol, ws="none", lifespan="off", log_config=None, access_log=False
    )
    async with listening(config) as port:
        yield port


def a_get(*lines: str, path: str = LIVENESS, method: str = "GET", host: str = "Host: service:8086") -> bytes:
    head = [f"{method} {path} HTTP/1.1", *([host] if host else []), *lines, "", ""]
    return "\r\n".join(head).encode()


REFUSED = {
    "no HTTP": (b"this is not HTTP\r\n\r\n", 400),
    "another version": (a_get().replace(b"HTTP/1.1", b"HTTP/2.0"), 400),
    "no host": (a_get(host=""), 400),
    "two hosts": (a_get("Host: other"), 400),
    "a host that is none": (a_get(host="Host: a/b"), 400),
    "an endless head": (a_get()[:-2] + b"X: " + b"x" * 200_000, 431),
    "a head over 8 KiB": (a_get("X: " + "x" * 9_000), 431),
    "an address over 8 KiB": (a_get(path="/" + "x" * 9_000), 431),
    "a coding that is unknown": (a_get("Transfer-Encoding: gzip, chunked"), 501),
    "a coding that is unknown and last": (a_get("Transfer-Encoding: br"), 501),
    "both lengths": (a_get("Transfer-Encoding: chunked", "Content-Length: 1"), 400),
    "a tunnel": (a_get(method="CONNECT", path="a:443"), 501),
    "no page": (a_get(path="/actuator/env"), 404),
    "no page, another method": (a_get(path="/actuator/env", method="POST"), 404),
    **{f"{method} of a page": (a_get(method=method), 405) for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH")},
    "POST of the index": (a_get(path="/", method="POST"), 405),
    "POST of the document": (a_get(path="/asyncapi.yaml", method="POST"), 405),
}


@pytest.mark.parametrize(("sent", "status"), REFUSED.values(), ids=REFUSED.keys())
async def test_what_http_does_not_allow_is_refused_by_its_status(port: int, sent: bytes, status: int) -> None:
    async with connected(port) as (reader, writer):
        writer.write(sent)
        found, headers, problem = await answer_from(reader)
    assert (found, problem["status"], problem["type"]) == (status, status, "about:blank")
    assert headers["content-type"] == "application/problem+json"
    assert headers.get("allow") == ("GET, HEAD" if status == 405 else None)


async def test_a_head_is_answered_without_a_body(port: int) -> None:
    async with connected(port) as (reader, writer):
        writer.write(a_get(method="HEAD") + a_get())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        status, headers, page = await answer_from(reader)
    assert (status, page) == (200, {"status": "UP"})
    assert b"content-length: %b" % headers["content-length"].encode() in head


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS.keys())
async def test_an_offer_of_another_protocol_is_ignored(port: int, offer: tuple[str, ...]) -> None:
    async with connected(port) as (reader, writer):
        for _ in range(2):
            writer.write(a_get(*offer))
            assert (await answer_from(reader))[::2] == (200, {"status": "UP"})


async def test_a_probe_that_half_closes_is_answered(port: int) -> None:
    async with connected(port) as (reader, writer):
        writer.write(a_get())
        writer.write_eof()
        assert (await answer_from(reader))[0] == 200
        assert await reader.read() == b""


async def test_a_crowd_takes_no_more_connections_than_there_are_and_probes_are_answered(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has a file of this process, and so have the connections to the database and the broker."""
    monkeypatch.setattr("runtime.http_protocol.HEAD_SECONDS", 3600)  # so that nothing else cuts them
    crowd = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_CONNECTIONS + 50)]
    for _, writer in crowd:
        writer.write(a_get()[:-2])
    for _ in range(3):
        async with connected(port) as (reader, writer):
            writer.write(a_get())
            assert (await answer_from(reader))[0] == 200

    def cut() -> int:
        return sum(reader.at_eof() or reader.exception() is not None for reader, _ in crowd)

    await until(lambda: cut() >= 50)
    assert cut() < MAX_CONNECTIONS
    for _, writer in crowd:
        writer.close()


async def test_who_is_silent_is_cut_and_who_is_slow_is_told(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.http_protocol.HEAD_SECONDS", 0.3)
    async with connected(port) as (reader, writer):
        assert await reader.read() == b""
    for before in (b"", a_get()):
        async with connected(port) as (reader, writer):
            writer.write(before + a_get()[:-2])
            if before:
                assert (await answer_from(reader))[0] == 200
            status, headers, problem = await answer_from(reader)
            assert (status, headers["connection"], problem["title"]) == (408, "close", "Request Timeout")
            assert await reader.read() == b""


def links(document: dict[str, Any]) -> dict[str, str]:
    return {name: link["href"] for name, link in document["_links"].items()}


async def test_the_indexes_lead_to_every_page_and_document(port: int) -> None:
    origin = "http://service:8086"
    async with connected(port) as (reader, writer):
        writer.write(a_get(path="/actuator") + a_get(path="/"))
        (status, headers, actuator_index), (_, _, root) = await answer_from(reader), await answer_from(reader)
        assert (status, headers["content-type"]) == (200, "application/vnd.spring-boot.actuator.v3+json")
        assert links(actuator_index) == {
            "self": f"{origin}/actuator",
            "health": f"{origin}/actuator/health",
            "health-path": f"{origin}/actuator/health/{{*path}}",
            "info": f"{origin}/actuator/info",
            "prometheus": f"{origin}/actuator/prometheus",
        }
        assert [name for name, link in actuator_index["_links"].items() if link["templated"]] == ["health-path"]
        assert links(root) == links(actuator_index) | {
            "self": f"{origin}/",
            "actuator": f"{origin}/actuator",
            "asyncapi": f"{origin}/asyncapi.yaml",
            "asyncapi-page": f"{origin}/asyncapi",
        }
        for href in (href for href in links(root).values() if "{" not in href):
            writer.write(a_get(path=href.removeprefix(origin), method="HEAD"))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_an_index_has_no_host_of_its_own(port: int) -> None:
    async with connected(port) as (reader, writer):
        writer.write(b"GET /actuator HTTP/1.0\r\n\r\n")
        assert json.dumps("/actuator/health") in json.dumps((await answer_from(reader))[2])
