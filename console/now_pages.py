"""How things stand now: one page, whose figures are read once for everybody who looks."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.queue_depths import Depths, QueueDepths
from console.rendering import Renderer
from console.sparklines import Sparkline, sparklines
from service.adapters.postgres import PostgresOverview, PostgresSearch
from service.application.ports.overview import Overview
from service.application.ports.search import FoundPayment, Wanted

FRESH_SECONDS: Final = 2.0
SHOWN: Final = 8


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What the page shows. `depths`: None if RabbitMQ does not answer."""

    overview: Overview
    plots: Sequence[Sparkline]
    depths: Depths | None
    attention: Sequence[FoundPayment]
    newest: Sequence[FoundPayment]


class NowPages:
    """The first page, and its part that a script reads again."""

    def __init__(
        self, *, overview: PostgresOverview, search: PostgresSearch, depths: QueueDepths, renderer: Renderer
    ) -> None:
        self._overview = overview
        self._search = search
        self._depths = depths
        self._renderer = renderer
        self._lock = asyncio.Lock()
        self._read: tuple[float, Figures] | None = None

    @property
    def routes(self) -> list[Route]:
        """By path."""
        return [Route("/", self.page), Route("/now", self.part)]

    async def page(self, request: Request) -> Response:
        """All of it."""
        return self._renderer.page(request, "now.html", figures=await self._figures())

    async def part(self, request: Request) -> Response:
        """The figures alone."""
        return self._renderer.page(request, "figures.html", figures=await self._figures())

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
