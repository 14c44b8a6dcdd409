"""Who asks, and when it is."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """The current time, aware, in UTC."""


@dataclass(frozen=True, kw_only=True)
class CommandContext:
    """What came with a command besides its body.

    `caller` names on whose behalf it was sent; idempotency keys are scoped to it. `deadline` is when the sender stops
    waiting, None if nobody waits.
    """

    message_id: str
    request_id: str
    caller: str = ""
    idempotency_key: str | None = None
    trace_parent: str | None = None
    deadline: datetime | None = None
