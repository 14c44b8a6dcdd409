"""The application factory. It builds no clients and reads no settings."""

from dataclasses import dataclass

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from bridge import pages
from bridge.edge import Edge
from bridge.errors import UnavailableError
from bridge.reading import BodyLimits
from bridge.requester import Requester
from bridge.routes import PaymentRoutes, RawRoute


@dataclass(kw_only=True)
class Lifecycle:
    """Whether the process is on its way out; set by the signal handler, read by every request."""

    stopping: bool = False


def create_app(
    requester: Requester, *, lifecycle: Lifecycle | None = None, limits: BodyLimits | None = None
) -> FastAPI:
    """The bridge as an ASGI application."""
    lifecycle = lifecycle or Lifecycle()
    app = FastAPI(
        openapi_url=None,  # `pages` serves the document
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    # Edge does what FastAPI's own layers of middleware would do, and is all there is between server and router.
    app.middleware_stack = Edge(app.router, is_stopping=lambda: lifecycle.stopping)
    PaymentRoutes(requester, limits or BodyLimits()).add_to(app)
    _add_health(app, requester, lifecycle)
    pages.add_to(app)
    return app


def _add_health(app: FastAPI, requester: Requester, lifecycle: Lifecycle) -> None:
    async def live(_request: Request) -> Response:
        """The process serves."""
        return JSONResponse({"status": "UP"})

    async def ready(_request: Request) -> Response:
        """Commands can be sent and replies received."""
        if lifecycle.stopping or not requester.ready:
            raise UnavailableError
        return JSONResponse({"status": "UP"})

    for path, endpoint in (("/actuator/health/liveness", live), ("/actuator/health/readiness", ready)):
        app.router.add_api_route(path, endpoint, include_in_schema=False, route_class_override=RawRoute)
