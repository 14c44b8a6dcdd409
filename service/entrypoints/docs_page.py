"""Serves the AsyncAPI document and its page, which loads nothing from other machines and sends no message.

The viewer is the web component of the package `asyncapi-viewer`: one file, without scripts or styles in the markup.
"""

from pathlib import Path
from typing import Any, Final

from faststream.asgi import AsgiResponse, get

import contracts
from runtime.packaged import packaged

PAGE: Final = "/asyncapi"
DOCUMENT: Final = "/asyncapi.yaml"
DOCUMENTS: Final = {"asyncapi": DOCUMENT, "asyncapi-page": PAGE}
"""For the index."""

_VIEWER: Final = packaged("asyncapi_viewer", "static/asyncapi-viewer.iife.js")
_OURS: Final = Path(__file__).with_name("asyncapi")
_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cache-control": "no-cache",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_KEPT: Final = {"cache-control": "public, max-age=3600"}
"""For files that change only with a new release of their package."""


def routes() -> list[tuple[str, Any]]:
    """The page, its files and the document as ASGI applications."""
    return [
        (PAGE, _file(_OURS / "index.html", "text/html; charset=utf-8")),
        (f"{PAGE}/page.css", _file(_OURS / "page.css", "text/css")),
        (f"{PAGE}/viewer.js", _file(_VIEWER, "text/javascript", _KEPT)),
        (DOCUMENT, _file(Path(contracts.__file__).with_name("asyncapi.yaml"), "application/yaml")),
    ]


def _file(path: Path, media_type: str, headers: dict[str, str] | None = None) -> Any:
    response = AsgiResponse(path.read_bytes(), 200, {"content-type": media_type, **_HEADERS, **(headers or {})})

    @get(include_in_schema=False)
    async def file(scope: Any) -> AsgiResponse:  # noqa: ARG001 - FastStream's signature
        return response

    return file
