"""The outbox as operators read it: which events there are, and when each was published."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ARRAY, BigInteger, Integer, any_, bindparam, select

from contracts import envelope
from service.adapters.postgres.database import Database
from service.adapters.postgres.tables import outbox


@dataclass(frozen=True, kw_only=True)
class OutboxEvent:
    """An event. `sent_at`: when it was published; None: not yet. `id` is the row's, `event_id` subscribers'."""

    id: int
    event_id: str
    payment_id: int
    sequence: int
    routing_key: str
    request_id: str | None
    attempts: int
    created_at: datetime
    sent_at: datetime | None


_PLAIN: Final = [member.name for member in fields(OutboxEvent) if member.name != "request_id"]


class PostgresOutboxReader:
    """Reads only; published events are there until they are pruned. It may raise StoreUnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def newest(
        self,
        *,
        payment_ids: Sequence[int] | None = None,
        after_id: int | None = None,
        only_unsent: bool = False,
        limit: int,
    ) -> Sequence[OutboxEvent]:
        """The newest events that match, the oldest of them first."""
        statement, parameters = select(outbox), dict[str, Any](batch=limit)
        if payment_ids is not None:
            statement = statement.where(outbox.c.payment_id == any_(bindparam("payment_ids", type_=ARRAY(BigInteger))))
            parameters["payment_ids"] = list(payment_ids)
        if after_id is not None:
            statement = statement.where(outbox.c.id > bindparam("after_id", type_=BigInteger))
            parameters["after_id"] = after_id
        if only_unsent:
            statement = statement.where(outbox.c.sent_at.is_(None))
        statement = statement.order_by(outbox.c.id.desc()).limit(bindparam("batch", type_=Integer))
        rows = await self._database.run(statement, parameters)
        return [
            OutboxEvent(
                request_id=row.headers.get(envelope.REQUEST_ID), **{name: getattr(row, name) for name in _PLAIN}
            )
            for row in reversed(rows)
        ]
