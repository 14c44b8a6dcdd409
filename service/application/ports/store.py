"""The record of every payment, and the places that are kept for creates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from service.application.ports.commands import CommandContext
from service.domain.payment import Draft, Payment
from service.domain.status import Change


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

    async def final_among(self, payment_ids: Sequence[int]) -> Sequence[Payment]:
        """Those of these payments that are final."""

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
