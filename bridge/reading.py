"""Reading a request's body: declared as JSON, within a size and within a time."""

import asyncio
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request

from bridge.errors import BodyTimeoutError, BodyTooLargeError, IncompleteBodyError, UnsupportedMediaTypeError
from bridge.identity import single

_DISCARDED_BYTES: Final = 1024 * 1024
_DISCARDING_SECONDS: Final = 1.0


@dataclass(frozen=True, kw_only=True)
class BodyLimits:
    """How much and for how long a body is read."""

    max_bytes: int = 16 * 1024
    seconds: float = 5.0


async def read_body(request: Request, limits: BodyLimits) -> bytes:
    """The raw body.

    Raises:
        UnsupportedMediaTypeError: not declared as `application/json`.
        BodyTooLargeError: declared or found to be over the limit.
        BodyTimeoutError: not complete in time.
        IncompleteBodyError: the caller went away.
    """
    headers = request.scope["headers"]
    media_type = (single(headers, "Content-Type") or "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMediaTypeError
    declared = single(headers, "Content-Length") or "0"
    if not declared.isdecimal() or int(declared) > limits.max_bytes:
        await _discard(request)
        raise BodyTooLargeError
    content = bytearray()
    try:
        async with asyncio.timeout(limits.seconds):
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise IncompleteBodyError
                content += message.get("body", b"")
                if len(content) > limits.max_bytes:
                    break
                if not message.get("more_body", False):
                    return bytes(content)
    except TimeoutError:
        raise BodyTimeoutError from None
    await _discard(request)
    raise BodyTooLargeError


async def _discard(request: Request) -> None:
    """Take a little of what is too much: closing with unread data would reset the connection and cost the answer."""
    size = 0
    try:
        async with asyncio.timeout(_DISCARDING_SECONDS):
            while size < _DISCARDED_BYTES:
                message = await request.receive()
                size += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return
