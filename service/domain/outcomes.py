"""Outcomes of calls to the gateway, in the service's words: nothing here is Stripe's vocabulary."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from service.domain.money import Money
from service.domain.payment import LastOutcome


class UnknownCause(StrEnum):
    """Why an outcome is not known."""

    TIMEOUT = "timeout"
    """No answer in time: the call may have been executed."""
    FAILED = "failed"
    """The gateway answered with an error of its own, or the connection broke: the call may have been executed."""
    BUSY = "busy"
    """The gateway refused the call for now, or was not called at all: it was not executed."""
    DENIED = "denied"
    """The gateway refused the API key: the call was not executed, and an operator must act."""
    MISCONFIGURED = "misconfigured"
    """The gateway refuses what we send for a reason that no caller can change (our account, version or parameters): it
    was not executed, and an operator must act."""
    LAPSED = "lapsed"
    """The frozen end of the session is too near or too far by the gateway's clock: no session was made, or can be."""
    KEPT = "kept"
    """The gateway keeps an error under the key, and repeats it: the first call may have been executed."""
    UNREADABLE = "unreadable"
    """The answer makes no sense: the call may have been executed."""
    NO_SESSION = "no_session"
    """The gateway answers, but knows no such session by our key: it says nothing of the key or of other sessions."""


@dataclass(frozen=True, kw_only=True)
class _Said:
    """What all outcomes have. `evidence`: how the gateway said it (call, event, their ids), for journal and log."""

    evidence: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Opened(_Said):
    """The gateway made a checkout session, now or earlier; one that has ended has no `payment_url`."""

    session_id: str
    payment_url: str | None
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class Open(_Said):
    """The session waits for the payer."""


@dataclass(frozen=True, kw_only=True)
class Processing(_Said):
    """The payer is done, the money has not arrived."""


@dataclass(frozen=True, kw_only=True)
class Unknown(_Said):
    """The outcome is not known. Never a failure. `detail` is for the log and the journal, never for callers.

    `wait_seconds`: for `BUSY`, the time until a call gets a permit or is tried again, if that is known.
    `is_rejection`: the gateway answered that it will not do such a thing; asking again changes nothing.
    """

    cause: UnknownCause
    detail: str = ""
    wait_seconds: float | None = None
    is_rejection: bool = field(default=False, compare=False)

    @property
    def is_passing(self) -> bool:
        """Whether the gateway is away, and will answer when it is back."""
        passing = {UnknownCause.TIMEOUT, UnknownCause.FAILED, UnknownCause.BUSY}
        return self.cause in passing and not self.is_rejection


@dataclass(frozen=True, kw_only=True)
class Paid(_Said):
    """Money arrived. `reference` is the payment's reference as the gateway stored it."""

    money: Money
    reference: str | None
    livemode: bool


@dataclass(frozen=True, kw_only=True)
class Expired(_Said):
    """The session ended without money and can never be paid again."""


@dataclass(frozen=True, kw_only=True)
class Refused(_Said):
    """The gateway refuses the request for good, for what booking, payer or caller can change.

    `detail` is its own code, for the journal; `cause` is ours. `repeated`: an earlier attempt of the call may have been
    executed.
    """

    detail: str = ""
    cause: LastOutcome = LastOutcome.REFUSED
    repeated: bool = False


Outcome = Opened | Open | Processing | Unknown | Paid | Expired | Refused
