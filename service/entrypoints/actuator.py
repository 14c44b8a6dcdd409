"""The pages for operators: health, info and metrics."""

from collections.abc import Awaitable, Callable
from typing import Any

from faststream.asgi import AsgiResponse

from runtime.health import NO_STORE, Build, Health, ReadPage, pages


def routes(*, health: Health, build: Build, metrics: Callable[[], Awaitable[bytes]]) -> list[tuple[str, Any]]:
    """The pages as ASGI applications, by path."""
    return [(path, _answering(read)) for path, read in pages(health=health, build=build, metrics=metrics).items()]


def _answering(read: ReadPage) -> Any:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        page = await read()
        headers = NO_STORE | {"content-type": page.media_type}
        await AsgiResponse(page.body, page.status, headers)(scope, receive, send)

    return answer
