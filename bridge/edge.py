"""The outermost layer of the application: request id, limits on the head, one log line, one place for refusals."""

import logging
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final
from uuid import uuid4

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.errors import (
    BridgeError,
    HeadersTooLargeError,
    InternalError,
    InvalidRequestError,
    MethodNotAllowedError,
    StoppingError,
    UnknownRouteError,
)
from bridge.identity import RawHeaders
from bridge.problems import problem
from contracts import envelope

_log = logging.getLogger("bridge.access")

MAX_HEAD_BYTES: Final = 8 * 1024
"""Names and values of all headers together, and the same again for the address."""

REQUEST_ID: Final = "bridge.request_id"
"""Key in the ASGI scope."""

_QUIET_PREFIX: Final = "/actuator/"


class Edge:
    """ASGI middleware. Whatever is raised inside becomes a problem here, so no framework page is ever seen."""

    def __init__(self, app: ASGIApp, *, is_stopping: Callable[[], bool]) -> None:
        self._app = app
        self._is_stopping = is_stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(scope["headers"])
        # A copy: the server drops the body of an answer to HEAD by looking at its own scope.
        inner = {**scope, REQUEST_ID: request_id, "method": "GET" if scope["method"] == "HEAD" else scope["method"]}
        exchange = _Exchange(send, request_id)
        code = None
        try:
            self._admit(scope)
            await self._app(inner, receive, exchange.send)
        except Exception as error:
            if exchange.status is not None:
                raise
            refusal = _refusal(error)
            if isinstance(refusal, InternalError):
                _log.exception("A bug: %s", type(error).__name__, extra={"request_id": request_id})
            code = refusal.code.value
            await problem(refusal, request_id=request_id)(scope, receive, exchange.send)
        finally:
            _write_line(scope["method"], inner, exchange.status, started, code)

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
        self.status: int | None = None

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


def _write_line(method: str, scope: Scope, status: int | None, started: float, code: str | None) -> None:
    level = logging.DEBUG if scope["path"].startswith(_QUIET_PREFIX) else logging.INFO
    if not _log.isEnabledFor(level):
        return
    route = scope.get("route")
    fields = {
        "request_id": scope[REQUEST_ID],
        "method": method,
        "route": getattr(route, "path_format", "-"),  # never the path itself: it holds whatever was sent
        "status": status,
        "duration_ms": round((time.perf_counter() - started) * 1000, 1),
        "code": code,
    }
    phrase = HTTPStatus(status).phrase if status else "no answer"
    _log.log(level, "%s %s: %s", method, fields["route"], phrase, extra=fields)
