"""The application factory. It opens no connections and reads no settings."""

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from console.gate import Gate
from console.identity import Identify
from console.metrics import Metrics
from console.rendering import FOLDER, Renderer
from runtime.health import ACTUATOR, NO_STORE, Build, Health, ReadPage, index, pages
from service.adapters.postgres import why
from service.domain.errors import StoreUnavailableError

_log = logging.getLogger("console")


def create_app(
    *,
    routes: Sequence[BaseRoute],
    renderer: Renderer,
    identify: Identify,
    hosts: frozenset[str],
    is_local: bool,
    health: Health,
    build: Build,
    metrics: Metrics,
) -> Gate:
    """The console as an ASGI application; `routes` are its pages."""

    async def metrics_page() -> bytes:
        return metrics.page()

    def sorry(status: HTTPStatus, title: str, text: str) -> Callable[[Request, Exception], Awaitable[Response]]:
        async def answer(request: Request, error: Exception) -> Response:
            if not isinstance(error, StoreUnavailableError):
                _log.error("A page failed.", exc_info=error)
            else:
                _log.warning("The database %s.", why(error))
            return renderer.page(request, "message.html", status=status, title=title, text=text)

        return answer

    shown = pages(health=health, build=build, metrics=metrics_page)
    app = Starlette(
        routes=[
            *routes,
            *(Route(path, _answering(read)) for path, read in shown.items()),
            Route(ACTUATOR, _index_of(shown)),
            Mount("/static", StaticFiles(directory=FOLDER / "static")),
        ],
        exception_handlers={
            StoreUnavailableError: sorry(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "The database does not answer",
                "Nothing can be shown or done until it does. Load the page again in a moment.",
            ),
            HTTPException: _http_error(renderer),
            Exception: sorry(
                HTTPStatus.INTERNAL_SERVER_ERROR, "This page failed", "The console's log says why. Nothing was done."
            ),
        },
    )
    app.router.redirect_slashes = False
    return Gate(app, identify=identify, hosts=hosts, is_local=is_local)


def _http_error(renderer: Renderer) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - for the type
        status = HTTPStatus(error.status_code)
        text = "There is nothing at this address." if status is HTTPStatus.NOT_FOUND else f"{status.phrase}."
        page = renderer.page(request, "message.html", status=status, title=status.phrase, text=text)
        page.headers.update(error.headers or {})
        return page

    return answer


def _index_of(paths: Iterable[str]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        page = index(ACTUATOR, host=request.headers.get("host", ""), paths=paths, documents={})
        return Response(page.body, page.status, NO_STORE, page.media_type)

    return endpoint


def _answering(read: ReadPage) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(_request: Request) -> Response:
        page = await read()
        return Response(page.body, page.status, NO_STORE, page.media_type)

    return endpoint
