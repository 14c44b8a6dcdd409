"""How things stand now, of all replicas: what a person looks at first. Each figure is cheap, however much there is."""

from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa

from service.adapters.postgres.database import Database
from service.adapters.postgres.quota_store import FACTOR
from service.application.ports.overview import EndpointNow, Minute, Overview

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
                ORDER BY sent_at DESC LIMIT {MAX_COUNTED}) AS sent) AS published,
        (SELECT percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY greatest(0, extract(epoch FROM at - paid_at)))
            FROM (SELECT at, (detail ->> 'gateway_event_at')::timestamptz AS paid_at FROM journal
                WHERE at > now() - interval '10 minutes' AND kind = 'completed'
                LIMIT {MAX_COUNTED}) AS paid WHERE paid_at IS NOT NULL) AS known""")  # noqa: S608 - constants
# An endpoint that nobody has called yet is free since '-infinity', which is not to be subtracted from.
_ENDPOINTS: Final = sa.text(f"""
    SELECT endpoint, coalesce(factor, 1) AS factor, slowed_at, coalesce(replicas, 0) AS replicas,
        CASE WHEN next_at > now() THEN extract(epoch FROM next_at - now())::float8 ELSE 0 END AS free_in,
        coalesce(open, 0) AS open, coalesce(calls, 0) AS calls, coalesce(failed, 0) AS failed,
        CASE WHEN per_second > 0 THEN greatest(0, 1 - sent / (per_second * coalesce(factor, 1) * 60)) END AS unused
    FROM (SELECT endpoint, slowed_at, next_at, CAST({FACTOR} AS double precision) AS factor FROM budget) AS rates
    FULL JOIN (
        SELECT endpoint, count(*) AS replicas, count(*) FILTER (WHERE circuit > 0) AS open, sum(sent) AS sent,
            sum(calls) AS calls, sum(failed) AS failed, min(per_second) AS per_second
        FROM gateway_health WHERE seen_at > now() - interval '20 seconds' GROUP BY endpoint
    ) AS told USING (endpoint) ORDER BY endpoint""")  # noqa: S608 - an expression of ours


class PostgresOverview:
    """See `Overview`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self) -> Overview:
        """May raise StoreUnavailableError."""
        (now,) = await self._database.run(_NOW, {})
        published, known = now.published or (None, None), now.known or (None, None)
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
            known_median_seconds=known[0],
            known_slowest_seconds=known[1],
            endpoints=[
                EndpointNow(
                    endpoint=row.endpoint,
                    factor=row.factor,
                    lowered_at=row.slowed_at,
                    free_in_seconds=row.free_in,
                    replicas=row.replicas,
                    open=row.open,
                    calls=row.calls,
                    failed=row.failed,
                    left=row.unused,
                )
                for row in await self._database.run(_ENDPOINTS, {})
            ],
        )

    async def minutes(self) -> Sequence[Minute]:
        """How often each kind of change happened, in the minutes of the last hour in which any did."""
        rows = await self._database.run(_MINUTES, {})
        return [Minute(at=row.at, kind=row.kind, number=row.number) for row in rows]
