"""What operators ask the service to do with a payment, from the console, which may change none itself."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol


class ActKind(StrEnum):
    """What can be asked for."""

    CLOSE = "close"
    """End what cannot end by itself, or attention that was dealt with."""
    VERIFY = "verify"
    """Ask the gateway how the session stands, now."""
    RECONCILE = "reconcile"
    """Hold the gateway's sessions of that time against the payments here, and mend what may be mended."""
    RESEND = "resend"
    """Publish the newest event once more."""


@dataclass(frozen=True, kw_only=True)
class OperatorAct:
    """An act. `is_done` and `answer`, a sentence, are None until a replica has tried it."""

    id: int
    kind: str
    payment_id: int
    actor: str
    why: str
    asked_at: datetime
    done_at: datetime | None
    is_done: bool | None
    answer: str | None


class Acts(Protocol):
    """The acts that wait. Every method may raise StoreUnavailableError."""

    async def claim(self) -> OperatorAct | None:
        """The oldest that nobody has answered; no other replica gets it for a while."""

    async def answer(self, act_id: int, *, is_done: bool, answer: str) -> None:
        """Say how it went, once."""

    async def resend(self, payment_id: int) -> str | None:
        """Have the relay publish the payment's newest event once more; its routing key, None if it was deleted."""
