"""The store port on PostgreSQL. Each method is one transaction, committed here and nowhere else."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg

from service.adapters.store import outbox, statements
from service.adapters.store.database import Database, Row
from service.application.ports import Begun, CommandContext, JournalEntry, KeyScope, Relation, RequestKey
from service.domain.errors import (
    ConcurrentChangeError,
    CreateInProgressError,
    IdempotencyKeyReusedError,
    MessageIdReusedError,
)
from service.domain.money import Money
from service.domain.payment import Draft, Payment, PaymentStatus
from service.domain.status import Change, ChangeKind
from service.failpoints import FailPoint, hit

_MAX_RACES: Final = 5
_KEY_TAKEN: Final = '"request_keys_pkey"'
"""As PostgreSQL names it in the error, whatever its language."""
_PLAIN: Final = [
    member.name for member in fields(Payment) if member.name not in {"id", "money", "status", "gateway_request"}
]
_REUSED: Final = {KeyScope.MESSAGE: MessageIdReusedError, KeyScope.IDEMPOTENCY: IdempotencyKeyReusedError}


class PostgresStore:
    """The record of every payment."""

    def __init__(self, database: Database, *, told: Callable[[Change], None] = lambda _: None) -> None:
        """`told` hears of each change once it is committed here."""
        self._database = database
        self._told = told

    async def begin(self, draft: Draft, *, keys: Sequence[RequestKey], request_id: str) -> Begun:
        """See the port. The partial unique index decides between concurrent creates, on whatever replica."""
        async with self._database.crowd():
            return await self._begin(draft, keys, request_id)

    async def existing(self, draft: Draft, *, keys: Sequence[RequestKey]) -> Begun | None:
        """See the port."""
        async with self._database.crowd():
            return await self._existing(draft, keys)

    async def record(self, change: Change, *, context: CommandContext) -> Payment:
        """See the port. Status, journal line and outbox row are one statement."""
        payment = change.payment
        parameters = {
            **{name: getattr(payment, name) for name in statements.CHANGING},
            "status": payment.status.value,
            "payment_id": payment.id,
            "expected_version": payment.version - 1,
            "journal_version": payment.version,
            "journal_kind": change.kind.value,
            "journal_status": payment.status.value,
            "journal_detail": change.detail,
            "journal_request_id": context.request_id,
            "journal_at": payment.updated_at,
            **outbox.parameters(change, context=context),
        }
        if not await self._database.run(statements.RECORD, parameters):
            raise ConcurrentChangeError(payment=payment)
        self._told(change)
        return payment

    async def payment(self, payment_id: int) -> Payment | None:
        """See the port."""
        return await self._one(statements.BY_ID, payment_id=payment_id)

    async def payment_of_session(self, session_id: str) -> Payment | None:
        """See the port."""
        return await self._one(statements.BY_SESSION, session_id=session_id)

    async def payments_of_booking(self, booking_id: int) -> Sequence[Payment]:
        """Every payment of a booking, oldest first; for operators."""
        rows = await self._database.run(statements.ALL_OF_BOOKING, {"booking_id": booking_id})
        return [_payment(row) for row in rows]

    async def claim_ask(self, payment_id: int, *, at: datetime, fresh_seconds: float) -> bool:
        """See the port. The row's lock decides between replicas."""
        parameters = {"payment_id": payment_id, "at": at, "fresh_since": at - timedelta(seconds=fresh_seconds)}
        return bool(await self._database.run(statements.CLAIM_ASK, parameters))

    async def note_ask_failed(self, payment_id: int, *, at: datetime) -> None:
        """See the port."""
        await self._database.run(statements.NOTE_ASK_FAILED, {"payment_id": payment_id, "at": at})

    async def claim_unsettled(
        self, *, at: datetime, unopened_before: datetime, unpaid_before: datetime, limit: int
    ) -> Sequence[Payment]:
        """See the port."""
        moments = {"at": at, "unopened_before": unopened_before, "unpaid_before": unpaid_before}
        rows = await self._database.run(statements.CLAIM_UNSETTLED, {**moments, "batch": limit})
        return sorted((_payment(row) for row in rows), key=lambda payment: payment.created_at)

    async def journal(self, payment_id: int) -> Sequence[JournalEntry]:
        """See the port."""
        rows = await self._database.run(statements.JOURNAL, {"payment_id": payment_id})
        names = [member.name for member in fields(JournalEntry)]
        return [JournalEntry(**{name: getattr(row, name) for name in names}) for row in rows]

    async def oldest_pending_at(self) -> datetime | None:
        """See the port."""
        rows = await self._database.run(statements.OLDEST_PENDING, {})
        return rows[0].created_at if rows else None

    async def pending_of_sessions(self, session_ids: Sequence[str]) -> Sequence[Payment]:
        """See the port."""
        rows = await self._database.run(statements.PENDING_OF_SESSIONS, {"session_ids": list(session_ids)})
        return [_payment(row) for row in rows]

    async def prune_keys(self, *, before: datetime, limit: int) -> int:
        """See the port."""
        return len(await self._database.run(statements.PRUNE_KEYS, {"before": before, "batch": limit}))

    async def _begin(self, draft: Draft, keys: Sequence[RequestKey], request_id: str) -> Begun:
        for _ in range(_MAX_RACES):
            if payment := await self._insert(draft, keys, request_id):
                self._told(Change(payment=payment, kind=ChangeKind.CREATED))
                return Begun(payment=payment, relation=Relation.CREATED)
            if existing := await self._existing(draft, keys):
                return existing
            # What was in the way is gone: it ended, or its transaction was rolled back.
        raise CreateInProgressError

    async def _existing(self, draft: Draft, keys: Sequence[RequestKey]) -> Begun | None:
        for _ in range(_MAX_RACES):
            if payment := await self._payment_of_keys(keys):
                await self._remember(keys, payment.id, draft.created_at)
                return Begun(payment=payment, relation=Relation.REPEATED)
            live = await self._one(statements.LIVE_OF_BOOKING, booking_id=draft.booking_id)
            if live is None:
                return None
            if live.content != draft.content or live.seems_over(draft.created_at):
                return Begun(payment=live, relation=Relation.OTHER)
            await self._remember(keys, live.id, draft.created_at)
            bound = await self._payment_of_keys(keys)  # perhaps another transaction was faster with one of them
            if bound is not None and bound.id == live.id:
                return Begun(payment=live, relation=Relation.SAME)
        raise CreateInProgressError

    async def _insert(self, draft: Draft, keys: Sequence[RequestKey], request_id: str) -> Payment | None:
        """The draft as a payment; None if a key or the booking has one already."""
        parameters = {
            **{name: getattr(draft, name, None) for name in _PLAIN if name != "settle_attempts"},
            "amount_minor": draft.money.minor,
            "currency": draft.money.currency,
            "gateway_request": draft.gateway_request,
            "status": PaymentStatus.PENDING.value,
            "version": 0,
            "updated_at": draft.created_at,
            "journal_kind": ChangeKind.CREATED.value,
            "journal_detail": {},
            "journal_request_id": request_id,
            **_arrays(keys),
        }
        hit(FailPoint.ROW_NOT_COMMITTED)
        try:
            rows = await self._database.run(statements.BEGIN, parameters)
        except asyncpg.UniqueViolationError as error:
            if _KEY_TAKEN in str(error):  # by another transaction, in this moment
                return None
            raise
        return _inserted(draft, payment_id=rows[0].id) if rows else None

    async def _payment_of_keys(self, keys: Sequence[RequestKey]) -> Payment | None:
        """The payment that one of the keys belongs to; an error if the key came with other content."""
        rows = await self._database.run(statements.PAYMENTS_OF_KEYS, _arrays(keys))
        for row in rows:
            if row.fingerprint != keys[0].fingerprint:
                raise _REUSED[KeyScope(row.scope)]
        return _payment(rows[0]) if rows else None

    async def _remember(self, keys: Sequence[RequestKey], payment_id: int, at: datetime) -> None:
        """Bind the keys that are not bound yet to the payment."""
        await self._database.run(statements.REMEMBER, {**_arrays(keys), "payment_id": payment_id, "created_at": at})

    async def _one(self, statement: Any, **parameters: Any) -> Payment | None:
        rows = await self._database.run(statement, parameters)
        return _payment(rows[0]) if rows else None


def _arrays(keys: Sequence[RequestKey]) -> dict[str, list[str]]:
    return {
        "key_scope": [key.scope.value for key in keys],
        "key_caller": [key.caller for key in keys],
        "key_key": [key.key for key in keys],
        "key_fingerprint": [key.fingerprint for key in keys],
    }


def _inserted(draft: Draft, *, payment_id: int) -> Payment:
    """What the database holds now, without having it sent back."""
    frozen = {member.name: getattr(draft, member.name) for member in fields(Draft)}
    return Payment(**frozen, id=payment_id, status=PaymentStatus.PENDING, version=0, updated_at=draft.created_at)


def _payment(row: Row) -> Payment:
    return Payment(
        id=row.id,
        money=Money(row.amount_minor, row.currency),
        status=PaymentStatus(row.status),
        gateway_request=row.gateway_request,
        **{name: getattr(row, name) for name in _PLAIN},
    )
