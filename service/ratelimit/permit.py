"""A permit: the right to make one call now. Which endpoints are limited, and who goes first."""

from collections.abc import Hashable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Protocol


class Endpoint(StrEnum):
    """What the gateway limits separately: every named operation is its own endpoint."""

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


class PermitDeniedError(Exception):
    """No permit comes in time; `wait_seconds` is when one would, counted from now."""

    def __init__(self, wait_seconds: float) -> None:
        super().__init__()
        self.wait_seconds = wait_seconds


class PermitObserver(Protocol):
    """Counts permits."""

    def on_permit(self, endpoint: str, result: str, waited_seconds: float) -> None:
        """A permit was given back `used` or `unused`, or `denied`; it was waited for so long."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """A moment of the quota: a permit may use it from `at` on and before `ends`."""

    at: float
    ends: float


@dataclass(kw_only=True, eq=False, slots=True)
class Permit:
    """The right to make one call now. Released unused, it goes to whoever is next.

    `holder`: whose next call it is reserved for; None: whoever acquired it makes the call.
    """

    endpoint: Endpoint
    priority: Priority
    slot: Slot
    granted_at: float
    waited_seconds: float
    holder: Hashable = None
    is_used: bool = False

    def use(self) -> None:
        """The call is made."""
        self.is_used = True
