"""Where the keys of service tokens come from: a file, or an address that may be down, slow, strange or hostile."""

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trustme

import bridge.keys
from bridge.app import create_app
from bridge.keys import KeyRing, source_at
from bridge.requester import Requester
from bridge.tokens import ServiceTokens
from tests.integration.bridge.conftest import BASE, IDENTITY, until
from tests.integration.bridge.issuer import (
    AUDIENCE,
    ISSUER,
    KeyServer,
    bearer,
    both_keys,
    ec_key,
    jwk,
    key_server,
    key_set,
    token,
)
from tests.integration.bridge.peer import Peer

READ = f"{BASE}/status/cs_test_a1"
REST_SECONDS = 0.02


@asynccontextmanager
async def calling(
    requester: Requester, location: str, rest_seconds: float = REST_SECONDS
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a bridge that takes its keys from there."""
    async with KeyRing(source_at(location), rest_seconds=rest_seconds) as ring:
        app = create_app(requester, identity=ServiceTokens(ring, issuer=ISSUER, audience=AUDIENCE))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://bridge", headers=IDENTITY) as client:
            yield client


async def status(client: httpx.AsyncClient, held: str) -> int:
    return (await client.get(READ, headers=bearer(held))).status_code


async def comes_to(client: httpx.AsyncClient, held: str, wanted: int) -> None:
    """Ask until the answer has this status."""
    async with asyncio.timeout(20):
        while await status(client, held) != wanted:  # noqa: ASYNC110 - what is waited for knows no event
            await asyncio.sleep(0.02)


def from_new_key(name: str = "ec-2") -> str:
    return token(ec_key(name), kid=name)


async def test_a_new_key_is_found_by_its_first_token_and_an_old_one_ends(requester: Requester) -> None:
    """Also for a token that was let in before: it is looked at again under the new keys."""
    old = token()
    async with key_server() as server, calling(requester, server.url, rest_seconds=0) as client:
        assert await status(client, old) == 200
        server.content = key_set(jwk("ec-2", ec_key("ec-2")))
        assert await status(client, from_new_key()) == 200
        assert await status(client, old) == 401
        assert await status(client, from_new_key()) == 200


async def test_who_asks_right_after_the_first_look_does_not_wait_for_the_next() -> None:
    async def source() -> bytes:
        return both_keys()

    async with KeyRing(source, rest_seconds=3600) as ring, asyncio.timeout(20):
        assert await ring.find("unknown") is None


async def test_a_changed_file_is_read_again(requester: Requester, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(both_keys())
    async with calling(requester, str(path)) as client:
        assert await status(client, from_new_key()) == 401
        path.write_bytes(key_set(jwk("ec-2", ec_key("ec-2"))))
        await comes_to(client, from_new_key(), 200)
        path.unlink()
        await comes_to(client, token(), 401)
        assert await status(client, from_new_key()) == 200


async def test_made_up_key_ids_do_not_wear_the_source_out(requester: Requester, peer: Peer) -> None:
    """At most one look per rest, whatever comes in; nobody waits while it rests."""
    rest_seconds = 0.25
    async with key_server() as server, calling(requester, server.url, rest_seconds) as client:
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


def answered_by(code: int = 200, content: bytes | None = None, raw: bytes | None = None) -> Callable[[KeyServer], None]:
    def change(server: KeyServer) -> None:
        server.status, server.raw = code, raw
        server.content = both_keys() if content is None else content

    return change


BROKEN: dict[str, Callable[[KeyServer], None]] = {
    "an error": answered_by(500),
    "not found": answered_by(404),
    "empty": answered_by(content=b""),
    "no JSON": answered_by(content=b"<html>"),
    "deep": answered_by(content=b"[" * 60_000),
    "no key set": answered_by(content=b"[]"),
    "no keys": answered_by(content=b'{"keys": []}'),
    "strange keys": answered_by(content=b'{"keys": [null, 7, {}, {"kty": "EC", "kid": "a"}, {"kid": []}]}'),
    "too large": answered_by(content=both_keys() + b" " * 70_000),
    "endless": answered_by(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"400\r\n" * 20_000),
    "no HTTP": answered_by(raw=b"SSH-2.0-OpenSSH\r\n"),
    "hangs up": answered_by(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + both_keys()[:100]),
    "another protocol": answered_by(raw=b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nx"),
}


async def test_without_any_key_the_answer_is_503_until_there_is_one(
    requester: Requester, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    """For a token that could be good; one line in the log says that there are none, one that there are some."""
    for name, break_it in BROKEN.items():
        caplog.clear()
        async with key_server() as server:
            break_it(server)
            with caplog.at_level(logging.INFO, logger="bridge.keys"):
                async with calling(requester, server.url) as client:
                    answer = await client.get(READ, headers=bearer(token()))
                    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2"), name
                    assert answer.json()["paymentStatus"] == "SERVICE_UNAVAILABLE"
                    assert answer.json()["retryable"] is True
                    assert await status(client, "forged") == 401
                    await until(lambda: len(server.requests) >= 3)
                    assert await status(client, token()) == 503
                    answered_by()(server)
                    await comes_to(client, token(), 200)
        levels = [record.levelname for record in caplog.records if record.name == "bridge.keys"]
        assert levels == ["WARNING", "INFO"], name
    assert len(peer.commands) == len(BROKEN)


async def test_known_keys_stay_while_the_source_is_down(requester: Requester) -> None:
    async with key_server() as server, calling(requester, server.url) as client:
        port = server.port
        for break_it in BROKEN.values():
            break_it(server)
            asked = len(server.requests)
            assert await status(client, from_new_key()) == 401
            await until(lambda: len(server.requests) > asked + 1)  # noqa: B023 - called here
            assert await status(client, token()) == 200
    async with calling(requester, f"http://127.0.0.1:{port}/keys") as client:
        assert await status(client, token()) == 503


async def test_while_the_source_hangs_others_are_served_and_nobody_waits_for_ever(
    requester: Requester, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with key_server() as server, calling(requester, server.url) as client:
        server.held = asyncio.Event()
        stranger = asyncio.create_task(comes_to(client, from_new_key(), 200))
        await until(lambda: len(server.requests) == 2)
        for _ in range(20):
            assert await status(client, token()) == 200
        assert not stranger.done()
        server.content = key_set(jwk("ec-2", ec_key("ec-2")))
        server.held.set()
        await stranger
    monkeypatch.setattr(bridge.keys, "READ_SECONDS", 0.2)
    async with key_server() as server:
        server.held = asyncio.Event()
        async with asyncio.timeout(20), calling(requester, server.url) as client:
            assert await status(client, token()) == 503


async def test_a_redirect_is_not_followed(requester: Requester) -> None:
    async with key_server() as elsewhere, key_server() as server:
        server.raw = f"HTTP/1.1 302 Found\r\nLocation: {elsewhere.url}\r\nContent-Length: 0\r\n\r\n".encode()
        async with calling(requester, server.url) as client:
            assert await status(client, token()) == 503
            await until(lambda: len(server.requests) >= 2)
    assert elsewhere.requests == []


async def test_an_answer_in_pieces_is_put_together(requester: Requester) -> None:
    content = both_keys()
    pieces = b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in (content[:7], content[7:300], content[300:]))
    async with key_server() as server:
        server.raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n"
        async with calling(requester, server.url) as client:
            assert await status(client, token()) == 200
    assert server.requests[0].startswith(b"GET /keys?all=1 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % server.port)


async def test_over_https_the_certificate_must_be_trusted(
    requester: Requester, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the machine's authorities, or by those that OpenSSL's own SSL_CERT_FILE names."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with key_server(tls=context) as server:
        async with calling(requester, server.url) as client:
            assert await status(client, token()) == 503
        assert server.requests == []
        authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        async with calling(requester, server.url) as client:
            assert await status(client, token()) == 200
