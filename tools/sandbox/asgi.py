"""Requests and responses on ASGI, with minimal cost: the sandbox must not be the bottleneck of a benchmark."""

import re
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import to_json

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MAX_BODY = 1 << 20
"""Bytes; far above any legitimate request."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One HTTP request with its body read."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    base_url: str
    """Scheme, host and port as the caller wrote them, so that links work under any host name."""


@dataclass(frozen=True, kw_only=True)
class Response:
    """One answer; header names in Stripe's spelling."""

    status: int
    body: bytes
    headers: list[tuple[str, str]] = field(default_factory=list)


class CutError(Exception):
    """End the connection without an answer."""


class TooLargeError(Exception):
    """The body is longer than ``MAX_BODY``."""


def json_response(status: int, value: Any, headers: list[tuple[str, str]] | None = None) -> Response:
    """An answer in JSON."""
    return Response(
        status=status, body=json_bytes(value), headers=[("Content-Type", "application/json"), *(headers or [])]
    )


def json_bytes(value: Any) -> bytes:
    """Compact JSON by pydantic's encoder: the standard library takes five times as long, most of a create."""
    return to_json(value)


async def read(scope: Scope, receive: Receive) -> Request:
    """The whole request.

    Raises:
        TooLargeError: the body is too long.
        CutError: the caller left.
    """
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    chunks: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CutError
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > MAX_BODY:
            raise TooLargeError
        chunks.append(chunk)
        more = message.get("more_body", False)
    return Request(
        method=scope["method"],
        path=scope["path"],
        query=scope["query_string"].decode("latin-1"),
        headers=headers,
        body=b"".join(chunks),
        base_url=_base_url(scope, headers.get("host", "")),
    )


def _base_url(scope: Scope, host: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9._\-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?", host) is None:
        server, port = scope.get("server") or ("127.0.0.1", 80)
        host = f"{server}:{port}"
    return f"{scope.get('scheme', 'http')}://{host}"


async def write(send: Send, response: Response, *, head: bool = False) -> None:
    """Send the answer."""
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
    headers.append((b"Content-Length", str(len(response.body)).encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else response.body})
