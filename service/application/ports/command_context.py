"""Who sent a command, and the clock."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """The current time, aware, in UTC."""


@dataclass(frozen=True, kw_only=True)
class CommandContext:
    """What a command has besides its body.

    `caller`: on whose behalf it was sent; idempotency keys are scoped to it. `deadline`: when the sender stops waiting,
    None if nobody waits. `sent_at`: when it was first sent, by the sender's clock, and never later than when it came;
    None if that does not matter.
    """

    message_id: str
    request_id: str
    caller: str = ""
    idempotency_key: str | None = None
    trace_parent: str | None = None
    deadline: datetime | None = None
    sent_at: datetime | None = None

    def seconds_left(self, now: datetime) -> float | None:
        """Until the sender stops waiting; None if nobody waits."""
        return None if self.deadline is None else (self.deadline - now).total_seconds()
