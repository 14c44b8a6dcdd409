"""The feed's record: which replica leads, how far it has read, and the words between the replicas.

A lease in a row instead of an advisory lock: it needs no connection of its own, works behind a pooler, and a leader
that the network swallowed loses it in seconds; a lock stays until the server notices that its session is dead. All
times are the database's, so that the replicas' clocks may differ.
"""

from datetime import datetime
from typing import Any, Final

from sqlalchemy import Double, bindparam, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.sql.base import Executable

from service.adapters.store.database import Database
from service.adapters.store.tables import feed
from service.application.ports import Lead

WANTED_CHANNEL: Final = "payment_feed_wanted"
"""The NOTIFY channel by which a replica asks the leader to read now."""
READ_CHANNEL: Final = "payment_feed_read"
"""The one by which the leader tells that a reading is complete; the payload is how many seconds ago it began."""

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
    ).returning(feed.c.read_until)


def _advance() -> Executable:
    """Progress, renewed lease and the word to the others are one: nobody hears of what is not kept."""
    read_until = bindparam("read_until", type_=feed.c.read_until.type)
    advanced = (
        update(feed)
        .where(_is_leader)
        .values(read_until=func.greatest(feed.c.read_until, read_until), leader_until=_until)
        .returning(feed.c.id)
        .cte("advanced")
    )
    return select(func.pg_notify(READ_CHANNEL, bindparam("began")), advanced.c.id)


_CLAIM: Final = _claim()
_ADVANCE: Final = _advance()
_RELEASE: Final = update(feed).where(_is_leader).values(leader=None, leader_until=None).returning(feed.c.id)
_WANT: Final = select(func.pg_notify(WANTED_CHANNEL, ""))


class PostgresFeedRecord:
    """See the port `FeedRecord`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, replica: str, *, lease_seconds: float) -> Lead | None:
        """See the port."""
        rows = await self._run(_CLAIM, replica=replica, lease_seconds=lease_seconds)
        return Lead(read_until=rows[0].read_until) if rows else None

    async def advance(
        self, replica: str, *, read_until: datetime | None, began_seconds_ago: float, lease_seconds: float
    ) -> bool:
        """See the port."""
        began = f"{began_seconds_ago:.3f}"
        given = {"replica": replica, "read_until": read_until, "began": began, "lease_seconds": lease_seconds}
        return bool(await self._run(_ADVANCE, **given))

    async def release(self, replica: str) -> None:
        """See the port."""
        await self._run(_RELEASE, replica=replica)

    async def want(self) -> None:
        """See the port."""
        await self._run(_WANT)

    async def _run(self, statement: Executable, **parameters: Any) -> Any:
        return await self._database.run(statement, parameters)
