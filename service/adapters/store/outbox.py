"""The outbox: events written in the transaction that changes state, read by the relay."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ARRAY, BigInteger, Integer, any_, bindparam, exists, func, or_, select, update
from sqlalchemy.sql.base import Executable

from contracts import body, envelope
from service.adapters.store.database import Database
from service.adapters.store.statements import PRUNE_SENT
from service.adapters.store.tables import outbox
from service.application import translation
from service.application.ports import Backlog, CommandContext, OutboxRow
from service.domain.status import Change

_MAX_ATTEMPTS: Final = 2**15 - 1
"""Where counting ends: one event that can never leave must not stop the claims of all others."""


def parameters(change: Change, *, context: CommandContext) -> dict[str, Any]:
    """The outbox row of a change, as parameters of `statements.RECORD`: it is written with the change or not at all."""
    key, event = translation.event(change)
    headers = {envelope.REQUEST_ID: context.request_id}
    if context.trace_parent is not None:
        headers[envelope.TRACE_PARENT] = context.trace_parent
    return {
        "outbox_event_id": event.id,
        "outbox_sequence": change.payment.version,
        "outbox_routing_key": key.value,
        "outbox_headers": headers,
        "outbox_body": body.write(event),
        "outbox_created_at": change.payment.updated_at,
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
"""Unsent events, beyond which none is counted: a figure must not cost the more, the worse things are."""


def _backlog() -> Executable:
    """Both by the partial index of what is unsent: sent events, however many, are not looked at."""
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


class PostgresOutbox:
    """What the relay needs. Several relays may share it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, *, limit: int, at: datetime, lease_seconds: float) -> Sequence[OutboxRow]:
        """The next unsent event of up to `limit` payments, ours until the lease ends.

        Only a payment's oldest unsent event may leave, so its events keep their order whoever publishes them. Rows are
        claimed by their state and not by a cursor: transactions do not commit in the order of their ids.
        """
        lease_end = at + timedelta(seconds=lease_seconds)
        rows = await self._database.run(_CLAIM, {"at": at, "lease_end": lease_end, "batch": limit})
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

    async def backlog(self) -> Backlog:
        """See the port."""
        (row,) = await self._database.run(_BACKLOG, {})
        return Backlog(unsent=row.unsent, oldest_at=row.oldest_at)

    async def mark_sent(self, ids: Sequence[int], *, at: datetime) -> None:
        """The broker has confirmed these."""
        await self._database.run(_MARK_SENT, {"ids": ids, "at": at})

    async def put_off(self, row_id: int, *, until: datetime) -> None:
        """Publishing failed: leave the row alone until then, so that others flow."""
        await self._database.run(_PUT_OFF, {"row_id": row_id, "until": until})

    async def prune_sent(self, *, before: datetime, limit: int) -> int:
        """See the port. Rows that another replica is deleting in this moment are skipped."""
        return len(await self._database.run(PRUNE_SENT, {"before": before, "batch": limit}))

    async def release(self, ids: Sequence[int]) -> None:
        """Publishing was not possible, which is no fault of these: anybody may claim them at once, as if untried."""
        await self._database.run(_RELEASE, {"ids": ids})
