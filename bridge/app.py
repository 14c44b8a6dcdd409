"""The application factory. It builds no clients and reads no settings."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from bridge.edge import Edge
from bridge.errors import UnavailableError
from bridge.identity import Identity, PlatformHeaders
from bridge.problems import MEDIA_TYPE
from bridge.rates import RateLimits
from bridge.reading import BodyLimits
from bridge.requester import Requester
from bridge.routes import PaymentRoutes, RawRoute


@dataclass(kw_only=True)
class Lifecycle:
    """Whether the process is on its way out; set by the signal handler, read by every request."""

    stopping: bool = False


def create_app(
    requester: Requester,
    *,
    identity: Identity | None = None,
    rates: RateLimits | None = None,
    lifecycle: Lifecycle | None = None,
    limits: BodyLimits | None = None,
) -> FastAPI:
    """The bridge as an ASGI application."""
    lifecycle = lifecycle or Lifecycle()
    app = FastAPI(
        title="BookTicket Payment Service",
        version="1.0.0",
        description="Three REST endpoints in front of the payment service's commands.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    # Edge does what FastAPI's own layers of middleware would do, and is all there is between server and router.
    app.middleware_stack = Edge(app.router, is_stopping=lambda: lifecycle.stopping)
    PaymentRoutes(
        requester,
        identity=identity or PlatformHeaders(),
        rates=rates or RateLimits(),
        limits=limits or BodyLimits(),
    ).add_to(app)
    _add_health(app, requester, lifecycle)
    _document_problems(app)
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


def _document_problems(app: FastAPI) -> None:
    """FastAPI documents every response model under the route's own media type; problems have theirs."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        is_new = app.openapi_schema is None
        document = generate()
        if is_new:
            for path in document["paths"].values():
                for operation in path.values():
                    _rename_media_type(operation["responses"])
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


def _rename_media_type(responses: dict[str, Any]) -> None:
    for status, response in responses.items():
        if int(status) >= HTTPStatus.BAD_REQUEST:
            response["content"] = {MEDIA_TYPE: response["content"]["application/json"]}
