"""The operators' pages: health, info and metrics."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from faststream.asgi import AsgiResponse

from contracts.actuator import LIVENESS, METRICS_MEDIA_TYPE, Build, Health, Page

_NO_STORE: Final = {"cache-control": "no-store"}


def routes(*, health: Health, build: Build, metrics: Callable[[], Awaitable[bytes]]) -> list[tuple[str, Any]]:
    """The pages as ASGI applications, by path. `metrics` answers in Prometheus' text format."""

    async def liveness() -> Page:
        return LIVENESS

    async def info() -> Page:
        return build.page()

    async def prometheus(scope: Any, receive: Any, send: Any) -> None:
        headers = _NO_STORE | {"content-type": METRICS_MEDIA_TYPE}
        await AsgiResponse(await metrics(), 200, headers)(scope, receive, send)

    return [
        ("/actuator/health", _json(health.health)),
        ("/actuator/health/liveness", _json(liveness)),
        ("/actuator/health/readiness", _json(health.readiness)),
        ("/actuator/info", _json(info)),
        ("/actuator/prometheus", prometheus),
    ]


def _json(look: Callable[[], Awaitable[Page]]) -> Any:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        page = await look()
        headers = _NO_STORE | {"content-type": "application/json"}
        await AsgiResponse(page.body, page.status, headers)(scope, receive, send)

    return answer
