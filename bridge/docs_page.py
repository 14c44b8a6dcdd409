"""The OpenAPI document for people and programs: Swagger UI, and the committed JSON. No page loads anything elsewhere.

Swagger UI's files come out of the package `fastapi-offline`. The page around them is our own: the package's runs a
script inside the HTML, which a strict content policy forbids.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import fastapi_offline
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import FileResponse, Response

import contracts
from bridge.routes import add_route

DOCUMENT: Final = "/v3/api-docs"
"""Where Spring's tools look for it."""
PAGE: Final = "/docs"
DOCUMENTS: Final = {"openapi": DOCUMENT, "openapi-page": PAGE}
"""For the index."""

_HERE: Final = Path(__file__).with_name("docs")
_PACKAGED: Final = Path(fastapi_offline.__file__).with_name("static")
_FILES: Final = {
    PAGE: (_HERE / "index.html", "text/html"),
    f"{PAGE}/page.css": (_HERE / "page.css", "text/css"),
    f"{PAGE}/page.js": (_HERE / "page.js", "text/javascript"),
    f"{PAGE}/swagger-ui.css": (_PACKAGED / "swagger-ui.css", "text/css"),
    f"{PAGE}/swagger-ui-bundle.js": (_PACKAGED / "swagger-ui-bundle.js", "text/javascript"),
    f"{PAGE}/favicon.png": (_PACKAGED / "favicon.png", "image/png"),
    DOCUMENT: (Path(contracts.__file__).with_name("openapi.json"), "application/json"),
}
_HEADERS: Final = {
    # Swagger UI has pictures inside its stylesheet, and styles inside its markup.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def add_to(app: FastAPI) -> None:
    """Register the page, its files and the document. They need no identity: what they say is no secret."""
    for address, (path, media_type) in _FILES.items():
        add_route(app, address, _serving(path, media_type))


def _serving(path: Path, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    # Files of the package are large, and change only with a new release of it.
    headers = _HEADERS | ({"Cache-Control": "public, max-age=3600"} if path.parent == _PACKAGED else {})

    async def file(_request: Request) -> Response:
        return FileResponse(path, media_type=media_type, headers=headers)

    return file
