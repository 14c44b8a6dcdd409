"""Health pages: live means that the process answers, ready that it can do its work."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from faststream.asgi import AsgiResponse, get

_JSON: Final = {"content-type": "application/json", "cache-control": "no-store"}

Check = Callable[[], Awaitable[bool]]


def routes(checks: Mapping[str, Check]) -> list[tuple[str, Any]]:
    """`/health/live` and `/health/ready`. Each check is named in the answer as "up" or "down"."""

    @get(include_in_schema=False)
    async def live(_: dict[str, Any]) -> AsgiResponse:
        return AsgiResponse(b'{"status":"up"}', 200, _JSON)

    @get(include_in_schema=False)
    async def ready(_: dict[str, Any]) -> AsgiResponse:
        states = {name: await check() for name, check in checks.items()}
        parts = ",".join(f'"{name}":"{"up" if state else "down"}"' for name, state in states.items())
        up = all(states.values())
        body = f'{{"status":"{"up" if up else "down"}",{parts}}}'
        return AsgiResponse(body.encode(), 200 if up else 503, _JSON)

    return [("/health/live", live), ("/health/ready", ready)]
