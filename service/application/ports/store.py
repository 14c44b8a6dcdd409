"""The record of every payment, and the reservations of creates that are to come back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Protocol

from service.application.ports.command_context import CommandContext
from service.domain.payment import Draft, Payment, Request
from service.domain.status import Change

CLOCKS_DIFFER: Final = timedelta(minutes=1)
"""How far the clocks of two replicas may differ; a time further ahead is not believed."""


class KeyScope(StrEnum):
    """What kind of key makes a create repeatable."""

    MESSAGE = "message"
    IDEMPOTENCY = "idempotency"


@dataclass(frozen=True, kw_only=True)
class RequestKey:
    """A key of a create. The same key with the same `fingerprint` (of what was sent) means the same payment.

    So does the same key with other words for the same content.
    """

    scope: KeyScope
    caller: str
    key: str
    fingerprint: str


class Relation(StrEnum):
    """How the payment returned by `Store.begin` relates to the draft."""

    CREATED = "created"
    """It is the draft, which was inserted."""
    REPEATED = "repeated"
    """One of the keys belongs to it."""
    SAME = "same"
    """It is the booking's live payment, and the draft repeats what it was made of."""
    OTHER = "other"
    """It is the booking's live payment, with other content or nearly over. Neither draft nor keys were inserted."""
    BLOCKING = "blocking"
    """It is a failed payment of the booking that a person must look at first. Neither draft nor keys were inserted."""


@dataclass(frozen=True, kw_only=True)
class Begun:
    """The answer of `Store.begin`."""

    payment: Payment
    relation: Relation


@dataclass(frozen=True, kw_only=True)
class JournalEntry:
    """One line of a payment's history."""

    at: datetime
    version: int
    kind: str
    status: str
    detail: Mapping[str, Any]
    request_id: str


class Store(Protocol):
    """The record of every payment. Every method is one transaction, and may raise StoreUnavailableError."""

    async def begin(
        self, draft: Draft, *, keys: Sequence[RequestKey], request_id: str, least_seconds_left: float = 0
    ) -> Begun:
        """Insert the draft as PENDING with its first journal line, unless a key or the booking has a payment already.

        The booking's live payment serves the draft if it can still be paid for `least_seconds_left`.

        Raises:
            IdempotencyKeyReusedError, MessageIdReusedError: the key was used with other content.
        """

    async def existing(
        self, request: Request, *, keys: Sequence[RequestKey], least_seconds_left: float = 0
    ) -> Begun | None:
        """What `begin` would return instead of inserting; None if it would insert. Binds keys and raises as `begin`."""

    async def adopt(self, draft: Draft, *, detail: Mapping[str, str], request_id: str) -> Payment | None:
        """Insert as PENDING a payment of which only the gateway knew, its first journal line being `adopted`.

        None if the booking may have no such payment (it has a live one), or a payment has its reference by now.
        """

    async def record(self, change: Change, *, context: CommandContext) -> Payment:
        """Write a change, its journal line and outbox row; ConcurrentChangeError if another worker took the version.

        So it is if the payment's terms were renewed meanwhile.
        """

    async def renew(self, change: Change, *, context: CommandContext) -> Payment:
        """Write new terms and their journal line; ConcurrentChangeError if the payment is not as it was.

        It must still be unopened, and have the version and the reference that are replaced.
        """

    async def payment(self, payment_id: int) -> Payment | None:
        """The payment with this id."""

    async def payment_of_session(self, session_id: str) -> Payment | None:
        """The payment with this transaction id."""

    async def payment_of_reference(self, reference: str) -> Payment | None:
        """The payment with this reference."""

    async def latest_of_booking(self, booking_id: int) -> Payment | None:
        """The booking's live payment, or else a failed one that needs a person, or else its newest."""

    async def payment_told_of(self, session_id: str, *, booking_id: int, reference: str | None) -> Payment | None:
        """The payment of the booking that knows of this session, which is not its own.

        A person was called because of it, or its reference was replaced when the payment's terms were renewed.
        """

    async def final_among(self, payment_ids: Sequence[int]) -> Sequence[Payment]:
        """Those of these payments that are final."""

    async def claim_ask(self, payment_id: int, *, at: datetime, fresh_seconds: float) -> bool:
        """Whether the caller may ask the gateway now: no replica has, within the last `fresh_seconds`.

        A time that is further ahead than clocks may differ was written by a clock that is wrong, and does not count.
        """

    async def note_ask_failed(self, payment_id: int, *, at: datetime) -> None:
        """Record that the gateway could not be asked."""

    async def note_outcome(self, payment_id: int, outcome: str | None) -> None:
        """Record the gateway's last word of a pending payment; nothing is recorded of a final one."""

    async def claim_unfinished(self, *, at: datetime, unopened_before: datetime, limit: int) -> Sequence[Payment]:
        """Pending payments that nobody else finishes, oldest first, with one more try counted.

        They were created before `unopened_before` and have no session, or their time to pay is over at `at`. No other
        replica claims them for a time that grows with the tries, and is an hour for those that need a person.
        """

    async def journal(self, payment_id: int) -> Sequence[JournalEntry]:
        """The payment's history, oldest first."""

    async def trace_parent_of(self, payment_id: int) -> str | None:
        """That of the payment's first event which is still kept: in whose trace it was begun; None if not known."""

    async def oldest_pending_at(self) -> datetime | None:
        """When the oldest pending payment with a session was created, without those that need a person; else None."""

    async def payments_of_sessions(self, session_ids: Sequence[str]) -> Sequence[Payment]:
        """The payments of these sessions."""

    async def opened_between(self, after: tuple[datetime, int], until: datetime, *, limit: int) -> Sequence[Payment]:
        """Payments with a session, by creation and id: those that follow `after` and were created before `until`."""

    async def newest_opened_at(self) -> datetime | None:
        """When the newest payment with a session was created; None if there is none."""

    async def prune_keys(self, *, before: datetime, limit: int) -> int:
        """Delete up to `limit` keys of requests created before, the oldest first; how many were."""


class Reservations(Protocol):
    """Creates that are to come back, by booking, for all replicas.

    A reservation is *due* until `due_until`, when its create should be back, and is kept for a while longer. Every
    method may raise StoreUnavailableError.
    """

    async def keep(self, booking_id: int, *, arrived_at: datetime, due_until: datetime, kept_until: datetime) -> None:
        """Keep a reservation, or the one that the booking has for longer; the earlier arrival counts."""

    async def take(self, booking_id: int, *, at: datetime, kept_until: datetime) -> datetime | None:
        """When the booking arrived in the queue, if a reservation is kept for it, which is no longer due; else None."""

    async def drop(self, booking_id: int) -> None:
        """Delete the reservation of a create that was served."""

    async def due(self, *, at: datetime) -> Mapping[int, int]:
        """The number of due reservations by the second (Unix time) of their arrival."""

    async def prune_reservations(self, *, before: datetime, limit: int) -> int:
        """Delete up to `limit` reservations that were kept until before; how many were deleted."""
