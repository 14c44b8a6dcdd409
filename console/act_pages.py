"""What operators have done, newest first."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.rendering import Renderer
from service.adapters.postgres import PostgresActs, PostgresSearch

SHOWN: Final = 100


class ActPages:
    """What was asked of the service, and the operators' journal."""

    def __init__(self, *, search: PostgresSearch, acts: PostgresActs, renderer: Renderer) -> None:
        self._search = search
        self._acts = acts
        self._renderer = renderer

    @property
    def routes(self) -> list[Route]:
        """By path."""
        return [Route("/acts", self.page)]

    async def page(self, request: Request) -> Response:
        """The newest."""
        letters = await self._search.operator_lines(limit=SHOWN)
        return self._renderer.page(request, "acts.html", asked=await self._acts.newest(limit=SHOWN), letters=letters)
