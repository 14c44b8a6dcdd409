"""How things stand now: one page, whose figures are read once for everybody who looks."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from console.queue_depths import Depths, QueueDepths
from console.rendering import Renderer
from console.sparklines import Sparkline, sparklines
from service.adapters.postgres import PostgresOverview, PostgresSearch
from service.application.ports.overview import Overview
from service.application.ports.search import FoundPayment, Wanted
from service.domain.errors import StoreUnavailableError

FRESH_SECONDS: Final = 2.0
LIVE_SECONDS: Final = 3.0
"""Between two readings for a page that is open."""
STREAM_SECONDS: Final = 300.0
"""How long a stream lasts: then the browser asks again, and shows again who it is."""
SHOWN: Final = 8
_STREAM: Final = "text/event-stream"


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What the page shows. `depths`: None if RabbitMQ does not answer."""

    overview: Overview
    plots: Sequence[Sparkline]
    depths: Depths | None
    attention: Sequence[FoundPayment]
    newest: Sequence[FoundPayment]


class NowPages:
    """The first page, and its figures as a stream of events (server-sent) for a page that stays open."""

    def __init__(
        self,
        *,
        overview: PostgresOverview,
        search: PostgresSearch,
        depths: QueueDepths,
        renderer: Renderer,
        is_leaving: Callable[[], bool],
    ) -> None:
        """`is_leaving`: whether the process is about to end, and streams with it."""
        self._overview = overview
        self._search = search
        self._depths = depths
        self._renderer = renderer
        self._is_leaving = is_leaving
        self._lock = asyncio.Lock()
        self._read: tuple[float, Figures] | None = None

    @property
    def routes(self) -> list[Route]:
        """By path."""
        return [Route("/", self.page), Route("/now", self.live)]

    async def page(self, request: Request) -> Response:
        """All of it."""
        return self._renderer.page(request, "now.html", figures=await self._figures())

    async def live(self, request: Request) -> Response:
        """The figures alone, again and again."""
        return StreamingResponse(self._events(request), media_type=_STREAM)

    async def _events(self, request: Request) -> AsyncIterator[str]:
        ends_at = time.monotonic() + STREAM_SECONDS
        while time.monotonic() < ends_at and not self._is_leaving():
            try:
                figures = await self._figures()
            except StoreUnavailableError:
                yield "event: stale\ndata:\n\n"
            else:
                page = bytes(self._renderer.page(request, "figures.html", figures=figures).body).decode()
                yield "".join(f"data: {line}\n" for line in page.splitlines()) + "\n"
            await asyncio.sleep(LIVE_SECONDS)

    async def _figures(self) -> Figures:
        async with self._lock:
            if self._read is None or time.monotonic() - self._read[0] > FRESH_SECONDS:
                self._read = (time.monotonic(), await self._fresh())
            return self._read[1]

    async def _fresh(self) -> Figures:
        overview, minutes, depths, attention, newest = await asyncio.gather(
            self._overview.read(),
            self._overview.minutes(),
            self._depths.read(),
            self._search.page(Wanted(attention="any"), after=None, limit=SHOWN),
            self._search.page(Wanted(), after=None, limit=SHOWN),
        )
        plots = sparklines(minutes, overview.at)
        return Figures(overview=overview, plots=plots, depths=depths, attention=attention, newest=newest)
