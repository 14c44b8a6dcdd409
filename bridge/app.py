"""The application factory. It builds no clients and reads no settings."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI

from bridge.actuator import add_pages
from bridge.edge import Edge
from bridge.identity import Identity, PlatformHeaders
from bridge.metrics import Metrics
from bridge.problems import MEDIA_TYPE
from bridge.rates import RateLimits
from bridge.reading import BodyLimits
from bridge.requester import Requester
from bridge.routes import PaymentRoutes
from contracts.actuator import Build, Health


@dataclass(kw_only=True)
class Lifecycle:
    """Whether the process is on its way out; set by the signal handler, read by every request.

    `draining`: everything is still served, but whoever asks whether to send more should not.
    """

    draining: bool = False
    stopping: bool = False


def create_app(
    requester: Requester,
    *,
    identity: Identity | None = None,
    rates: RateLimits | None = None,
    lifecycle: Lifecycle | None = None,
    limits: BodyLimits | None = None,
    commit: str | None = None,
) -> FastAPI:
    """The bridge as an ASGI application; `commit` is what it was built from."""
    lifecycle = lifecycle or Lifecycle()
    build = Build.installed("payment-bridge", commit=commit)
    metrics = Metrics(requester, build)

    async def broker_takes_calls() -> bool:
        return requester.ready

    app = FastAPI(
        title="BookTicket Payment Service",
        version="1.0.0",
        description="Three REST endpoints in front of the payment service's commands.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    # Edge does what FastAPI's own layers of middleware would do, and is all there is between server and router.
    app.middleware_stack = Edge(app.router, is_stopping=lambda: lifecycle.stopping, watcher=metrics)
    PaymentRoutes(
        requester,
        identity=identity or PlatformHeaders(),
        rates=rates or RateLimits(),
        limits=limits or BodyLimits(),
    ).add_to(app)
    health = Health(checks={"broker": broker_takes_calls}, is_leaving=lambda: lifecycle.draining or lifecycle.stopping)
    add_pages(app, health=health, build=build, metrics=metrics)
    _document_problems(app)
    return app


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
