"""The outbox: events are written in the statement that changes the payment, and published by the relay."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ARRAY, BigInteger, Integer, any_, bindparam, exists, func, or_, select, update
from sqlalchemy.sql.base import Executable

from contracts import body, envelope
from service.adapters.postgres.database import Database
from service.adapters.postgres.statements import PRUNE_SENT
from service.adapters.postgres.tables import outbox
from service.application import translation
from service.application.ports import Backlog, CommandContext, OutboxRow
from service.domain.status import Change

_MAX_ATTEMPTS: Final = 2**15 - 1
"""The column's maximum: an event that can never be published must not make every claim fail."""


def parameters(change: Change, *, context: CommandContext) -> dict[str, Any]:
    """The outbox row of a change, as parameters of `batch_statements.RECORD`."""
    key, event = translation.event(change)
    headers = {envelope.REQUEST_ID: context.request_id}
    if context.trace_parent is not None:
        headers[envelope.TRACE_PARENT] = context.trace_parent
    return {
        "outbox_event_id": event.id,
        "outbox_routing_key": key.value,
        "outbox_headers": headers,
        "outbox_body": body.write(event),
    }


def _claim() -> Executable:
    earlier = outbox.alias("earlier")
    is_first = ~exists().where(
        earlier.c.payment_id == outbox.c.payment_id,
        earlier.c.sequence < outbox.c.sequence,
        earlier.c.sent_at.is_(None),
    )
    at = bindparam("at", type_=outbox.c.claimed_until.type)
    free = or_(outbox.c.claimed_until.is_(None), outbox.c.claimed_until < at)
    chosen = (
        select(outbox.c.id)
        .where(outbox.c.sent_at.is_(None), free, is_first)
        .order_by(outbox.c.id)
        .limit(bindparam("batch", type_=Integer))
        .with_for_update(skip_locked=True)
        .cte("chosen")
    )
    return (
        update(outbox)
        .where(outbox.c.id == chosen.c.id)
        .values(
            claimed_until=bindparam("lease_end", type_=outbox.c.claimed_until.type),
            attempts=func.least(outbox.c.attempts, _MAX_ATTEMPTS - 1) + 1,
        )
        .returning(outbox)
    )


MAX_COUNTED: Final = 10_000
"""Unsent events are counted up to this: the longer the backlog, the less a metric may cost."""


def _backlog() -> Executable:
    """Uses the partial index of unsent events only, however many are sent."""
    unsent = outbox.c.sent_at.is_(None)
    some = select(outbox.c.id).where(unsent).limit(MAX_COUNTED).subquery()
    oldest = select(outbox.c.created_at).where(unsent).order_by(outbox.c.id).limit(1).scalar_subquery()
    return select(func.count().label("unsent"), oldest.label("oldest_at")).select_from(some)


_BACKLOG: Final = _backlog()
_CLAIM: Final = _claim()
_MARK_SENT: Final = (
    update(outbox)
    .where(outbox.c.id == any_(bindparam("ids", type_=ARRAY(BigInteger))))
    .values(sent_at=bindparam("at", type_=outbox.c.sent_at.type))
    .returning(outbox.c.id)
)
_PUT_OFF: Final = (
    update(outbox)
    .where(outbox.c.id == bindparam("row_id"))
    .values(claimed_until=bindparam("until", type_=outbox.c.claimed_until.type))
    .returning(outbox.c.id)
)
_RELEASE: Final = (
    update(outbox)
    .where(outbox.c.id == any_(bindparam("ids", type_=ARRAY(BigInteger))), outbox.c.sent_at.is_(None))
    .values(claimed_until=None, attempts=func.greatest(outbox.c.attempts - 1, 0))
    .returning(outbox.c.id)
)
_COLUMNS: Final = [member.name for member in fields(OutboxRow)]


class PostgresOutbox:
    """See the port `Outbox`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, *, limit: int, at: datetime, lease_seconds: float) -> Sequence[OutboxRow]:
        """Claim unsent events.

        Only a payment's oldest unsent event can be claimed, so that its events stay in order whoever publishes them.
        Rows are claimed by their state and not by a cursor, as transactions do not commit in the order of their ids.
        """
        lease_end = at + timedelta(seconds=lease_seconds)
        rows = await self._database.run(_CLAIM, {"at": at, "lease_end": lease_end, "batch": limit})
        claimed = [OutboxRow(**{name: row[name] for name in _COLUMNS}) for row in rows]
        return sorted(claimed, key=lambda row: row.id)

    async def backlog(self) -> Backlog:
        (row,) = await self._database.run(_BACKLOG, {})
        return Backlog(unsent=row.unsent, oldest_at=row.oldest_at)

    async def mark_sent(self, ids: Sequence[int], *, at: datetime) -> None:
        await self._database.run(_MARK_SENT, {"ids": ids, "at": at})

    async def put_off(self, row_id: int, *, until: datetime) -> None:
        await self._database.run(_PUT_OFF, {"row_id": row_id, "until": until})

    async def prune_sent(self, *, before: datetime, limit: int) -> int:
        """Rows that another replica is deleting are skipped."""
        return len(await self._database.run(PRUNE_SENT, {"before": before, "batch": limit}))

    async def release(self, ids: Sequence[int]) -> None:
        await self._database.run(_RELEASE, {"ids": ids})
