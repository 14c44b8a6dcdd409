"""Health pages: live means that the process answers, ready that it can do its work."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from faststream.asgi import AsgiResponse

_HEADERS: Final = {"content-type": "application/json", "cache-control": "no-store"}

Check = Callable[[], Awaitable[bool]]


def routes(checks: Mapping[str, Check]) -> list[tuple[str, Any]]:
    """Liveness and readiness as ASGI applications. Readiness names each check as "up" or "down"."""

    async def live(scope: Any, receive: Any, send: Any) -> None:
        await _answer({"status": True})(scope, receive, send)

    async def ready(scope: Any, receive: Any, send: Any) -> None:
        states = {name: await check() for name, check in checks.items()}
        await _answer({"status": all(states.values()), **states})(scope, receive, send)

    return [("/actuator/health/liveness", live), ("/actuator/health/readiness", ready)]


def _answer(states: Mapping[str, bool]) -> AsgiResponse:
    members = ",".join(f'"{name}":"{"up" if state else "down"}"' for name, state in states.items())
    return AsgiResponse(f"{{{members}}}".encode(), 200 if states["status"] else 503, _HEADERS)
