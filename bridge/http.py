"""uvicorn's HTTP protocol with what it lacks: a limit and a deadline for a request's head, and our error body."""

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final
from uuid import uuid4

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from bridge.errors import BridgeError, HeadersTooLargeError, InvalidRequestError
from bridge.problems import problem
from bridge.waiting import WATCH

_log = logging.getLogger("bridge.access")

MAX_UNPARSED_BYTES: Final = 64 * 1024
"""Of an incomplete head. The exact limit is `edge.MAX_HEAD_BYTES`; this one keeps endless heads out of memory."""
HEAD_SECONDS: Final = 10.0
LINGER_SECONDS: Final = 1.0


class _SmallEvent(asyncio.Event):
    """Keeps its waiters in a list: the deque of asyncio's own takes 760 bytes, and each caller who waits has two."""

    def __init__(self, *, is_set: bool = False) -> None:
        self._waiters: list[asyncio.Future[bool]] = []  # type: ignore[assignment]
        self._value = is_set


class _SmallQueue(list[Any]):
    """In place of a deque, for the same reason."""

    def appendleft(self, item: Any) -> None:
        self.insert(0, item)


class BridgeProtocol(HttpToolsProtocol):
    """One connection."""

    _head_bytes = 0
    _head_is_open = True
    _is_refused = False
    _head_timer: asyncio.TimerHandle | None = None
    _gone: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection on which no request begins is closed, too."""
        super().connection_made(transport)
        self.pipeline = _SmallQueue()  # type: ignore[assignment]
        self.flow._is_writable_event = _SmallEvent(is_set=True)  # noqa: SLF001 - uvicorn's
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Usually the whole head is in `data`; only what is slow or big gets a timer and is counted."""
        if self._is_refused:
            return
        super().data_received(data)
        if self._head_is_open and not self._is_refused and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > MAX_UNPARSED_BYTES:
                self._refuse(HeadersTooLargeError())
            elif self._head_timer is None:
                self._await_head()

    def on_message_begin(self) -> None:
        """The parser found the beginning of a request."""
        super().on_message_begin()
        self._head_is_open = True
        self._head_bytes = 0
        self.scope[WATCH] = self._watch  # type: ignore[typeddict-unknown-key]

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self._head_is_open = False
        self._stop_timer()
        super().on_headers_complete()
        self.cycle.message_event = _SmallEvent()  # nobody has seen the one that it has: its task has not begun

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self._stop_timer()
        super().connection_lost(exc)
        if self._gone is not None:
            self._gone()

    def _watch(self, gone: Callable[[], None] | None) -> None:
        self._gone = gone
        if gone is not None and self.transport.is_closing():
            self.loop.call_soon(gone)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's text
        """Called by uvicorn for what is not HTTP."""
        self._refuse(InvalidRequestError("The request is not valid HTTP."))

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, error: BridgeError) -> None:
        request_id = f"generated-{uuid4()}"
        response = problem(error, request_id=request_id)
        headers = dict(response.raw_headers) | {b"x-request-id": request_id.encode(), b"connection": b"close"}
        lines = [b"%s: %s" % header for header in headers.items()]
        head = b"\r\n".join([b"HTTP/1.1 %d " % response.status_code, *lines, b"", b""])
        fields = {"request_id": request_id, "status": response.status_code, "code": error.code.value}
        _log.info("No request: %s", HTTPStatus(response.status_code).phrase, extra=fields)
        self._is_refused = True
        self._stop_timer()
        self.transport.write(head + bytes(response.body))
        # Closing now, with data unread, would reset the connection and could cost the caller this answer.
        self.transport.write_eof()
        self._head_timer = self.loop.call_later(LINGER_SECONDS, self.transport.close)
