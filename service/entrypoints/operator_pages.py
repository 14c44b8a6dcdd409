"""The operators' port around FastStream's application: HTTP's own refusals, the methods, the index, and the bounds."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from faststream.asgi import AsgiFastStream, AsgiResponse

from runtime.health import INDEXES, NO_STORE, index
from runtime.http_objections import OBJECTION, Objection
from runtime.http_protocol import HttpProtocol

MAX_CONNECTIONS: Final = 256
"""Many more than probes and scrapers need, and few of the files that database and broker need, too."""

_METHODS: Final = {"GET", "HEAD"}
_NO_METHOD: Final = Objection(status=HTTPStatus.METHOD_NOT_ALLOWED, message="These pages can be read only.")
_NO_PAGE: Final = Objection(status=HTTPStatus.NOT_FOUND, message="There is nothing at this address.")


class OperatorProtocol(HttpProtocol):
    """One connection."""

    max_connections = MAX_CONNECTIONS

    def answer(self, objection: Objection) -> bytes:
        """A problem."""
        response = _problem(objection, connection="close")
        lines = [b"%b: %b\r\n" % header for header in response.raw_headers]
        status = objection.status
        return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (status, status.phrase.encode(), b"".join(lines), response.body)


class OperatorPages:
    """ASGI middleware."""

    def __init__(self, app: AsgiFastStream, *, documents: Mapping[str, str]) -> None:
        """`documents`: what the index links to beside the pages, path by name."""
        self._app = app
        self._documents = documents
        self._paths = [path for path, _ in app.routes]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request; FastStream starts and ends with the server."""
        respond = self._app if scope["type"] != "http" else self._response(scope)
        await respond(scope, receive, send)

    def _response(self, scope: Any) -> Any:
        path = scope["path"]
        if OBJECTION in scope:
            return _problem(scope[OBJECTION])
        if path not in {*INDEXES, *self._paths}:
            return _problem(_NO_PAGE)
        if scope["method"] not in _METHODS:
            return _problem(_NO_METHOD, allow=", ".join(sorted(_METHODS)))
        if path not in INDEXES:
            return self._app
        host = dict(scope["headers"]).get(b"host", b"").decode()
        page = index(path, host=host, paths=self._paths, documents=self._documents)
        return AsgiResponse(page.body, page.status, NO_STORE | {"content-type": page.media_type})


def _problem(objection: Objection, **headers: str) -> AsgiResponse:
    """RFC 9457's problem details."""
    status = objection.status
    document = {"type": "about:blank", "title": status.phrase, "status": status, "detail": objection.message}
    body = json.dumps(document, separators=(",", ":")).encode()
    return AsgiResponse(body, status, NO_STORE | headers | {"content-type": "application/problem+json"})
