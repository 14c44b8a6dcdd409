"""What the gateway told us, in our words. Nothing here is Stripe's vocabulary."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from service.domain.money import Money


class OutcomeKind(StrEnum):
    """The columns of the status table."""

    OPENED = "opened"
    OPEN = "open"
    PROCESSING = "processing"
    UNKNOWN = "unknown"
    PAID = "paid"
    EXPIRED = "expired"
    REFUSED = "refused"


class UnknownCause(StrEnum):
    """Why we do not know."""

    TIMEOUT = "timeout"
    """No answer in time: the call may have been executed."""
    FAILED = "failed"
    """The gateway answered with an error of its own, or the connection broke: it may have been executed."""
    BUSY = "busy"
    """The gateway refused to look at the call for now, or was not called at all: it was not executed."""
    DENIED = "denied"
    """Our key was refused: it was not executed, and an operator must act."""
    UNREADABLE = "unreadable"
    """An answer that we do not understand: it may have been executed."""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """The gateway made a checkout session, or says again that it made it; one that has ended has no `payment_url`."""

    kind: ClassVar = OutcomeKind.OPENED
    session_id: str
    payment_url: str | None
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class Open:
    """The session waits for the payer."""

    kind: ClassVar = OutcomeKind.OPEN


@dataclass(frozen=True, kw_only=True)
class Processing:
    """The payer is done, the money has not arrived."""

    kind: ClassVar = OutcomeKind.PROCESSING


@dataclass(frozen=True, kw_only=True)
class Unknown:
    """We do not know. Never a failure. `detail` is for the log and the journal, never for callers.

    `wait_seconds`: for `BUSY`, when the call would have its turn or be tried, counted from now, if that is known.
    """

    kind: ClassVar = OutcomeKind.UNKNOWN
    cause: UnknownCause
    detail: str = ""
    wait_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Paid:
    """Money arrived. `reference` is the payment's reference as the gateway kept it."""

    kind: ClassVar = OutcomeKind.PAID
    money: Money
    reference: str | None
    livemode: bool


@dataclass(frozen=True, kw_only=True)
class Expired:
    """The session ended without money and can never be paid again."""

    kind: ClassVar = OutcomeKind.EXPIRED


@dataclass(frozen=True, kw_only=True)
class Refused:
    """The gateway refuses the request for good. `detail` is its own code, for the journal."""

    kind: ClassVar = OutcomeKind.REFUSED
    detail: str = ""


Outcome = Opened | Open | Processing | Unknown | Paid | Expired | Refused
