"""What happened to checkout sessions at the gateway, and how the replicas share the work of reading it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from service.domain.money import Money
from service.domain.outcomes import Outcome
from service.domain.payment import Draft


@dataclass(frozen=True, kw_only=True)
class LeaderLease:
    """The right to read the gateway's events for all replicas, for a while.

    `read_until`: every event before this moment is read and stored; None if no event was ever read. `now` is the
    database's: a mark beyond it cannot be true, whoever dated the event that it comes from.
    """

    read_until: datetime | None
    now: datetime = field(compare=False)
    charges_read_until: datetime | None = None
    """The same for refunds and disputes, which are read separately."""


class EventCursor(Protocol):
    """Which replica leads, and how far it has read. Every method may raise StoreUnavailableError."""

    async def claim(self, replica: str, *, lease_seconds: float) -> LeaderLease | None:
        """Become or stay the leader for `lease_seconds`; None if another replica leads."""

    async def advance(
        self, replica: str, *, read_until: datetime | None, began_seconds_ago: float, lease_seconds: float
    ) -> bool:
        """Store how far a read came that began so long ago, renew the lease and notify all replicas.

        The mark never goes back, nor beyond the database's now: a stored one that is beyond it is taken back. False if
        another replica leads by now: then nothing is stored and nobody is notified.
        """

    async def advance_charges(self, replica: str, *, read_until: datetime) -> None:
        """Store how far refunds and disputes are read, as `advance` does; nothing if another replica leads."""

    async def release(self, replica: str) -> None:
        """Let another replica lead at once."""

    async def want(self) -> None:
        """Ask the leader to read now. The request may be lost."""


@dataclass(frozen=True, kw_only=True)
class ToldSession:
    """What the gateway says of one session: in an event, an entry of a list, or the answer to a call.

    `reference` is the payment's, as the gateway stored it; without one the session is not ours. `outcome` is how the
    session stands: Open, Processing, Paid, Expired, or Unknown if it makes no sense.
    """

    session_id: str
    reference: str | None
    livemode: bool
    created_at: datetime
    outcome: Outcome
    payment_url: str | None = None
    expires_at: datetime | None = None
    booking_id: int | None = None
    user_id: int | None = None
    money: Money | None = None
    """The money that it asks for now, or that was collected."""
    asked: Money | None = None
    """The money that the payment asked for; None if the session does not say it, as older ones do not."""
    pay_until: datetime | None = None
    """The end of the payer's time; None as above."""
    success_url: str = ""
    cancel_url: str = ""

    @property
    def draft(self) -> Draft | None:
        """The payment that the session was made for; None if it does not say enough."""
        if self.reference is None or self.booking_id is None or self.user_id is None:
            return None
        money = self.asked or self.money
        if money is None or money.minor <= 0 or self.expires_at is None:
            return None
        return Draft(
            reference=self.reference,
            booking_id=self.booking_id,
            user_id=self.user_id,
            money=money,
            success_url=self.success_url,
            cancel_url=self.cancel_url,
            livemode=self.livemode,
            created_at=self.created_at,
            expires_at=self.expires_at,
            pay_until=self.pay_until,
        )


@dataclass(frozen=True, kw_only=True)
class ToldPage:
    """One page of the list of sessions, newest first, strangers' too. `next`: what to pass as `after`, or None."""

    sessions: Sequence[ToldSession]
    next: str | None


@dataclass(frozen=True, kw_only=True)
class SessionEvent:
    """What one event, or one entry of the list of sessions, says about a session.

    `id` is the event's own, or the session's; `at` is when it was created, exact to the second. `outcome` is Paid or
    Expired; None for any other state, from which nothing follows. `has_failed`: the payer is done, and the money will
    not come. `reference` is that of the session's payment; without one the session is not ours.
    """

    id: str
    at: datetime
    session_id: str
    outcome: Outcome | None
    has_failed: bool = False
    reference: str | None = None


@dataclass(frozen=True, kw_only=True)
class EventPage:
    """One page, newest event first. `next`: what to pass as `after` for the next page, None at the end.

    Entries that concern no checkout session are left out, so `events` may be empty while `next` is not None.
    """

    events: Sequence[SessionEvent]
    next: str | None
