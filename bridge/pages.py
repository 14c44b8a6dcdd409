"""The OpenAPI document for people and programs: Swagger UI, and the JSON. No page asks another machine for anything.

Swagger UI's files come out of the package `fastapi-offline`. The page around them is ours: those of the packages run a
script inside the HTML, which a strict content policy forbids.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from bridge import openapi
from bridge.routes import RawRoute

DOCUMENT: Final = "/v3/api-docs"
"""Where Spring's tools look for it."""
PAGE: Final = "/docs"

_OURS: Final = {
    PAGE: ("index.html", "text/html"),
    f"{PAGE}/page.css": ("page.css", "text/css"),
    f"{PAGE}/page.js": ("page.js", "text/javascript"),
}
_PACKAGED: Final = {
    f"{PAGE}/swagger-ui.css": ("swagger-ui.css", "text/css"),
    f"{PAGE}/swagger-ui-bundle.js": ("swagger-ui-bundle.js", "text/javascript"),
    f"{PAGE}/favicon.png": ("favicon.png", "image/png"),
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
    content = openapi.document(app)

    async def document(_request: Request) -> Response:
        return JSONResponse(content, headers=_HEADERS)

    app.router.add_api_route(DOCUMENT, document, include_in_schema=False, route_class_override=RawRoute)
    ours, packaged = Path(__file__).with_name("docs"), _package() / "static"
    for folder, files in ((ours, _OURS), (packaged, _PACKAGED)):
        for address, (name, media_type) in files.items():
            _add_file(app, address, folder / name, media_type)


def _add_file(app: FastAPI, address: str, path: Path, media_type: str) -> None:
    # Those of the package are large, and change only with a new release of it.
    caching = {"Cache-Control": "public, max-age=3600"} if address in _PACKAGED else {}

    async def file(_request: Request) -> Response:
        return FileResponse(path, media_type=media_type, headers=_HEADERS | caching)

    app.router.add_api_route(address, file, include_in_schema=False, route_class_override=RawRoute)


def _package() -> Path:
    """Where `fastapi-offline` lies. Importing it would be work at import, for a function that is not used."""
    spec = find_spec("fastapi_offline")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("fastapi-offline is not installed.")
    return Path(spec.origin).parent
