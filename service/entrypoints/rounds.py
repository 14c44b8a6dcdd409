"""Rounds: how relay, settler and pruner go on until they are stopped, whatever becomes of the database meanwhile."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final

from service.domain.errors import StoreUnavailableError

_log = logging.getLogger(__name__)


class Rounds:
    """One round after the other. Raises what a round raises, except that the database is away: that passes."""

    def __init__(self, *, trouble: str, poll_seconds: float) -> None:
        """`trouble`: what cannot be done without the database, for the log; `poll_seconds`: until the next try."""
        self._trouble: Final = trouble
        self._poll_seconds: Final = poll_seconds
        self._stopping = asyncio.Event()

    @property
    def stopping(self) -> bool:
        """Whether nothing new is to be begun."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """End `run` after the round that is under way."""
        self._stopping.set()

    async def stopped(self) -> None:
        """Return after `stop`."""
        await self._stopping.wait()

    async def run(
        self, one: Callable[[], Awaitable[float]], *, wait: Callable[[float], Awaitable[object]] | None = None
    ) -> None:
        """Repeat until `stop`. A round answers in how many seconds the next one is due; `wait` may end sooner."""
        wait = wait or self._pause
        reachable = True
        while not self.stopping:
            try:
                seconds = await one()
            except StoreUnavailableError:
                if reachable:  # one line per change
                    _log.warning("%s; trying again", self._trouble)
                reachable, seconds = False, self._poll_seconds
            else:
                reachable = True
            if seconds:
                await wait(seconds)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds * random.uniform(0.75, 1.25)):  # noqa: S311 - spreads the replicas
                await self._stopping.wait()
        except TimeoutError:
            pass
