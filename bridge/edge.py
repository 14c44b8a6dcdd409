"""The outermost layer of the application: request id, limits on the head, one log line, one place for refusals."""

import logging
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, Protocol
from uuid import uuid4

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.errors import (
    BridgeError,
    CallerGoneError,
    HeadersTooLargeError,
    InternalError,
    InvalidRequestError,
    MethodNotAllowedError,
    StoppingError,
    UnknownRouteError,
)
from bridge.identity import RawHeaders
from bridge.problems import problem
from bridge.waiting import HELD, WATCH
from contracts import envelope, logs

_log = logging.getLogger("bridge.access")

MAX_HEAD_BYTES: Final = 8 * 1024
"""Names and values of all headers together, and the same again for the address."""

REQUEST_ID: Final = "bridge.request_id"
"""Key in the ASGI scope."""
TRACE_PARENT: Final = "bridge.trace_parent"
"""Key in the ASGI scope: the caller's, or one that begins here."""

_QUIET_PREFIX: Final = "/actuator/"


class Watcher(Protocol):
    """Counts."""

    def began(self) -> None:
        """A request has come."""

    def ended(self, *, route: str, method: str, status: int, code: str, seconds: float | None) -> None:
        """It was answered; `status` is 0 if its caller had gone, `code` empty unless it was refused.

        `seconds` is None if the caller wanted to wait.
        """


class Edge:
    """ASGI middleware. Whatever is raised inside becomes a problem here, so no framework page is ever seen."""

    def __init__(self, app: ASGIApp, *, is_stopping: Callable[[], bool], watcher: Watcher) -> None:
        self._app = app
        self._is_stopping = is_stopping
        self._watcher = watcher

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, trace_parent = _request_id(scope["headers"]), _trace_parent(scope["headers"])
        # A copy: the server drops the body of an answer to HEAD by looking at its own scope.
        inner = {
            **scope,
            REQUEST_ID: request_id,
            TRACE_PARENT: trace_parent,
            "method": "GET" if scope["method"] == "HEAD" else scope["method"],
        }
        with logs.context(request_id=request_id, **envelope.trace_ids(trace_parent)):
            await self._serve(scope, inner, receive, _Exchange(send, request_id))

    async def _serve(self, scope: Scope, inner: Scope, receive: Receive, exchange: "_Exchange") -> None:
        started = time.perf_counter()
        code = ""
        # Probes would drown what callers do: a page that says 503 is no failed request.
        is_quiet = scope["path"].startswith(_QUIET_PREFIX)
        if not is_quiet:
            self._watcher.began()
        try:
            self._admit(scope)
            await self._app(inner, receive, exchange.send)
        except CallerGoneError:
            pass  # there is nobody to be told
        except Exception as error:
            if exchange.status:
                raise
            refusal = _refusal(error)
            if isinstance(refusal, InternalError):
                _log.exception("A bug: %s", type(error).__name__)
            if refusal.fault is not None:
                logs.bind(payment_id=refusal.fault.payment_id, booking_id=refusal.fault.booking_id)
            code = refusal.code.value
            await problem(refusal, request_id=inner[REQUEST_ID])(scope, receive, exchange.send)
        finally:
            seconds = time.perf_counter() - started
            # Never the path itself: it holds whatever was sent.
            route = getattr(inner.get("route"), "path_format", "-")
            method, status = scope["method"], exchange.status
            if not is_quiet:
                self._watcher.ended(
                    route=route,
                    method=method,
                    status=status,
                    code=code,
                    seconds=None if inner.get(WATCH) is HELD else seconds,
                )
            level = logging.DEBUG if is_quiet else logging.INFO
            if _log.isEnabledFor(level):
                phrase = HTTPStatus(status).phrase if status else "no answer"
                fields = {
                    "request_id": inner[REQUEST_ID],
                    "method": method,
                    "route": route,
                    "status": status or None,
                    "duration_ms": round(seconds * 1000, 1),
                    "code": code or None,
                }
                _log.log(level, "%s %s: %s", method, route, phrase, extra=fields)

    def _admit(self, scope: Scope) -> None:
        if self._is_stopping() and not scope["path"].startswith(_QUIET_PREFIX):
            raise StoppingError
        head = sum(len(name) + len(value) for name, value in scope["headers"])
        if head > MAX_HEAD_BYTES or len(scope["raw_path"]) + len(scope["query_string"]) > MAX_HEAD_BYTES:
            raise HeadersTooLargeError
        if not scope["path"].isprintable():
            raise InvalidRequestError("The address holds characters that are not allowed.")


def _refusal(error: Exception) -> BridgeError:
    """The router's own refusals in our words; what nobody foresaw is a bug."""
    match error:
        case BridgeError():
            return error
        case HTTPException(status_code=HTTPStatus.NOT_FOUND):
            return UnknownRouteError()
        case HTTPException(status_code=HTTPStatus.METHOD_NOT_ALLOWED):
            allowed = set((error.headers or {}).get("Allow", "").replace(" ", "").split(","))
            return MethodNotAllowedError(allow=", ".join(sorted(allowed | ({"HEAD"} if "GET" in allowed else set()))))
        case _:
            return InternalError()


class _Exchange:
    """Adds the request id to the answer's head and remembers its status."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._header = (b"x-request-id", request_id.encode())
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], self._header]
        await self._send(message)


def _request_id(headers: RawHeaders) -> str:
    """The caller's id if it is acceptable and given once; otherwise one of ours, recognisable as such."""
    given = [value for name, value in headers if name == b"x-request-id"]
    if len(given) == 1:
        candidate = given[0].decode("latin-1")
        if envelope.is_request_id(candidate):
            return candidate
    return f"generated-{uuid4()}"


def _trace_parent(headers: RawHeaders) -> str:
    """The caller's trace goes on if it is one and given once; otherwise one begins."""
    given = [value for name, value in headers if name == b"traceparent"]
    if len(given) == 1 and envelope.is_trace_parent(candidate := given[0].decode("latin-1")):
        return candidate
    return envelope.new_trace_parent()
