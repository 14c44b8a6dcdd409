"""The store port on PostgreSQL. Each method is one transaction, committed here and nowhere else."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import and_, insert, or_, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from service.adapters.store import outbox
from service.adapters.store.database import Database
from service.adapters.store.tables import journal, payments, request_keys
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

_LIVE: Final = text("status IN ('PENDING', 'COMPLETED')")
"""As in the partial unique index, to the letter: PostgreSQL finds the index by it."""
_MAX_RACES: Final = 5
_PLAIN: Final = [
    member.name for member in fields(Payment) if member.name not in {"id", "money", "status", "gateway_request"}
]
_CHANGING: Final = ("status", "reason", "attention", "session_id", "payment_url", "expires_at", "version", "updated_at")


class PostgresStore:
    """The record of every payment."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, draft: Draft, *, keys: Sequence[RequestKey], request_id: str) -> Begun:
        """See the port. The partial unique index decides between concurrent creates, on whatever replica."""
        for _ in range(_MAX_RACES):
            try:
                async with self._database.transaction() as connection:
                    return await _begin(connection, draft, keys, request_id)
            except _LostRaceError:
                continue
        raise CreateInProgressError

    async def record(self, change: Change, *, context: CommandContext) -> Payment:
        """See the port. Status, journal line and outbox row are one transaction."""
        payment = change.payment
        previous = payment.version - 1
        changed = {name: getattr(payment, name) for name in _CHANGING} | {"status": payment.status.value}
        async with self._database.transaction() as connection:
            same = and_(payments.c.id == payment.id, payments.c.version == previous)
            result = await connection.execute(update(payments).where(same).values(**changed))
            if result.rowcount != 1:
                raise ConcurrentChangeError(payment=payment)
            await _write_journal(connection, payment, change.kind, change.detail, context.request_id)
            await outbox.write(connection, change, context=context)
        return payment

    async def payment(self, payment_id: int) -> Payment | None:
        """See the port."""
        async with self._database.transaction() as connection:
            return await _one(connection, payments.c.id == payment_id)

    async def payment_of_session(self, session_id: str) -> Payment | None:
        """See the port."""
        async with self._database.transaction() as connection:
            return await _one(connection, payments.c.session_id == session_id)

    async def payments_of_booking(self, booking_id: int) -> Sequence[Payment]:
        """Every payment of a booking, oldest first; for operators."""
        query = select(payments).where(payments.c.booking_id == booking_id).order_by(payments.c.id)
        return [_payment(row) for row in await self._database.fetch_all(query)]

    async def claim_ask(self, payment_id: int, *, at: datetime, fresh_seconds: float) -> bool:
        """See the port. The row's lock decides between replicas."""
        stale = or_(payments.c.asked_at.is_(None), payments.c.asked_at <= at - timedelta(seconds=fresh_seconds))
        async with self._database.transaction() as connection:
            claim = update(payments).where(payments.c.id == payment_id, stale).values(asked_at=at)
            return (await connection.execute(claim)).rowcount == 1

    async def note_ask_failed(self, payment_id: int, *, at: datetime) -> None:
        """See the port."""
        async with self._database.transaction() as connection:
            mine = and_(payments.c.id == payment_id, payments.c.asked_at == at)
            await connection.execute(update(payments).where(mine).values(ask_failed_at=at))

    async def journal(self, payment_id: int) -> Sequence[JournalEntry]:
        """See the port."""
        query = select(journal).where(journal.c.payment_id == payment_id).order_by(journal.c.id)
        return [
            JournalEntry(
                at=row.at,
                version=row.version,
                kind=row.kind,
                status=row.status,
                detail=row.detail,
                request_id=row.request_id,
            )
            for row in await self._database.fetch_all(query)
        ]


class _LostRaceError(Exception):
    """Another transaction came in between two statements of this one: roll back and look again."""


async def _begin(connection: AsyncConnection, draft: Draft, keys: Sequence[RequestKey], request_id: str) -> Begun:
    if payment := await _payment_of_keys(connection, keys):
        await _remember(connection, keys, payment.id, draft.created_at)
        return Begun(payment=payment, relation=Relation.REPEATED)
    if payment := await _insert(connection, draft):
        if not await _remember(connection, keys, payment.id, draft.created_at):
            raise _LostRaceError  # for a key
        await _write_journal(connection, payment, ChangeKind.CREATED, {}, request_id)
        return Begun(payment=payment, relation=Relation.CREATED)
    live = await _one(connection, and_(payments.c.booking_id == draft.booking_id, _LIVE))
    if live is None:
        raise _LostRaceError  # for the booking: the payment in the way has ended
    if live.content != draft.content:
        return Begun(payment=live, relation=Relation.OTHER)
    await _remember(connection, keys, live.id, draft.created_at)
    return Begun(payment=live, relation=Relation.SAME)


async def _insert(connection: AsyncConnection, draft: Draft) -> Payment | None:
    """The draft as a payment; None if the booking has a live one already."""
    members = {name: getattr(draft, name) for name in _PLAIN if hasattr(draft, name)}
    statement = (
        upsert(payments)
        .values(
            **members,
            amount_minor=draft.money.minor,
            currency=draft.money.currency,
            gateway_request=dict(draft.gateway_request),
            status=PaymentStatus.PENDING.value,
            version=0,
            updated_at=draft.created_at,
        )
        .on_conflict_do_nothing(index_elements=[payments.c.booking_id], index_where=_LIVE)
        .returning(payments)
    )
    row = (await connection.execute(statement)).one_or_none()
    return None if row is None else _payment(row)


async def _payment_of_keys(connection: AsyncConnection, keys: Sequence[RequestKey]) -> Payment | None:
    """The payment that one of the keys belongs to; an error if the key came with other content."""
    columns = (request_keys.c.scope, request_keys.c.caller, request_keys.c.key)
    wanted = {(key.scope.value, key.caller, key.key): key for key in keys}
    query = (
        select(payments, request_keys.c.scope, request_keys.c.fingerprint)
        .join(request_keys, request_keys.c.payment_id == payments.c.id)
        .where(tuple_(*columns).in_(wanted))
    )
    rows = (await connection.execute(query)).all()
    for row in rows:
        if row.fingerprint != keys[0].fingerprint:
            raise _REUSED[KeyScope(row.scope)](payment=None)
    return _payment(rows[0]) if rows else None


_REUSED: Final = {KeyScope.MESSAGE: MessageIdReusedError, KeyScope.IDEMPOTENCY: IdempotencyKeyReusedError}


async def _remember(connection: AsyncConnection, keys: Sequence[RequestKey], payment_id: int, at: datetime) -> bool:
    """Bind the keys to the payment; False if one of them was bound by another transaction."""
    rows = [
        {
            "scope": key.scope.value,
            "caller": key.caller,
            "key": key.key,
            "fingerprint": key.fingerprint,
            "payment_id": payment_id,
            "created_at": at,
        }
        for key in keys
    ]
    statement = upsert(request_keys).values(rows).on_conflict_do_nothing()
    return (await connection.execute(statement)).rowcount == len(rows)


async def _write_journal(
    connection: AsyncConnection, payment: Payment, kind: ChangeKind, detail: dict[str, str], request_id: str
) -> None:
    entry = {
        "payment_id": payment.id,
        "version": payment.version,
        "kind": kind.value,
        "status": payment.status.value,
        "detail": detail,
        "request_id": request_id,
        "at": payment.updated_at,
    }
    await connection.execute(insert(journal).values(entry))


async def _one(connection: AsyncConnection, condition: Any) -> Payment | None:
    row = (await connection.execute(select(payments).where(condition))).one_or_none()
    return None if row is None else _payment(row)


def _payment(row: Row[Any]) -> Payment:
    return Payment(
        id=row.id,
        money=Money(row.amount_minor, row.currency),
        status=PaymentStatus(row.status),
        gateway_request=row.gateway_request,
        **{name: getattr(row, name) for name in _PLAIN},
    )
