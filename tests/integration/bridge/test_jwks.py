"""Where the keys of service tokens come from: a file, or an address that may be down, slow, strange or hostile."""

import asyncio
import gzip
import logging
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

import bridge.jwks
from bridge.jwks import JwksCache, source_at
from bridge.jwt_auth import JwtAuth
from bridge.rpc_client import RpcClient
from tests.integration.bridge.conftest import BASE, client_of, until
from tests.integration.bridge.issuer import AUDIENCE, ISSUER, bearer, both_keys, ec_key, jwk, key_server, key_set, token
from tests.integration.bridge.peer import Peer
from tests.kit.bridge import MachineClock, an_app

READ = f"{BASE}/status/cs_test_a1"
REST_SECONDS = 0.02


@asynccontextmanager
async def calling(
    rpc_client: RpcClient, location: str, rest_seconds: float = REST_SECONDS
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a bridge that takes its keys from there."""
    async with JwksCache(source_at(location), rest_seconds=rest_seconds) as cache:
        app = an_app(rpc_client, authenticator=JwtAuth(cache, issuer=ISSUER, audience=AUDIENCE, clock=MachineClock()))
        async with client_of(app) as client:
            yield client


async def status(client: httpx.AsyncClient, credentials: str) -> int:
    return (await client.get(READ, headers=bearer(credentials))).status_code


async def comes_to(client: httpx.AsyncClient, credentials: str, wanted: int) -> None:
    """Ask until the answer has this status."""

    async def is_wanted() -> bool:
        return await status(client, credentials) == wanted

    await until(is_wanted)


def from_new_key(name: str = "ec-2") -> str:
    return token(ec_key(name), kid=name)


async def test_a_new_key_is_found_by_its_first_token_and_an_old_one_ends(rpc_client: RpcClient) -> None:
    """Also for a token that was let in before: it is looked at again under the new keys."""
    old = token()
    async with key_server() as server, calling(rpc_client, server.url, rest_seconds=0) as client:
        assert await status(client, old) == 200
        server.content = key_set(jwk("ec-2", ec_key("ec-2")))
        assert await status(client, from_new_key()) == 200
        assert await status(client, old) == 401
        assert await status(client, from_new_key()) == 200


async def test_who_asks_right_after_the_first_look_does_not_wait_for_the_next() -> None:
    async def source() -> bytes:
        return both_keys()

    async with JwksCache(source, rest_seconds=3600) as cache, asyncio.timeout(20):
        assert await cache.find("unknown") is None


async def test_a_changed_file_is_read_again(rpc_client: RpcClient, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(both_keys())
    async with calling(rpc_client, str(path)) as client:
        assert await status(client, from_new_key()) == 401
        path.write_bytes(key_set(jwk("ec-2", ec_key("ec-2"))))
        await comes_to(client, from_new_key(), 200)
        path.unlink()
        await comes_to(client, token(), 401)
        assert await status(client, from_new_key()) == 200


async def test_made_up_key_ids_do_not_wear_the_source_out(rpc_client: RpcClient, peer: Peer) -> None:
    """At most one look per rest, whatever comes in; nobody waits while it rests."""
    rest_seconds = 0.25
    async with key_server() as server, calling(rpc_client, server.url, rest_seconds) as client:
        started = time.monotonic()
        forged = [token(ec_key("stranger"), kid=f"made-up-{number}") for number in range(500)]
        for each in forged[:250]:
            assert await status(client, each) == 401
            await asyncio.sleep(0.001)  # else no look could begin in between: this client has no socket to wait for
        assert set(await asyncio.gather(*(status(client, each) for each in forged[250:]))) == {401}
        elapsed = time.monotonic() - started
        assert len(server.requests) <= 2 + elapsed / rest_seconds
        assert await status(client, token()) == 200
    assert len(peer.commands) == 1


BROKEN: dict[str, dict[str, Any]] = {
    "an error": {"status": 500},
    "not found": {"status": 404},
    "no JSON": {"content": b"<html>"},
    "too large": {"content": both_keys() + b" " * 70_000},
    "endless": {"raw": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"400\r\n" * 20_000},
    "endless head": {"raw": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000},
    "packed": {"raw": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(both_keys())},
    "no HTTP": {"raw": b"SSH-2.0-OpenSSH\r\n"},
    "hangs up": {"raw": b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + both_keys()[:100]},
    "another protocol": {"raw": b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nx"},
}


async def test_without_any_key_the_answer_is_503_until_there_is_one_and_known_keys_stay(
    rpc_client: RpcClient, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    """For a token that could be good. One line in the log says that there are no keys, one that there are some."""
    caplog.set_level(logging.INFO, logger="bridge.jwks")
    for name, answer_with in BROKEN.items():
        caplog.clear()
        async with key_server() as server:
            server.answer(**answer_with)
            async with calling(rpc_client, server.url) as client:
                answer = await client.get(READ, headers=bearer(token()))
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "2"), name
                problem = answer.json()
                assert (problem["paymentStatus"], problem["retryable"]) == ("SERVICE_UNAVAILABLE", True)
                assert await status(client, "forged") == 401
                await until(lambda: len(server.requests) >= 3)
                server.answer()
                await comes_to(client, token(), 200)
                levels = [record.levelname for record in caplog.records if record.name == "bridge.jwks"]
                assert levels == ["WARNING", "INFO"], name
                server.answer(**answer_with)
                asked = len(server.requests)
                assert await status(client, from_new_key()) == 401
                await until(lambda: len(server.requests) > asked + 1)  # noqa: B023 - called here
                assert await status(client, token()) == 200
    assert len(peer.commands) == 2 * len(BROKEN)


async def test_while_the_source_hangs_others_are_served(rpc_client: RpcClient) -> None:
    async with key_server() as server, calling(rpc_client, server.url) as client:
        server.gate = asyncio.Event()
        stranger = asyncio.create_task(comes_to(client, from_new_key(), 200))
        await until(lambda: len(server.requests) == 2)
        for _ in range(20):
            assert await status(client, token()) == 200
        assert not stranger.done()
        server.content = key_set(jwk("ec-2", ec_key("ec-2")))
        server.gate.set()
        await stranger


async def test_a_redirect_is_not_followed(rpc_client: RpcClient) -> None:
    async with key_server() as elsewhere, key_server() as server:
        server.raw = f"HTTP/1.1 302 Found\r\nLocation: {elsewhere.url}\r\nContent-Length: 0\r\n\r\n".encode()
        async with calling(rpc_client, server.url) as client:
            assert await status(client, token()) == 503
            await until(lambda: len(server.requests) >= 2)
    assert elsewhere.requests == []


async def test_an_answer_that_never_ends_is_given_up_however_it_drips(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = asyncio.Event()

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n")
        while not writer.transport.is_closing():
            writer.write(b" ")
            await asyncio.sleep(0.01)
        ended.set()

    monkeypatch.setattr(bridge.jwks, "READ_SECONDS", 0.3)
    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        with pytest.raises(TimeoutError):
            await source_at(url)()
        await ended.wait()


async def test_an_answer_in_pieces_is_put_together_and_no_proxy_is_asked(
    rpc_client: RpcClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    content = both_keys()
    pieces = b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in (content[:7], content[7:300], content[300:]))
    async with key_server() as server:
        server.raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n"
        async with calling(rpc_client, server.url) as client:
            assert await status(client, token()) == 200
    assert server.requests[0].startswith(b"GET /keys?all=1 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % server.port)


async def test_over_https_the_certificate_must_be_trusted(
    rpc_client: RpcClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the machine's authorities, or by those that OpenSSL's own SSL_CERT_FILE names."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with key_server(tls=context) as server:
        async with calling(rpc_client, server.url) as client:
            assert await status(client, token()) == 503
        assert server.requests == []
        authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        async with calling(rpc_client, server.url) as client:
            assert await status(client, token()) == 200
