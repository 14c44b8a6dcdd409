"""Reads a request's body, which must be declared as JSON, within a size and a time."""

import asyncio
import contextlib
from typing import Final

from starlette.requests import ClientDisconnect, Request

from bridge.auth import single
from bridge.errors import (
    BODY_TOO_LARGE,
    INCOMPLETE_BODY,
    REQUEST_TIMEOUT,
    UNSUPPORTED_ENCODING,
    UNSUPPORTED_MEDIA_TYPE,
    BridgeError,
)

MAX_BODY_BYTES: Final = 16 * 1024
BODY_SECONDS: Final = 5.0
"""The time in which a body must arrive."""
_DISCARDED_BYTES: Final = 1024 * 1024
_DISCARDING_SECONDS: Final = 1.0


async def read_body(request: Request) -> bytes:
    """The raw body; BridgeError if it is not declared as JSON, encoded, over the limit, or not complete in time."""
    headers = request.scope["headers"]
    media_type = (single(headers, "Content-Type") or "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise BridgeError(UNSUPPORTED_MEDIA_TYPE)
    # Of all lines together: an empty element of a list counts as none (RFC 9110 section 5.6.1).
    encodings = b",".join(value for name, value in headers if name == b"content-encoding").lower().split(b",")
    if any(encoding.strip() not in {b"", b"identity"} for encoding in encodings):
        raise BridgeError(UNSUPPORTED_ENCODING)
    declared = single(headers, "Content-Length") or "0"
    if not declared.isdecimal() or int(declared) > MAX_BODY_BYTES:
        await _discard(request)
        raise BridgeError(BODY_TOO_LARGE)
    content = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.stream():
                content += piece
                if len(content) > MAX_BODY_BYTES:
                    break
            else:
                return bytes(content)
    except ClientDisconnect:
        raise BridgeError(INCOMPLETE_BODY) from None
    except TimeoutError:
        raise BridgeError(REQUEST_TIMEOUT) from None
    await _discard(request)
    raise BridgeError(BODY_TOO_LARGE)


async def _discard(request: Request) -> None:
    """Read some of the rest: closing with unread data would reset the connection and lose the answer."""
    size = 0
    with contextlib.suppress(TimeoutError, ClientDisconnect):
        async with asyncio.timeout(_DISCARDING_SECONDS):
            async for piece in request.stream():
                size += len(piece)
                if size >= _DISCARDED_BYTES:
                    return
