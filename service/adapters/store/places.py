"""Kept places: where creates that were told to come back stand in line, on whichever replica they come back."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import BigInteger, bindparam, case, cast, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.sql.base import Executable

from service.adapters.store.database import Database, Row
from service.adapters.store.statements import PRUNE_PLACES
from service.adapters.store.tables import places

_TIME: Final = places.c.kept_until.type
_BOOKING: Final = places.c.booking_id == bindparam("booking")


def _keep() -> Executable:
    row = upsert(places).values(
        {name: bindparam(name, type_=places.c[name].type) for name in places.columns.keys()}  # noqa: SIM118 - not a dict
    )
    given = row.excluded
    earlier = func.least(places.c.arrived_at, given.arrived_at)
    arrived = case((places.c.kept_until >= given.arrived_at, earlier), else_=given.arrived_at)  # or it was forgotten
    return row.on_conflict_do_update(
        index_elements=[places.c.booking_id],
        set_={"arrived_at": arrived, "due_until": given.due_until, "kept_until": given.kept_until},
    ).returning(places.c.booking_id)


def _due() -> Executable:
    second = cast(func.floor(func.extract("epoch", places.c.arrived_at)), BigInteger).label("second")
    due = places.c.due_until > bindparam("at", type_=_TIME)
    return select(second, func.count().label("number")).where(due).group_by(second)


_KEEP: Final = _keep()
_TAKE: Final = (
    update(places)
    .where(_BOOKING, places.c.kept_until >= bindparam("at", type_=_TIME))
    .values(
        due_until=bindparam("at", type_=_TIME),
        kept_until=func.greatest(places.c.kept_until, bindparam("until", type_=_TIME)),
    )
    .returning(places.c.arrived_at)
)
_DROP: Final = delete(places).where(_BOOKING).returning(places.c.booking_id)
_DUE: Final = _due()


class PostgresPlaces:
    """The table `places`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, booking_id: int, *, arrived_at: datetime, due_until: datetime, kept_until: datetime) -> None:
        """See the port."""
        parameters = {"booking_id": booking_id, "arrived_at": arrived_at}
        await self._run(_KEEP, {**parameters, "due_until": due_until, "kept_until": kept_until})

    async def take(self, booking_id: int, *, at: datetime, kept_until: datetime) -> datetime | None:
        """See the port."""
        rows = await self._run(_TAKE, {"booking": booking_id, "at": at, "until": kept_until})
        return rows[0].arrived_at if rows else None

    async def drop(self, booking_id: int) -> None:
        """See the port."""
        await self._run(_DROP, {"booking": booking_id})

    async def due(self, *, at: datetime) -> Mapping[int, int]:
        """See the port."""
        rows = await self._run(_DUE, {"at": at})
        return {row.second: row.number for row in rows}

    async def prune_places(self, *, before: datetime, limit: int) -> int:
        """See the port."""
        return len(await self._database.run(PRUNE_PLACES, {"before": before, "batch": limit}))

    async def _run(self, statement: Executable, parameters: Mapping[str, Any]) -> Sequence[Row]:
        async with self._database.crowd():
            return await self._database.run(statement, parameters)
