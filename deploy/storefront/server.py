"""Which address shows which page."""

from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Final
from urllib.parse import parse_qs, urlsplit

from deploy.storefront import pages
from deploy.storefront.bridge import Bridge, BridgeError

LARGEST_FORM: Final = 4096
HEADERS: Final = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    # Nothing from outside and no script: what a page shows is only ever text.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def handler(bridge: Bridge) -> type[BaseHTTPRequestHandler]:
    """The request handler for pages that ask this bridge."""

    class Handler(Pages):
        pass

    Handler.bridge = bridge
    return Handler


class Pages(BaseHTTPRequestHandler):
    """One request."""

    bridge: Bridge
    timeout = 30
    server_version = "storefront"
    sys_version = ""

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        match address.path:
            case "/":
                self._page(pages.start())
            case "/payments/success":
                self._success(parse_qs(address.query).get("session_id", [""])[0])
            case "/payments/cancelled":
                self._page(pages.cancelled())
            case "/health":
                self._page("ok")
            case _:
                self._page(pages.sorry("There is no such page."), HTTPStatus.NOT_FOUND)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        if urlsplit(self.path).path != "/checkout":
            self._page(pages.sorry("There is no such page."), HTTPStatus.NOT_FOUND)
            return
        amount = self._form().get("amount", [""])[0].strip()
        try:
            url = self.bridge.payment_url(amount)
        except BridgeError as error:
            status = HTTPStatus.SERVICE_UNAVAILABLE if error.temporary else HTTPStatus.BAD_REQUEST
            self._page(pages.start(amount=amount, problem=str(error)), status)
            return
        self._headers(HTTPStatus.SEE_OTHER, {"Location": url}, length=0)

    def _success(self, session_id: str) -> None:
        try:
            self._page(pages.payment(self.bridge.payment(session_id)))
        except BridgeError as error:
            status = HTTPStatus.SERVICE_UNAVAILABLE if error.temporary else HTTPStatus.NOT_FOUND
            self._page(pages.sorry(str(error), again=error.temporary), status)

    def _form(self) -> dict[str, list[str]]:
        length = self.headers.get("Content-Length", "")
        size = int(length) if length.isascii() and length.isdecimal() else 0
        if size > LARGEST_FORM:
            return {}
        return parse_qs(self.rfile.read(size).decode(errors="replace"))

    def _page(self, text: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        content = text.encode()
        self._headers(status, {}, length=len(content))
        if self.command != "HEAD":
            self.wfile.write(content)

    def _headers(self, status: HTTPStatus, more: dict[str, str], *, length: int) -> None:
        self.send_response(status)
        for name, value in (HEADERS | more | {"Content-Length": str(length)}).items():
            self.send_header(name, value)
        self.end_headers()
