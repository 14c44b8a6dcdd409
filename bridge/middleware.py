"""The outermost layer of the application: request id, limits on the head, one log line, the answer to every refusal."""

import logging
import re
import time
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from typing import Final, Protocol
from uuid import uuid4

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge import errors
from bridge.auth import RawHeaders
from bridge.errors import BridgeError, CallerGoneError, Refusal
from bridge.prefer_header import LONG_POLL, WATCH
from bridge.problems import by_objection, problem
from contracts import envelope
from runtime import logs, tracing
from runtime.http_objections import OBJECTION
from runtime.http_protocol import IS_CONNECTED

_log = logging.getLogger("bridge.access")

REQUEST_ID: Final = "bridge.request_id"
"""Key in the ASGI scope."""
TRACE_PARENT: Final = "bridge.trace_parent"
"""Key in the ASGI scope: the caller's, or a new one."""

_PROBES: Final = re.compile("/actuator(?:/.*)?", re.DOTALL)


class RequestObserver(Protocol):
    """Counts requests."""

    def on_request(self) -> None:
        """A request has come."""

    def on_response(self, *, route: str, method: str, status: int, code: str, seconds: float | None) -> None:
        """A request was answered. `status` is 0 if its caller had gone; `code` is empty unless it was refused.

        `seconds` is None for a long poll.
        """


class BridgeMiddleware:
    """ASGI middleware. Whatever is raised inside becomes a problem here, so no framework's page is ever seen."""

    def __init__(self, app: ASGIApp, *, is_stopping: Callable[[], bool], observer: RequestObserver) -> None:
        self._app = app
        self._is_stopping = is_stopping
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = scope["headers"]
        # Those that we make up are recognisable as ours.
        request_id = _given(headers, b"x-request-id", envelope.is_request_id) or f"generated-{uuid4()}"
        given = _given(headers, b"traceparent", envelope.is_trace_parent)
        # Probes would hide what callers do, and a health page that says 503 is no failed request.
        is_probe = _PROBES.fullmatch(scope["path"]) is not None
        with tracing.NOTHING if is_probe else tracing.span(scope["method"], "server", parent=given) as span:
            trace_parent = span.trace_parent or given or envelope.new_trace_parent()
            # The server omits the body of an answer to HEAD by looking at its own scope, which then stays as it is.
            inner = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
            inner[REQUEST_ID], inner[TRACE_PARENT] = request_id, trace_parent
            inner["app"] = self  # in an application the router raises what it refuses, instead of answering it
            exchange = _Exchange(send, request_id, scope.get(IS_CONNECTED, _always))
            with logs.context(request_id=request_id, **envelope.trace_ids(trace_parent)):
                await self._serve(scope, inner, receive, exchange, is_probe=is_probe)
            _note(span, inner, exchange.status)

    async def _serve(
        self, scope: Scope, inner: Scope, receive: Receive, exchange: "_Exchange", *, is_probe: bool
    ) -> None:
        started = time.perf_counter()
        code = ""
        if not is_probe:
            self._observer.on_request()
        try:
            self._admit(scope)
            await self._app(inner, receive, exchange.send)
        except CallerGoneError:
            pass  # nobody is there to answer
        except Exception as error:
            if exchange.status:
                raise
            refusal = _refusal(error)
            if refusal is errors.INTERNAL:
                _log.exception("A bug: %s", type(error).__name__)
            if refusal.fault is not None:
                logs.bind(payment_id=refusal.fault.payment_id, booking_id=refusal.fault.booking_id)
            code = refusal.code.value
            await problem(refusal, request_id=inner[REQUEST_ID])(scope, receive, exchange.send)
        finally:
            seconds = time.perf_counter() - started
            # Never the path itself, which holds whatever was sent.
            route = _route(inner)
            answer = {"method": scope["method"], "route": route, "status": exchange.status, "code": code}
            if not is_probe:
                self._observer.on_response(**answer, seconds=None if inner.get(WATCH) is LONG_POLL else seconds)
            _log_answer(_level(exchange.status, is_probe=is_probe), inner[REQUEST_ID], seconds, **answer)

    def _admit(self, scope: Scope) -> None:
        if OBJECTION in scope:
            raise BridgeError(by_objection(scope[OBJECTION]))
        if self._is_stopping() and not _PROBES.fullmatch(scope["path"]):
            raise BridgeError(errors.STOPPING)
        if not scope["path"].isprintable():
            raise BridgeError(errors.INVALID_REQUEST, message="The address holds characters that are not allowed.")


def _note(span: tracing.Span, inner: Scope, status: int) -> None:
    """Tell the span what was answered: method, route and status, and never the path that was sent."""
    method, route = inner["method"], _route(inner)
    span.name(f"{method} {route}")
    span.set({"http.request.method": method, "http.route": route, "http.response.status_code": status or None})
    span.set({"payment.request_id": inner[REQUEST_ID]})
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        span.fail(str(status))


def _route(inner: Scope) -> str:
    return getattr(inner.get("route"), "path_format", "-")


def _level(status: int, *, is_probe: bool) -> int:
    """By what the caller suffers: a 5xx is a warning. A bug has an ERROR line of its own."""
    if is_probe:
        return logging.DEBUG
    return logging.WARNING if status >= HTTPStatus.INTERNAL_SERVER_ERROR else logging.INFO


def _log_answer(
    level: int, request_id: str, seconds: float, *, method: str, route: str, status: int, code: str
) -> None:
    if not _log.isEnabledFor(level):
        return
    phrase = HTTPStatus(status).phrase if status else "no answer"
    fields = {
        "request_id": request_id,
        "method": method,
        "route": route,
        "status": status or None,
        "duration_ms": round(seconds * 1000, 1),
        "code": code or None,
    }
    _log.log(level, "%s %s: %s", method, route, phrase, extra=fields)


def _refusal(error: Exception) -> Refusal:
    """The router's own refusals as ours; any unforeseen error is a bug."""
    match error:
        case BridgeError():
            return error.refusal
        case HTTPException(status_code=HTTPStatus.NOT_FOUND):
            return errors.UNKNOWN_ROUTE
        case HTTPException(status_code=HTTPStatus.METHOD_NOT_ALLOWED):
            allowed = set((error.headers or {}).get("Allow", "").replace(" ", "").split(","))
            allowed |= {"HEAD"} if "GET" in allowed else set()
            return replace(errors.METHOD_NOT_ALLOWED, allow=", ".join(sorted(allowed)))
        case _:
            return errors.INTERNAL


class _Exchange:
    """Adds the request id to the answer's head and keeps its status: 0 if nobody was there to get one."""

    def __init__(self, send: Send, request_id: str, is_connected: Callable[[], bool]) -> None:
        self._send = send
        self._is_connected = is_connected
        self._header = (b"x-request-id", request_id.encode())
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"] if self._is_connected() else 0
            message["headers"] = [*message["headers"], self._header]
        await self._send(message)


def _always() -> bool:
    return True


def _given(headers: RawHeaders, wanted: bytes, is_valid: Callable[[str], bool]) -> str | None:
    """The header's value if it is valid and given once."""
    values = [value.decode("latin-1") for name, value in headers if name == wanted]
    return values[0] if len(values) == 1 and is_valid(values[0]) else None
