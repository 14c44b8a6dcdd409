"""Quota in PostgreSQL, by its clock alone. One statement takes permits and tells how many replicas wait.

The table `budget` holds the quotas, its column `pace` the rate factor.
"""

from collections.abc import Sequence
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import ARRAY, Float, Integer, String, bindparam, text
from sqlalchemy.sql.base import Executable

from service.adapters.postgres.database import Database, Row
from service.domain.errors import StoreUnavailableError
from service.ratelimit.quota import (
    GLOBAL,
    LOWEST_FACTOR,
    RECOVERY_SECONDS,
    STALE_SECONDS,
    THROTTLE_SECONDS,
    Quota,
    QuotaUnavailableError,
    Rates,
)

FORGOTTEN_SECONDS: Final = 60.0
"""After this the demand of a replica is deleted."""

FACTOR: Final = (
    "least(1, budget.pace"
    f" + coalesce(extract(epoch FROM clock_timestamp() - budget.slowed_at), 0) / {RECOVERY_SECONDS})"
)
"""The rate factor now: what is stored is how it was when it was lowered."""

# The rows are locked in the order of their names, so that two statements never wait for each other. The clock is read
# when both are locked: `now()` would be when the statement began to wait. Nothing of it needs to survive a crash of
# PostgreSQL, so nobody waits for the disk.
_TAKE: Final = text(f"""
    WITH state AS MATERIALIZED (
        SELECT endpoint, next_at, CAST({FACTOR} AS double precision) AS pace
        FROM budget WHERE endpoint IN (:endpoint, '{GLOBAL}') ORDER BY endpoint FOR UPDATE
    ), moment AS MATERIALIZED (
        SELECT clock_timestamp() AS now, max(next_at) AS next_at,
            max(pace) FILTER (WHERE endpoint = :endpoint) AS pace,
            max(pace) FILTER (WHERE endpoint = '{GLOBAL}') AS all_pace
        FROM state HAVING count(*) = 2
    ), plan AS MATERIALIZED (
        SELECT now, pace, all_pace, :all_seconds / all_pace AS all_step,
            greatest(:seconds / least(pace, all_pace), :all_seconds / all_pace) AS step,
            now + make_interval(secs => :earliest) AS earliest,
            greatest(next_at, now + make_interval(secs => :earliest)) AS first_at,
            CASE WHEN next_at <= now + make_interval(secs => :horizon) THEN :permits ELSE 0 END AS permits
        FROM moment
    ), moved AS (
        UPDATE budget SET next_at = CASE budget.endpoint
            WHEN :endpoint THEN first_at + make_interval(secs => permits * step)
            ELSE greatest(state.next_at, earliest) + make_interval(secs => permits * all_step) END
        FROM plan, state WHERE budget.endpoint = state.endpoint AND permits > 0
    ), reported AS (
        INSERT INTO budget_demand (endpoint, replica, waiting, seen_at)
        SELECT :endpoint, :replica, :waiting, now FROM plan WHERE :waiting IS NOT NULL
        ON CONFLICT (endpoint, replica) DO UPDATE SET waiting = excluded.waiting, seen_at = excluded.seen_at
    ), forgotten AS (
        DELETE FROM budget_demand WHERE (endpoint, replica) IN (
            SELECT endpoint, replica FROM budget_demand
            WHERE :waiting IS NOT NULL AND seen_at < now() - make_interval(secs => {FORGOTTEN_SECONDS})
                AND replica <> :replica
            FOR UPDATE SKIP LOCKED
        )
    )
    SELECT permits, CAST(extract(epoch FROM first_at - now) AS double precision) AS first_seconds, step, pace, all_pace,
        (SELECT count(*) FROM budget_demand AS other WHERE other.endpoint = :endpoint AND other.replica <> :replica
            AND other.seen_at > now - make_interval(secs => {STALE_SECONDS})) AS busy,
        set_config('synchronous_commit', 'off', true)
    FROM plan""").bindparams(  # noqa: S608 - numbers and a name of ours
    bindparam("endpoint", type_=String),
    bindparam("replica", type_=String),
    *(bindparam(name, type_=Float) for name in ("seconds", "all_seconds", "earliest", "horizon")),
    *(bindparam(name, type_=Integer) for name in ("permits", "waiting")),
)
_BEGIN: Final = text("""
    INSERT INTO budget (endpoint, next_at) SELECT unnest(:names), '-infinity' ON CONFLICT DO NOTHING
    RETURNING endpoint""").bindparams(bindparam("names", type_=ARRAY(String)))
_THROTTLE: Final = text(f"""
    INSERT INTO budget (endpoint, next_at, pace, slowed_at) VALUES (:name, '-infinity', 0.5, clock_timestamp())
    ON CONFLICT (endpoint) DO UPDATE SET pace = greatest({LOWEST_FACTOR}, {FACTOR} / 2), slowed_at = clock_timestamp()
    WHERE coalesce(budget.slowed_at < clock_timestamp() - make_interval(secs => {THROTTLE_SECONDS}), true)
    RETURNING pace""")  # noqa: S608 - numbers of ours


class PostgresQuotaStore:
    """The quota of all replicas that share the database; they must agree on the rates."""

    def __init__(self, database: Database, *, rates: Rates) -> None:
        """One per process."""
        self._database = database
        self._replica = str(uuid4())
        self._rates: dict[str, Any] = {"seconds": rates.seconds, "all_seconds": rates.everything_seconds}

    async def take(
        self, endpoint: str, *, permits: int, earliest_seconds: float, horizon_seconds: float, waiting: int | None
    ) -> Quota:
        parameters = {
            "endpoint": endpoint,
            "replica": self._replica,
            "permits": permits,
            "earliest": earliest_seconds,
            "horizon": horizon_seconds,
            "waiting": waiting,
            **self._rates,
        }
        while not (rows := await self._run(_TAKE, parameters)):
            await self._run(_BEGIN, {"names": [endpoint, GLOBAL]})
        (row,) = rows
        return Quota(
            permits=row.permits,
            first_seconds=row.first_seconds,
            step_seconds=row.step,
            factor=row.pace,
            global_factor=row.all_pace,
            busy=row.busy,
        )

    async def throttle(self, name: str) -> None:
        await self._run(_THROTTLE, {"name": name})

    async def _run(self, statement: Executable, parameters: dict[str, Any]) -> Sequence[Row]:
        try:
            return await self._database.run(statement, parameters)
        except StoreUnavailableError as error:
            raise QuotaUnavailableError from error
