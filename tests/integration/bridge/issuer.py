"""An issuer of service tokens with real keys, and a server for its key set that can fail in every way."""

import asyncio
import base64
import json
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

ISSUER, AUDIENCE = "https://identity.example", "payment-service"
EVERYTHING = "payments:create payments:read"
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@cache
def ec_key(name: str, curve: type[ec.EllipticCurve] = ec.SECP256R1) -> ec.EllipticCurvePrivateKey:
    """A key for each name."""
    del name
    return ec.generate_private_key(curve())


@cache
def rsa_key(name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    del name
    return rsa.generate_private_key(65537, bits)


def jwk(kid: str | None, key: Key, **members: Any) -> dict[str, Any]:
    """The public half as a key set has it."""
    public: dict[str, Any]
    if isinstance(key, rsa.RSAPrivateKey):
        public = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
        public.pop("key_ops", None)
    else:
        public = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return public | ({} if kid is None else {"kid": kid}) | members


def key_set(*members: dict[str, Any]) -> bytes:
    return json.dumps({"keys": members}).encode()


def both_keys() -> bytes:
    return key_set(jwk("ec-1", ec_key("ec-1"), use="sig", alg="ES256"), jwk("rsa-1", rsa_key("rsa-1"), use="sig"))


def claims(**changes: Any) -> dict[str, Any]:
    """Good ones, unless changed; None leaves one out. Times are in seconds from now."""
    now = int(time.time())
    members: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "booking-service",
        "scope": EVERYTHING,
        "exp": 240,
        "iat": 0,
    }
    members |= changes
    for name in ("exp", "iat", "nbf"):
        if isinstance(members.get(name), int | float) and not isinstance(members[name], bool):
            members[name] += now
    return {name: value for name, value in members.items() if value is not None}


def token(
    key: Any = None, *, kid: Any = "ec-1", alg: str = "ES256", header: dict[str, Any] | None = None, **changes: Any
) -> str:
    """A good token, unless something is changed."""
    headers = {"kid": kid} if kid is not None else {}
    return jwt.encode(claims(**changes), key or ec_key("ec-1"), alg, headers=headers | (header or {}))


def encoded(part: Any) -> str:
    content = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def bearer(credentials: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credentials}"}


class KeyServer:
    """Answers every request with `status` and `content`, or with `raw`; `gate` delays it until it is set."""

    def __init__(self, content: bytes | None) -> None:
        self.answer(content=content)
        self.gate: asyncio.Event | None = None
        self.requests: list[bytes] = []
        self.port = 0
        self.scheme = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/keys?all=1"

    def answer(self, *, status: int = 200, content: bytes | None = None, raw: bytes | None = None) -> None:
        self.status, self.raw = status, raw
        self.content = both_keys() if content is None else content

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            if self.gate is not None:
                await self.gate.wait()
            head = f"HTTP/1.1 {self.status} Any\r\nContent-Length: {len(self.content)}\r\n\r\n".encode()
            writer.write(self.raw or head + self.content)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def key_server(
    content: bytes | None = None, *, port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[KeyServer]:
    """On a free port of this machine."""
    state = KeyServer(content)
    state.scheme = "https" if tls else "http"
    server = await asyncio.start_server(state.serve, "127.0.0.1", port, ssl=tls)
    state.port = server.sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        if state.gate is not None:
            state.gate.set()
        server.close()
        await server.wait_closed()
