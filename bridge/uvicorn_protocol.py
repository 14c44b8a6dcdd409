"""The HTTP protocol of every port of ours, with the bridge's error body and its long polls."""

import logging
from collections.abc import Callable
from http import HTTPStatus
from uuid import uuid4

from bridge.prefer_header import WATCH
from bridge.problems import by_objection, problem
from runtime.http_objections import Objection
from runtime.http_protocol import HttpProtocol

_log = logging.getLogger("bridge.access")


class BridgeProtocol(HttpProtocol):
    """One connection."""

    _gone: Callable[[], None] | None = None

    def answer(self, objection: Objection) -> bytes:
        """A problem, and its line in the access log."""
        refusal, request_id = by_objection(objection), f"generated-{uuid4()}"
        response = problem(refusal, request_id=request_id)
        headers = dict(response.raw_headers) | {b"x-request-id": request_id.encode(), b"connection": b"close"}
        lines = [b"%s: %s" % header for header in headers.items()]
        head = b"\r\n".join([b"HTTP/1.1 %d " % response.status_code, *lines, b"", b""])
        fields = {"request_id": request_id, "status": response.status_code, "code": refusal.code.value}
        _log.info("No request: %s", HTTPStatus(response.status_code).phrase, extra=fields)
        return head + bytes(response.body)

    def on_message_begin(self) -> None:
        """Called by the parser at the beginning of a request."""
        super().on_message_begin()
        self.scope[WATCH] = self._watch  # type: ignore[typeddict-unknown-key]

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Called when the caller sends no more. A caller of a long poll has left, as far as we can know."""
        return None if self._gone is not None else super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called when the connection has ended."""
        super().connection_lost(exc)
        if self._gone is not None:
            self._gone()

    def _watch(self, gone: Callable[[], None] | None) -> None:
        self._gone = gone
        if gone is not None and self._ignores_input:
            self.transport.close()  # the end of the caller's input came first
        if gone is not None and self.transport.is_closing():
            self.loop.call_soon(gone)
