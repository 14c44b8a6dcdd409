"""uvicorn's HTTP protocol as every port of ours needs it: bounds on the head, no other protocol, no answer lost.

What is wrong with a request that could be parsed is left in its scope (`OBJECTION`), for the application to answer in
its own words and in order; what could not be parsed is answered here.
"""

import asyncio
import re
from typing import Any, Final

import httptools
from uvicorn._types import ASGIReceiveEvent
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from runtime.http_objections import (
    BAD_FRAMING,
    BAD_HOST,
    CROWDED,
    HEAD_TOO_LARGE,
    INCOMPLETE_HEAD,
    NO_TUNNEL,
    NOT_HTTP,
    OBJECTION,
    SLOW_HEAD,
    UNKNOWN_CODING,
    Objection,
)
from runtime.lingering_transport import LingeringTransport

MAX_HEAD_BYTES: Final = 8 * 1024
"""For the names and values of all headers together, and the same again for the address."""
MAX_UNPARSED_BYTES: Final = 64 * 1024
"""For an incomplete head: it bounds the memory."""
HEAD_SECONDS: Final = 10.0
"""For a head to arrive, and for a body that nobody reads."""
LINGER_SECONDS: Final = 1.0
"""How long a caller has to read its last answer before the connection ends in both directions."""
LAST_READ_SECONDS: Final = 0.2
"""How long an idle connection is read before a stop closes it: a request may have arrived that was not read yet."""
KEEP_ALIVE_SECONDS: Final = 75
"""Longer than the 60 s for which callers' pools keep theirs: a POST on a connection just closed here would be lost."""

IS_CONNECTED: Final = "http.is_connected"
"""Key in the ASGI scope: a function that says whether an answer could still be sent."""

_VERSIONS: Final = {"1.0", "1.1"}
_HOST: Final = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]*)?")


class _SmallEvent(asyncio.Event):
    """Keeps its waiters in a list: asyncio's deque takes 760 bytes, and each caller who waits has two."""

    def __init__(self, *, is_set: bool = False) -> None:
        self._waiters: list[asyncio.Future[bool]] = []  # type: ignore[assignment]
        self._value = is_set


class _SmallQueue(list[Any]):
    """Replaces a deque, for the same reason."""

    def appendleft(self, item: Any) -> None:
        self.insert(0, item)


class _Cycle(RequestResponseCycle):
    """One request and its answer, which can be sent although the rest of the request will not come."""

    input_ended = False

    async def receive(self) -> ASGIReceiveEvent:
        message: ASGIReceiveEvent = {"type": "http.disconnect"}
        if not self.input_ended:
            received = await super().receive()
            if not self.input_ended:
                return received
        return message

    def is_connected(self) -> bool:
        return not self.disconnected and not self.transport.is_closing()


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    max_connections: int | None = None
    """With more, the one that has been idle for longest makes room for each new one."""

    _head_bytes = 0
    _head_is_open = True
    _body_is_open = False
    _ignores_input = False
    _input_ended = False
    _is_stopping = False
    _refusal_due: Objection | None = None
    _timer: asyncio.TimerHandle | None = None
    idle_since = 0.0

    def answer(self, objection: Objection) -> bytes:
        """The whole answer to what is no request; it says that the connection closes."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the deadline: a connection on which no request begins is closed, too, without an answer."""
        super().connection_made(LingeringTransport(transport, self._linger))  # type: ignore[arg-type]
        self.pipeline = _SmallQueue()  # type: ignore[assignment]
        self.flow._is_writable_event = _SmallEvent(is_set=True)  # noqa: SLF001 - uvicorn's
        self.idle_since = self.loop.time()
        self._close_after(HEAD_SECONDS)
        if self.max_connections is not None and len(self.connections) > self.max_connections:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        """Usually the whole head is in `data`; only a slow or big one gets a timer and is counted."""
        if self._ignores_input:
            return
        self._unset_keepalive_if_required()
        try:
            self._parse(memoryview(data))
        except httptools.HttpParserError:
            self._on_invalid()
        if self._head_is_open and not self._ignores_input and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > MAX_UNPARSED_BYTES:
                self._refuse(HEAD_TOO_LARGE)
            elif self._timer is None:
                self._close_after(HEAD_SECONDS)

    def on_message_begin(self) -> None:
        """Called by the parser at the beginning of a request."""
        super().on_message_begin()
        self._head_is_open = True
        self._head_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser for each header, and for what follows a chunked body, which is none."""
        if self._head_is_open:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Called by the parser when the head is complete."""
        if self.parser.should_upgrade():
            return  # it is parsed again
        self._head_is_open, self._body_is_open = False, True
        self._stop_timer()
        if self.parser.get_http_version() == "1.0":
            self.expect_100_continue = False  # it would be taken for the answer (RFC 9110 section 10.1.1)
        if (objection := self._objection()) is not None:
            self.scope[OBJECTION] = objection  # type: ignore[typeddict-unknown-key]
        super().on_headers_complete()
        # The cycle's task has not begun.
        self.cycle.__class__ = _Cycle
        self.cycle.message_event = _SmallEvent()
        self.scope[IS_CONNECTED] = self.cycle.is_connected  # type: ignore[typeddict-unknown-key,attr-defined]
        if self._is_stopping:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """Called by the parser when the body is complete."""
        if self.parser.should_upgrade():
            return
        self._body_is_open = False
        self._stop_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Called by uvicorn when an answer was written: what is due now, and no body without end."""
        super().on_response_complete()
        if self.is_busy or self.transport.is_closing():
            return
        self.idle_since = self.loop.time()
        if self._refusal_due is not None:
            self._refuse(self._refusal_due)
        elif self._body_is_open:
            self._close_after(HEAD_SECONDS)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Called when the caller sends no more; it may still read. True keeps the connection open for its answer."""
        self._input_ended = True
        if self._ignores_input and not self.is_busy:
            return None
        if self.is_busy:
            self._end_input()
            return True
        if self._head_is_open and self._head_bytes:
            self._refuse(INCOMPLETE_HEAD)
            return True
        return None

    def shutdown(self) -> None:
        """Called by uvicorn when the process stops: finish what has begun, and what has arrived and was not read."""
        self._is_stopping = True
        if self.is_busy:
            super().shutdown()
        else:
            self.loop.call_later(LAST_READ_SECONDS, self._close_if_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called when the connection has ended, however it did: no timer may keep it in memory."""
        self._stop_timer()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    @property
    def is_busy(self) -> bool:
        """Whether an answer is due; those before the newest request's are written before it."""
        return self.cycle is not None and not self.cycle.response_complete

    def _parse(self, data: memoryview) -> None:
        """Feed the parser, which ends at a request that offers another protocol, and takes it for one without a body.

        The offer is the caller's wish, and HTTP/1.1 with the body that follows is what the caller gets (RFC 9110
        section 7.8): a new parser reads the head without the offer, and then the rest.
        """
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as end:
                method, version = self.parser.get_method(), self.parser.get_http_version()
                if method == b"CONNECT":
                    self._refuse(NO_TUNNEL)
                    return
                lines = [b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"]
                head = b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, version.encode(), b"".join(lines))
                data = data[end.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
                self.parser.feed_data(head)
            else:
                return

    def _objection(self) -> Objection | None:
        """What HTTP has against the head."""
        size, hosts, codings = 0, [], []
        for name, value in self.headers:
            size += len(name) + len(value)
            if name == b"host":
                hosts.append(value)
            elif name == b"transfer-encoding":
                codings += [coding.strip().lower() for coding in value.split(b",")]
        if size > MAX_HEAD_BYTES or len(self.url) > MAX_HEAD_BYTES:
            return HEAD_TOO_LARGE
        if (version := self.parser.get_http_version()) not in _VERSIONS:
            return NOT_HTTP
        is_old = version == "1.0"
        if (len(hosts) != 1 and not (is_old and not hosts)) or not all(map(_HOST.fullmatch, hosts)):
            return BAD_HOST
        if any(coding != b"chunked" for coding in codings):
            return UNKNOWN_CODING
        return BAD_FRAMING if len(codings) > 1 or (codings and is_old) else None

    def _on_invalid(self) -> None:
        """Answer what cannot be parsed: as no request in its head, as an incomplete one in its body."""
        if self._head_is_open:
            self._refuse(NOT_HTTP)
        elif self.is_busy:
            self._end_input()
        else:
            self.transport.close()

    def _end_input(self) -> None:
        """The newest request is the last one, and its body ends here."""
        self._ignores_input = True
        self.cycle.keep_alive = False
        if self.cycle.more_body:
            self.cycle.input_ended = True  # type: ignore[attr-defined]
            self.cycle.message_event.set()

    def _refuse(self, objection: Objection) -> None:
        self._ignores_input = True
        self._stop_timer()
        self._refusal_due = objection
        if self.is_busy:
            return  # in the order of the requests
        self.transport.write(self.answer(objection))
        self.transport.close()

    def _linger(self, transport: asyncio.Transport) -> None:
        """Close our direction, and the other one when the caller does, or after a while in which nothing is heard."""
        self._stop_timer()
        if self._input_ended:
            transport.close()
            return
        self._ignores_input = True
        self.flow.resume_reading()
        transport.write_eof()
        self._timer = self.loop.call_later(LINGER_SECONDS, transport.close)

    def _make_room(self) -> None:
        idle = [each for each in self.connections if isinstance(each, HttpProtocol) and not each.is_busy]
        oldest = min(idle, key=lambda each: each.idle_since)  # this one at least
        if oldest is self:
            self.transport.write(self.answer(CROWDED))
            self.transport.close()
            return
        self.connections.discard(oldest)  # now, so that the next one finds another
        oldest.transport.abort()

    def _end_of_time(self) -> None:
        """Refuse a head of which a part has come; after no byte at all, or a body that nobody reads, just close."""
        if self._head_is_open and self._head_bytes and not self._ignores_input:
            self._refuse(SLOW_HEAD)
        else:
            self.transport.close()

    def _close_if_idle(self) -> None:
        if not self.is_busy and not (self._head_is_open and self._head_bytes):
            self.transport.close()

    def _close_after(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self._end_of_time)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
