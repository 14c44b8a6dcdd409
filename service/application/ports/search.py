"""What operators look for, and what they find; only the console and the operators' commands read so."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from typing import Any

from service.domain.money import Money


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which payments; a member that is None does not matter. `amount` is in major units of whatever currency.

    `request_id`: of any change of the payment. `attention`: the reason, or `any`, of a payment that needs a person now.
    `since` and `until` are about the time when it was begun.
    """

    payment_id: int | None = None
    booking_id: int | None = None
    user_id: int | None = None
    session_id: str | None = None
    request_id: str | None = None
    status: str | None = None
    reason: str | None = None
    attention: str | None = None
    amount: Decimal | None = None
    currency: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def given(self) -> Mapping[str, Any]:
        """What matters, by name."""
        members = {member.name: getattr(self, member.name) for member in fields(self)}
        return {name: value for name, value in members.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Place:
    """A place in the list of all payments, newest first: after the payment that was begun then and has this id."""

    created_at: datetime
    id: int


@dataclass(frozen=True, kw_only=True)
class FoundPayment:
    """A payment in a list."""

    id: int
    booking_id: int
    user_id: int
    money: Money
    status: str
    reason: str | None
    attention: str | None
    """Why a person must look at it, until one has."""
    session_id: str | None
    refunded_minor: int
    dispute: str | None
    created_at: datetime
    updated_at: datetime

    @property
    def place(self) -> Place:
        """Where the list goes on after it."""
        return Place(created_at=self.created_at, id=self.id)


@dataclass(frozen=True, kw_only=True)
class StoredEvent:
    """An event of a payment in the outbox. Sent ones are deleted after a while."""

    event_id: str
    sequence: int
    routing_key: str
    trace_parent: str | None
    created_at: datetime
    sent_at: datetime | None
    attempts: int


@dataclass(frozen=True, kw_only=True)
class OperatorLine:
    """A line of the operators' journal: who did what to which message."""

    at: datetime
    actor: str
    kind: str
    queue: str
    message_id: str | None
    reason: str
    body_sha256: str
