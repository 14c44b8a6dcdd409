"""The outbox: events written in the transaction that changes state, read by the relay."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import and_, exists, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from contracts import body, envelope
from service.adapters.store.database import Database
from service.adapters.store.tables import outbox
from service.application import translation
from service.application.ports import CommandContext, OutboxRow
from service.domain.status import Change

CHANNEL: Final = "payment_outbox"
"""The NOTIFY channel that wakes the relays."""


async def write(connection: AsyncConnection, change: Change, *, context: CommandContext) -> None:
    """Add the change's event to the caller's transaction; the relays are woken when it commits."""
    key, event = translation.event(change)
    headers = {envelope.REQUEST_ID: context.request_id}
    if context.trace_parent is not None:
        headers[envelope.TRACE_PARENT] = context.trace_parent
    row = {
        "event_id": event.id,
        "payment_id": change.payment.id,
        "sequence": change.payment.version,
        "routing_key": key.value,
        "headers": headers,
        "body": body.write(event),
        "created_at": change.payment.updated_at,
    }
    await connection.execute(insert(outbox).values(row))
    await connection.execute(select(func.pg_notify(CHANNEL, "")))


class PostgresOutbox:
    """What the relay needs. Several relays may share it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, *, limit: int, at: datetime, lease_seconds: float) -> Sequence[OutboxRow]:
        """The next unsent event of up to `limit` payments, ours until the lease ends.

        Only a payment's oldest unsent event may leave, so its events keep their order whoever publishes them. Rows are
        claimed by their state and not by a cursor: transactions do not commit in the order of their ids.
        """
        earlier = outbox.alias()
        is_first = ~exists().where(
            earlier.c.payment_id == outbox.c.payment_id,
            earlier.c.sequence < outbox.c.sequence,
            earlier.c.sent_at.is_(None),
        )
        free = or_(outbox.c.claimed_until.is_(None), outbox.c.claimed_until < at)
        chosen = (
            select(outbox.c.id)
            .where(and_(outbox.c.sent_at.is_(None), free, is_first))
            .order_by(outbox.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
            .cte("chosen")
        )
        claim = (
            update(outbox)
            .where(outbox.c.id == chosen.c.id)
            .values(claimed_until=at + timedelta(seconds=lease_seconds), attempts=outbox.c.attempts + 1)
            .returning(outbox)
        )
        rows = await self._database.fetch_all(claim)
        return [
            OutboxRow(
                id=row.id,
                event_id=row.event_id,
                payment_id=row.payment_id,
                sequence=row.sequence,
                routing_key=row.routing_key,
                headers=row.headers,
                body=row.body,
                created_at=row.created_at,
                attempts=row.attempts,
            )
            for row in sorted(rows, key=lambda row: row.id)
        ]

    async def mark_sent(self, ids: Sequence[int], *, at: datetime) -> None:
        """The broker has confirmed these."""
        async with self._database.transaction() as connection:
            await connection.execute(update(outbox).where(outbox.c.id.in_(ids)).values(sent_at=at))

    async def put_off(self, row_id: int, *, until: datetime) -> None:
        """Publishing failed: leave the row alone until then, so that others flow."""
        async with self._database.transaction() as connection:
            await connection.execute(update(outbox).where(outbox.c.id == row_id).values(claimed_until=until))
