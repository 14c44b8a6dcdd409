"""A turn to call the gateway: for which endpoint, how urgent, and what it is not to get one in time."""

from collections.abc import Callable
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

    def __init__(self, release: Callable[[], None] = lambda: None) -> None:
        self.used = False
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        """The call is over: others may go before the block ends. Whoever wants another call needs another turn."""
        release, self._release = self._release, None
        if release is not None:
            release()
