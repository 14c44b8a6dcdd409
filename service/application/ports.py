"""What the handlers need from the outside, as protocols. The adapters and the tests' fakes implement them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from service.application.budget import Priority, Turn
from service.domain.outcomes import Opened, Outcome, Unknown
from service.domain.payment import Draft, Payment
from service.domain.status import Change


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


class KeyScope(StrEnum):
    """What kind of key makes a create repeatable."""

    MESSAGE = "message"
    IDEMPOTENCY = "idempotency"


@dataclass(frozen=True, kw_only=True)
class RequestKey:
    """A key that a create came with. Seen again with the same `fingerprint` (of the content) it is the same payment."""

    scope: KeyScope
    caller: str
    key: str
    fingerprint: str


class Relation(StrEnum):
    """How the payment that `Store.begin` answers relates to the draft."""

    CREATED = "created"
    """It is the draft, inserted just now."""
    REPEATED = "repeated"
    """One of the keys belongs to it."""
    SAME = "same"
    """It is the booking's live payment and has the draft's content."""
    OTHER = "other"
    """It is the booking's live payment and has other content or seems over. Neither draft nor keys were inserted."""


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
    """The record of every payment. Each method is one transaction; none is open between two calls.

    Every method may raise StoreUnavailableError.
    """

    async def begin(self, draft: Draft, *, keys: Sequence[RequestKey], request_id: str) -> Begun:
        """Insert the draft as PENDING with its first journal line, unless a key or the booking has a payment already.

        Raises:
            IdempotencyKeyReusedError, MessageIdReusedError: the key came before with other content.
        """

    async def existing(self, draft: Draft, *, keys: Sequence[RequestKey]) -> Begun | None:
        """What `begin` would answer without inserting the draft; None if it would insert it. Keys are bound as there.

        Raises:
            IdempotencyKeyReusedError, MessageIdReusedError: the key came before with other content.
        """

    async def record(self, change: Change, *, context: CommandContext) -> Payment:
        """Write a change: the payment (compare-and-set on its version), a journal line and the outbox row.

        Raises:
            ConcurrentChangeError: another worker wrote first.
        """

    async def payment(self, payment_id: int) -> Payment | None:
        """The payment with this id."""

    async def payment_of_session(self, session_id: str) -> Payment | None:
        """The payment with this transaction id."""

    async def claim_ask(self, payment_id: int, *, at: datetime, fresh_seconds: float) -> bool:
        """Whether the caller may ask the gateway now: nobody has, on any replica, within the last `fresh_seconds`."""

    async def note_ask_failed(self, payment_id: int, *, at: datetime) -> None:
        """Remember that the gateway could not be asked."""

    async def claim_unsettled(
        self, *, at: datetime, unopened_before: datetime, unpaid_before: datetime, limit: int
    ) -> Sequence[Payment]:
        """Pending payments that nobody finishes, oldest first, with one more try counted.

        They were created before `unopened_before` and have no session, or before `unpaid_before` and are not paid. No
        other replica gets them for a time that grows with the tries.
        """

    async def journal(self, payment_id: int) -> Sequence[JournalEntry]:
        """The payment's history, oldest first."""

    async def oldest_pending_at(self) -> datetime | None:
        """When the oldest pending payment was created of those that have a session, and so may be paid; None: none."""

    async def pending_of_sessions(self, session_ids: Sequence[str]) -> Sequence[Payment]:
        """The payments of these sessions that are still pending; what is not ours or is final is left out."""

    async def prune_keys(self, *, before: datetime, limit: int) -> int:
        """Forget up to `limit` idempotency keys of before; how many. Message ids are never forgotten."""


class Places(Protocol):
    """The places in line of creates that were told to come back, by booking, for all replicas.

    A place is *due* until `due_until`, when its create should have come back, and kept for a while longer. Every
    method may raise StoreUnavailableError.
    """

    async def keep(self, booking_id: int, *, arrived_at: datetime, due_until: datetime, kept_until: datetime) -> None:
        """Keep a place, or keep for longer the one that the booking has, which stays the earlier one."""

    async def take(self, booking_id: int, *, at: datetime, kept_until: datetime) -> datetime | None:
        """Since when the booking stands in line, if a place is kept for it: it is back, and no longer due."""

    async def drop(self, booking_id: int) -> None:
        """The create was served."""

    async def due(self, *, at: datetime) -> Mapping[int, int]:
        """How many places are due, by the whole second (Unix time) of their arrival."""

    async def prune_places(self, *, before: datetime, limit: int) -> int:
        """Forget up to `limit` places that were kept until before; how many."""


@dataclass(frozen=True, kw_only=True)
class OutboxRow:
    """An event to publish. The bytes are stored, so every resend is the same to the last bit."""

    id: int
    event_id: str
    payment_id: int
    sequence: int
    routing_key: str
    headers: dict[str, str]
    body: bytes
    created_at: datetime
    attempts: int


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """What the outbox still has to send. `unsent` is counted up to a bound, beyond which it is that bound."""

    unsent: int
    oldest_at: datetime | None


class Outbox(Protocol):
    """Events waiting to be published. Several relays may share it. Every method may raise StoreUnavailableError."""

    async def claim(self, *, limit: int, at: datetime, lease_seconds: float) -> Sequence[OutboxRow]:
        """The oldest unsent event of up to `limit` payments; no other relay gets them until the lease ends."""

    async def backlog(self) -> Backlog:
        """What is unsent, whoever sends it; cheap however much there is."""

    async def mark_sent(self, ids: Sequence[int], *, at: datetime) -> None:
        """The broker has confirmed these."""

    async def put_off(self, row_id: int, *, until: datetime) -> None:
        """Publishing failed: leave the row alone until then, so that others flow."""

    async def prune_sent(self, *, before: datetime, limit: int) -> int:
        """Delete up to `limit` events that were sent before; how many. The journal keeps what they told."""

    async def release(self, ids: Sequence[int]) -> None:
        """Publishing was not possible, which is no fault of these: anybody may claim them at once, as if untried."""


@dataclass(frozen=True, kw_only=True)
class Lead:
    """The right to read the gateway's events for all replicas, for a while.

    `read_until`: everything that happened at the gateway before is read and stored; None if nothing was ever read.
    """

    read_until: datetime | None


class FeedRecord(Protocol):
    """Which replica leads the feed, and how far it has read. Every method may raise StoreUnavailableError."""

    async def claim(self, replica: str, *, lease_seconds: float) -> Lead | None:
        """Lead, or go on leading, for so long; None if another replica does."""

    async def advance(
        self, replica: str, *, read_until: datetime | None, began_seconds_ago: float, lease_seconds: float
    ) -> bool:
        """A reading that began so long ago is stored: keep how far it came (never back), renew, and tell the others.

        False if another replica leads by now: then nothing is kept or told.
        """

    async def release(self, replica: str) -> None:
        """Let another replica lead at once."""

    async def want(self) -> None:
        """Ask whoever leads to read now. It may be lost."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """What one event, or one session of a list, tells of a session.

    `id` is the event's own, or the session's; `at` is when it was made, exact to the second. `outcome` is Paid or
    Expired; None if the session stood otherwise, which concludes nothing.
    """

    id: str
    at: datetime
    session_id: str
    outcome: Outcome | None


@dataclass(frozen=True, kw_only=True)
class Page:
    """A part of what was asked for, newest first. `next`: what to pass as `after` for the next part, None at the end.

    What tells of no checkout session is left out, so that `told` may be empty and `next` not None.
    """

    told: Sequence[Told]
    next: str | None


class Gateway(Protocol):
    """The port behind which Stripe sits. Nothing here raises for what the gateway does: that is an outcome."""

    @property
    def livemode(self) -> bool:
        """Whether real money moves."""

    def checkout_request(self, terms: "CheckoutTerms") -> Mapping[str, Any]:
        """What will be sent to make the checkout session. Pure: stored before the call and repeated word for word."""

    async def open(
        self, payment: Payment, *, timeout_seconds: float, proven_absent: bool = False, turn: Turn | None = None
    ) -> Outcome:
        """Make the payment's checkout session, under a key derived from its reference: Opened, Refused or Unknown.

        `turn`: one to create that the caller holds; without it the call waits for its own, within its timeout.

        `proven_absent`: `find` has shown that no earlier call made one, so the answer kept under the usual key (perhaps
        an error) need not be heard again.
        """

    async def find(self, payment: Payment, *, timeout_seconds: float) -> Opened | Unknown | None:
        """The session that an earlier `open` of this payment made, looked up by reference; None if there is none."""

    async def look_up(
        self,
        payment: Payment,
        *,
        timeout_seconds: float,
        priority: Priority = Priority.WAITED,
        turn: Turn | None = None,
    ) -> Outcome:
        """How the payment's session stands: Open, Processing, Paid, Expired or Unknown.

        `turn`: one to retrieve that the caller holds; without it the call waits for its own, with that priority.
        """

    async def expire(self, payment: Payment, *, timeout_seconds: float) -> Outcome:
        """End the payment's session. Answers how it stands afterwards: Expired, but perhaps Paid or Processing."""

    async def events(self, *, since: datetime, after: str | None = None, timeout_seconds: float) -> Page | Unknown:
        """A page of what happened to sessions since then: the money came, will not come, or the time was over."""

    async def sessions(self, *, since: datetime, after: str | None = None, timeout_seconds: float) -> Page | Unknown:
        """The same of the sessions made since then, as they stand: dearer, but not only for 30 days."""


@dataclass(frozen=True, kw_only=True)
class CheckoutTerms:
    """What a checkout is made of, before it is a payment: see `domain.payment.Draft` for the members."""

    reference: str
    booking_id: int
    user_id: int
    amount_minor: int
    currency: str
    success_url: str
    cancel_url: str
    expires_at: datetime
