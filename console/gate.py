"""What every request passes (HTTP's objections, the host name it names, who asks), and what every answer has."""

import logging
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from console.identity import Identify
from console.sessions import COOKIE, new_id
from runtime import connection_urls
from runtime.http_objections import OBJECTION, Objection
from runtime.http_protocol import HttpProtocol

_log = logging.getLogger("console.access")

# No script or style but our own files, no frame around us, and forms lead to us alone.
HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    # Not "no-referrer": browsers then send `Origin: null` with our own forms.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "cache-control": "no-store",
}
OPEN: Final = ("/actuator", "/static/")
"""Paths for anybody: probes, scrapers, and what the login page needs."""
LOGIN: Final = "/login"
_SAFE: Final = {"GET", "HEAD"}
MAX_CONNECTIONS: Final = 512


class ConsoleProtocol(HttpProtocol):
    """One connection."""

    max_connections = MAX_CONNECTIONS

    def answer(self, objection: Objection) -> bytes:
        """One sentence."""
        status, body = objection.status, objection.message.encode()
        headers = {**HEADERS, "content-type": "text/plain; charset=utf-8", "content-length": len(body)}
        lines = [f"{name}: {value}\r\n" for name, value in {**headers, "connection": "close"}.items()]
        return f"HTTP/1.1 {status} {status.phrase}\r\n{''.join(lines)}\r\n".encode() + body


class Gate:
    """ASGI middleware around the pages."""

    def __init__(self, app: ASGIApp, *, identify: Identify, hosts: frozenset[str], is_local: bool) -> None:
        """`hosts`: what we may be called, if given. `is_local`: only by a name of this machine, whatever is given."""
        self._app = app
        self._identify = identify
        self._hosts = hosts
        self._is_local = is_local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve or refuse one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, request, status = time.monotonic(), HTTPConnection(scope), HTTPStatus.OK
        given = request.cookies.get(COOKIE)
        session_id = given or new_id()

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if scope["state"].get("new_session_id") or (not given and not _is_open(scope["path"])):
                    is_secure = not connection_urls.is_loopback(_name(request))
                    value = scope["state"].get("new_session_id") or session_id
                    secure = "; Secure" if is_secure else ""
                    headers.append("set-cookie", f"{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict{secure}")
            await send(message)

        scope["state"] = {"session_id": session_id}
        refusal = self._refusal(request, given)
        await (refusal or self._app)(scope, receive, answer)
        if not _is_open(scope["path"]):
            person = scope["state"].get("person")
            fields = {"status": status, "seconds": round(time.monotonic() - began, 3), "by": person and person.name}
            # As it was sent: decoded, it could hold a line's end.
            _log.info("%s %s", scope["method"], scope["raw_path"].decode("ascii", "replace"), extra=fields)

    def _refusal(self, request: HTTPConnection, session_id: str | None) -> Response | None:
        """What is answered instead of a page; None if the page may answer."""
        path, is_read = request.scope["path"], request.scope["method"] in _SAFE
        if (objection := request.scope.get(OBJECTION)) is not None:
            return _sentence(objection.status, objection.message)
        if _is_open(path) and is_read:
            return None  # probes call us by whatever address they have
        if not self._is_ours(request):
            return _sentence(HTTPStatus.MISDIRECTED_REQUEST, "This console has another name (CONSOLE_HOSTS).")
        if not is_read and not _is_from_us(request):
            return _sentence(HTTPStatus.FORBIDDEN, "This did not come from a page of the console.")
        person = self._identify.person(request, session_id)
        request.scope["state"]["person"] = person
        return None if person is not None or path == LOGIN else self._to_nobody(is_read=is_read)

    def _to_nobody(self, *, is_read: bool) -> Response:
        if not self._identify.can_log_in:
            return _sentence(HTTPStatus.FORBIDDEN, "The proxy in front of the console did not say who you are.")
        if is_read:
            return RedirectResponse(LOGIN, HTTPStatus.SEE_OTHER)
        return _sentence(HTTPStatus.FORBIDDEN, "You are not logged in any more: nothing was done.")

    def _is_ours(self, request: HTTPConnection) -> bool:
        """A page of another site whose name was made to lead here calls us by that name."""
        if self._is_local:
            return connection_urls.is_loopback(_name(request))
        return not self._hosts or request.headers.get("host", "").lower() in self._hosts


def _is_from_us(request: HTTPConnection) -> bool:
    """Browsers say where a form was sent from, and no script can change it."""
    origin = urlsplit(request.headers.get("origin", ""))
    return bool(origin.netloc) and origin.netloc.lower() == request.headers.get("host", "").lower()


def _is_open(path: str) -> bool:
    return path.startswith(OPEN)


def _name(request: HTTPConnection) -> str:
    """The host that we are called by, without a port."""
    return urlsplit(f"//{request.headers.get('host', '')}").hostname or ""


def _sentence(status: HTTPStatus, text: str) -> Response:
    return PlainTextResponse(f"{text}\n", status)
