"""The operators' pages: health, info and metrics."""

from typing import Final

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from bridge.metrics import Metrics
from bridge.routes import RawRoute
from contracts.actuator import LIVENESS, METRICS_MEDIA_TYPE, Build, Health, Page

_NO_STORE: Final = {"Cache-Control": "no-store"}


def add_pages(app: FastAPI, *, health: Health, build: Build, metrics: Metrics) -> None:
    """Register the pages; they are no part of the API's document."""

    async def all_health(_request: Request) -> Response:
        return _json(await health.health())

    async def liveness(_request: Request) -> Response:
        return _json(LIVENESS)

    async def readiness(_request: Request) -> Response:
        return _json(await health.readiness())

    async def info(_request: Request) -> Response:
        return _json(build.page())

    async def prometheus(_request: Request) -> Response:
        return Response(metrics.page(), headers=_NO_STORE | {"Content-Type": METRICS_MEDIA_TYPE})

    pages = {
        "health": all_health,
        "health/liveness": liveness,
        "health/readiness": readiness,
        "info": info,
        "prometheus": prometheus,
    }
    for path, endpoint in pages.items():
        app.router.add_api_route(f"/actuator/{path}", endpoint, include_in_schema=False, route_class_override=RawRoute)


def _json(page: Page) -> Response:
    return Response(page.body, page.status, _NO_STORE, "application/json")
