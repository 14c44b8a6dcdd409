"""Reservations: the places in the queue of creates that were told to come back, for all replicas."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import BigInteger, bindparam, case, cast, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.sql.base import Executable

from service.adapters.postgres.database import Database, Row
from service.adapters.postgres.statements import PRUNE_RESERVATIONS
from service.adapters.postgres.tables import reservations

_TIME: Final = reservations.c.kept_until.type
_BOOKING: Final = reservations.c.booking_id == bindparam("booking")


def _keep() -> Executable:
    row = upsert(reservations)
    given = row.excluded
    has_expired = reservations.c.kept_until < given.arrived_at
    earlier = func.least(reservations.c.arrived_at, given.arrived_at)
    arrived = case((has_expired, given.arrived_at), else_=earlier)
    return row.on_conflict_do_update(
        index_elements=[reservations.c.booking_id],
        set_={"arrived_at": arrived, "due_until": given.due_until, "kept_until": given.kept_until},
    ).returning(reservations.c.booking_id)


def _due() -> Executable:
    second = cast(func.floor(func.extract("epoch", reservations.c.arrived_at)), BigInteger).label("second")
    due = reservations.c.due_until > bindparam("at", type_=_TIME)
    return select(second, func.count().label("number")).where(due).group_by(second)


_KEEP: Final = _keep()
_TAKE: Final = (
    update(reservations)
    .where(_BOOKING, reservations.c.kept_until >= bindparam("at", type_=_TIME))
    .values(
        due_until=bindparam("at", type_=_TIME),
        kept_until=func.greatest(reservations.c.kept_until, bindparam("until", type_=_TIME)),
    )
    .returning(reservations.c.arrived_at)
)
_DROP: Final = delete(reservations).where(_BOOKING).returning(reservations.c.booking_id)
_DUE: Final = _due()


class PostgresReservations:
    """See the port `Reservations`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, booking_id: int, *, arrived_at: datetime, due_until: datetime, kept_until: datetime) -> None:
        await self._run(_KEEP, booking_id=booking_id, arrived_at=arrived_at, due_until=due_until, kept_until=kept_until)

    async def take(self, booking_id: int, *, at: datetime, kept_until: datetime) -> datetime | None:
        rows = await self._run(_TAKE, booking=booking_id, at=at, until=kept_until)
        return rows[0].arrived_at if rows else None

    async def drop(self, booking_id: int) -> None:
        await self._run(_DROP, booking=booking_id)

    async def due(self, *, at: datetime) -> Mapping[int, int]:
        rows = await self._run(_DUE, at=at)
        return {row.second: row.number for row in rows}

    async def prune_reservations(self, *, before: datetime, limit: int) -> int:
        return len(await self._database.run(PRUNE_RESERVATIONS, {"before": before, "batch": limit}))

    async def _run(self, statement: Executable, **parameters: Any) -> Sequence[Row]:
        async with self._database.crowd():
            return await self._database.run(statement, parameters)
