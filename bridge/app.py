"""The application factory. It opens no connections and reads no settings."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from bridge import docs_page
from bridge.auth import Authenticator
from bridge.metrics import Metrics
from bridge.middleware import BridgeMiddleware
from bridge.rate_limit import RateLimits
from bridge.routes import PaymentRoutes, add_route
from bridge.rpc_client import RpcClient
from runtime.health import INDEXES, NO_STORE, Build, Health, Page, ReadPage, index, pages


@dataclass(kw_only=True)
class Lifecycle:
    """How the process ends: set on signals, read by every request.

    `draining`: every request is still served, but readiness asks callers to go elsewhere. `stopping`: new requests are
    refused.
    """

    draining: bool = False
    stopping: bool = False


def create_app(
    *,
    rpc_client: RpcClient,
    authenticator: Authenticator,
    rate_limits: RateLimits,
    lifecycle: Lifecycle,
    build: Build,
    metrics: Metrics,
) -> FastAPI:
    """The bridge as an ASGI application."""
    app = FastAPI(
        openapi_url=None,  # `docs_page` serves the document
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    # It does what FastAPI's own layers would do, and is the only layer between server and router.
    app.middleware_stack = BridgeMiddleware(app.router, is_stopping=lambda: lifecycle.stopping, observer=metrics)
    PaymentRoutes(rpc_client=rpc_client, authenticator=authenticator, rate_limits=rate_limits).add_to(app)

    async def broker_takes_calls() -> bool:
        return rpc_client.ready

    checks = {"broker": broker_takes_calls, **authenticator.checks}

    def details() -> dict[str, dict[str, Any]]:
        skew = rpc_client.clock.skew_seconds
        return {} if skew is None else {"service": {"clockSkewSeconds": round(skew)}}

    health = Health(checks=checks, is_leaving=lambda: lifecycle.draining or lifecycle.stopping, details=details)

    async def metrics_page() -> bytes:
        return metrics.page()

    shown = pages(health=health, build=build, metrics=metrics_page)
    for path, read in shown.items():
        add_route(app, path, _answering(read))
    for path in INDEXES:
        add_route(app, path, _indexing(shown))
    docs_page.add_to(app)
    return app


def _answering(read: ReadPage) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(_request: Request) -> Response:
        return _response(await read())

    return endpoint


def _indexing(paths: Iterable[str]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        host = request.headers.get("Host", "")
        return _response(index(request.scope["path"], host=host, paths=paths, documents=docs_page.DOCUMENTS))

    return endpoint


def _response(page: Page) -> Response:
    return Response(page.body, page.status, NO_STORE, page.media_type)
