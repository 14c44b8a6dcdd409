"""The event cursor: which replica leads, how far it has read, and the notifications between replicas.

The lease is a row and not an advisory lock: it needs no connection of its own and works behind a pooler, and a leader
that is cut off loses it in seconds, not when the server notices that its session is dead. All times are the database's,
so that the replicas' clocks may differ.
"""

from datetime import datetime
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, Double, bindparam, case, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.sql.base import Executable

from service.adapters.postgres.database import Database
from service.adapters.postgres.tables import feed
from service.application.ports import LeaderLease

WANTED_CHANNEL: Final = "payment_feed_wanted"
"""The NOTIFY channel for requests to the leader to read now."""
READ_CHANNEL: Final = "payment_feed_read"
"""The NOTIFY channel for complete reads; the payload is how many seconds ago the read began."""

_ONLY: Final = 1
_until = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, bindparam("lease_seconds", type_=Double))
_is_leader = (feed.c.id == _ONLY) & (feed.c.leader == bindparam("replica"))


def _claim() -> Executable:
    claim = upsert(feed).values(id=_ONLY, leader=bindparam("replica"), leader_until=_until)
    free = or_(feed.c.leader_until.is_(None), feed.c.leader_until < func.now())
    return claim.on_conflict_do_update(
        index_elements=[feed.c.id],
        set_={"leader": claim.excluded.leader, "leader_until": claim.excluded.leader_until},
        where=or_(feed.c.leader == claim.excluded.leader, free),
    ).returning(feed.c.read_until, feed.c.charges_read_until, func.now().label("now"))


def _farther(column: Column[Any]) -> ColumnElement[Any]:
    """The given moment or the stored one, whichever is later, but none beyond now.

    Null, which `greatest` passes over, stands for a stored mark beyond now, and for a read that saw no event.
    """
    given = bindparam("mark", type_=column.type)
    return func.greatest(
        case((column <= func.now(), column)), case((given.is_not(None), func.least(given, func.now())))
    )


def _advance() -> Executable:
    """Progress, lease and notification are one statement: nobody is notified of what is not stored."""
    advanced = (
        update(feed)
        .where(_is_leader)
        .values(read_until=_farther(feed.c.read_until), leader_until=_until)
        .returning(feed.c.id)
        .cte("advanced")
    )
    return select(func.pg_notify(READ_CHANNEL, bindparam("began")), advanced.c.id)


_CLAIM: Final = _claim()
_ADVANCE: Final = _advance()
_ADVANCE_CHARGES: Final = (
    update(feed).where(_is_leader).values(charges_read_until=_farther(feed.c.charges_read_until)).returning(feed.c.id)
)
_RELEASE: Final = update(feed).where(_is_leader).values(leader=None, leader_until=None).returning(feed.c.id)
_WANT: Final = select(func.pg_notify(WANTED_CHANNEL, ""))


class PostgresEventCursor:
    """See the port `EventCursor`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, replica: str, *, lease_seconds: float) -> LeaderLease | None:
        rows = await self._run(_CLAIM, replica=replica, lease_seconds=lease_seconds)
        return LeaderLease(**rows[0]) if rows else None

    async def advance_charges(self, replica: str, *, read_until: datetime) -> None:
        await self._run(_ADVANCE_CHARGES, replica=replica, mark=read_until)

    async def advance(
        self, replica: str, *, read_until: datetime | None, began_seconds_ago: float, lease_seconds: float
    ) -> bool:
        began = f"{began_seconds_ago:.3f}"
        given = {"replica": replica, "mark": read_until, "began": began, "lease_seconds": lease_seconds}
        return bool(await self._run(_ADVANCE, **given))

    async def release(self, replica: str) -> None:
        await self._run(_RELEASE, replica=replica)

    async def want(self) -> None:
        await self._run(_WANT)

    async def _run(self, statement: Executable, **parameters: Any) -> Any:
        return await self._database.run(statement, parameters)
