"""The shop as an ASGI application: which path shows which page."""

from typing import Final
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from tools.storefront import shop_pages
from tools.storefront.bridge_client import Bridge, BridgeError

LARGEST_FORM: Final = 4096
HEADERS: Final = {
    "Cache-Control": "no-store",
    # No script and no external resource: whatever a page contains is shown as text.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none';"
    " frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def shop(bridge: Bridge) -> Starlette:
    """The application whose pages call this bridge."""

    async def start(_: Request) -> Response:
        return _page(shop_pages.start())

    async def checkout(request: Request) -> Response:
        amount = await _amount(request)
        try:
            return RedirectResponse(await bridge.payment_url(amount), 303, HEADERS)
        except BridgeError as error:
            return _page(shop_pages.start(amount=amount, problem=str(error)), 503 if error.temporary else 400)

    async def success(request: Request) -> Response:
        try:
            return _page(shop_pages.payment(await bridge.payment(request.query_params.get("session_id", ""))))
        except BridgeError as error:
            return _page(shop_pages.sorry(str(error), again=error.temporary), 503 if error.temporary else 404)

    async def cancelled(_: Request) -> Response:
        return _page(shop_pages.cancelled())

    async def health(_: Request) -> Response:
        return _page("ok")

    async def refused(_: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        return _page(shop_pages.sorry("There is no such page."), status)

    routes = [
        Route("/", start),
        Route("/checkout", checkout, methods=["POST"]),
        Route("/payments/success", success),
        Route("/payments/cancelled", cancelled),
        Route("/health", health),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: refused})


async def _amount(request: Request) -> str:
    """The form's amount; empty in a form that is too long."""
    form = b""
    async for piece in request.stream():
        form += piece
        if len(form) > LARGEST_FORM:
            return ""
    return parse_qs(form.decode(errors="replace")).get("amount", [""])[0].strip()


def _page(text: str, status: int = 200) -> Response:
    return HTMLResponse(text, status, HEADERS)
