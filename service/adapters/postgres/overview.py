"""How things stand now, of all replicas: what a person looks at first. Each figure is cheap, however much there is."""

from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa

from service.adapters.postgres.database import Database
from service.application.ports.overview import Minute, Overview, RateFactor

MAX_COUNTED: Final = 10_000
MINUTES: Final = 60

# A BRIN index tells where the hour begins.
_MINUTES: Final = sa.text("""
    SELECT date_trunc('minute', at) AS at, kind, count(*) AS number
    FROM journal WHERE at >= date_trunc('minute', now()) - interval '59 minutes'
    GROUP BY 1, 2""")
_NOW: Final = sa.text(f"""
    SELECT now() AS at,
        (SELECT count(*) FROM (SELECT 1 FROM payments WHERE status = 'PENDING'
            LIMIT {MAX_COUNTED}) AS counted) AS pending,
        (SELECT count(*) FROM (SELECT 1 FROM payments WHERE attention IS NOT NULL AND closed_at IS NULL
            LIMIT {MAX_COUNTED}) AS counted) AS attention,
        (SELECT count(*) FROM (SELECT 1 FROM outbox WHERE sent_at IS NULL LIMIT {MAX_COUNTED}) AS counted) AS unsent,
        (SELECT created_at FROM outbox WHERE sent_at IS NULL ORDER BY id LIMIT 1) AS unsent_since,
        (SELECT read_until FROM feed) AS read_until,
        (SELECT leader_until > now() FROM feed) AS is_led,
        (SELECT coalesce(sum(waiting), 0) FROM budget_demand WHERE seen_at > now() - interval '10 seconds') AS waiting,
        (SELECT percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM sent_at - created_at))
            FROM (SELECT sent_at, created_at FROM outbox WHERE sent_at > now() - interval '10 minutes'
                ORDER BY sent_at DESC LIMIT {MAX_COUNTED}) AS sent) AS published""")  # noqa: S608 - constants
# An endpoint that nobody has called yet is free since '-infinity', which is not to be subtracted from.
_FACTORS: Final = sa.text("""
    SELECT endpoint, pace, slowed_at,
        CASE WHEN next_at > now() THEN extract(epoch FROM next_at - now())::float8 ELSE 0 END AS free_in
    FROM budget ORDER BY endpoint""")


class PostgresOverview:
    """See `Overview`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self) -> Overview:
        """May raise StoreUnavailableError."""
        (now,) = await self._database.run(_NOW, {})
        published = now.published or (None, None)
        return Overview(
            at=now.at,
            pending=now.pending,
            attention=now.attention,
            unsent=now.unsent,
            unsent_since=now.unsent_since,
            feed_read_until=now.read_until,
            feed_is_led=bool(now.is_led),
            permits_waiting=now.waiting,
            published_median_seconds=published[0],
            published_slowest_seconds=published[1],
            rate_factors=[
                RateFactor(
                    endpoint=row.endpoint, factor=row.pace, lowered_at=row.slowed_at, free_in_seconds=row.free_in
                )
                for row in await self._database.run(_FACTORS, {})
            ],
        )

    async def minutes(self) -> Sequence[Minute]:
        """How often each kind of change happened, in the minutes of the last hour in which any did."""
        rows = await self._database.run(_MINUTES, {})
        return [Minute(at=row.at, kind=row.kind, number=row.number) for row in rows]
