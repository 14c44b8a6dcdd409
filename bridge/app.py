"""The application factory. It builds no clients and reads no settings."""

from dataclasses import dataclass

from fastapi import FastAPI

from bridge import actuator, pages
from bridge.edge import Edge
from bridge.identity import Identity, PlatformHeaders
from bridge.metrics import Metrics
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
    lifecycle, identity = lifecycle or Lifecycle(), identity or PlatformHeaders()
    build = Build.installed("payment-bridge", commit=commit)
    metrics = Metrics(requester, build)

    async def broker_takes_calls() -> bool:
        return requester.ready

    app = FastAPI(
        openapi_url=None,  # `pages` serves the document
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    # Edge does what FastAPI's own layers of middleware would do, and is all there is between server and router.
    app.middleware_stack = Edge(app.router, is_stopping=lambda: lifecycle.stopping, watcher=metrics)
    PaymentRoutes(
        requester,
        identity=identity,
        rates=rates or RateLimits(),
        limits=limits or BodyLimits(),
    ).add_to(app)
    checks = {"broker": broker_takes_calls, **identity.checks}
    health = Health(checks=checks, is_leaving=lambda: lifecycle.draining or lifecycle.stopping)
    actuator.add_pages(app, health=health, build=build, metrics=metrics)
    pages.add_to(app)
    return app
