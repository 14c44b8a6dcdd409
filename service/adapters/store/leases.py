"""The lines for turns in PostgreSQL, by its clock alone. One statement for each lease."""

from typing import Any, Final
from uuid import uuid4

from sqlalchemy import ARRAY, Float, Integer, String, bindparam, text

from service.adapters.store.database import Database
from service.application.leases import (
    EVERYTHING,
    RECOVERY_SECONDS,
    SLOWED_SECONDS,
    SLOWEST,
    STALE_SECONDS,
    Lease,
    Rates,
)

FORGOTTEN_SECONDS: Final = 60.0
"""After which what it told is deleted."""

_PACE: Final = (
    "least(1, budget.pace"
    f" + coalesce(extract(epoch FROM clock_timestamp() - budget.slowed_at), 0) / {RECOVERY_SECONDS})"
)

# The rows are locked in the order of their names, so that two leases never wait for each other, and the clock is read
# when both are locked: `now()` would be when the statement began to wait. Nothing of it must survive a crash of
# PostgreSQL, so the next in line need not wait for the disk.
_LEASE: Final = text(f"""
    WITH line AS MATERIALIZED (
        SELECT endpoint, next_at, CAST({_PACE} AS double precision) AS pace
        FROM budget WHERE endpoint IN (:endpoint, '{EVERYTHING}') ORDER BY endpoint FOR UPDATE
    ), moment AS MATERIALIZED (
        SELECT clock_timestamp() AS now, max(next_at) AS next_at,
            max(pace) FILTER (WHERE endpoint = :endpoint) AS pace,
            max(pace) FILTER (WHERE endpoint = '{EVERYTHING}') AS all_pace
        FROM line HAVING count(*) = 2
    ), plan AS MATERIALIZED (
        SELECT now, pace, all_pace, :all_seconds / all_pace AS all_step,
            greatest(:seconds / least(pace, all_pace), :all_seconds / all_pace) AS step,
            now + make_interval(secs => :earliest) AS earliest,
            greatest(next_at, now + make_interval(secs => :earliest)) AS first_at,
            CASE WHEN next_at <= now + make_interval(secs => :horizon) THEN :turns ELSE 0 END AS turns
        FROM moment
    ), moved AS (
        UPDATE budget SET next_at = CASE budget.endpoint
            WHEN :endpoint THEN first_at + make_interval(secs => turns * step)
            ELSE greatest(line.next_at, earliest) + make_interval(secs => turns * all_step) END
        FROM plan, line WHERE budget.endpoint = line.endpoint AND turns > 0
    ), told AS (
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
    SELECT turns, CAST(extract(epoch FROM first_at - now) AS double precision) AS first_seconds, step, pace, all_pace,
        (SELECT count(*) FROM budget_demand AS other WHERE other.endpoint = :endpoint AND other.replica <> :replica
            AND other.seen_at > now - make_interval(secs => {STALE_SECONDS})) AS busy,
        set_config('synchronous_commit', 'off', true)
    FROM plan""").bindparams(  # noqa: S608 - numbers and a name of ours
    bindparam("endpoint", type_=String),
    bindparam("replica", type_=String),
    *(bindparam(name, type_=Float) for name in ("seconds", "all_seconds", "earliest", "horizon")),
    *(bindparam(name, type_=Integer) for name in ("turns", "waiting")),
)
_BEGIN: Final = text("""
    INSERT INTO budget (endpoint, next_at) SELECT unnest(:names), '-infinity' ON CONFLICT DO NOTHING
    RETURNING endpoint""").bindparams(bindparam("names", type_=ARRAY(String)))
_SLOW: Final = text(f"""
    INSERT INTO budget (endpoint, next_at, pace, slowed_at) VALUES (:name, '-infinity', 0.5, clock_timestamp())
    ON CONFLICT (endpoint) DO UPDATE SET pace = greatest({SLOWEST}, {_PACE} / 2), slowed_at = clock_timestamp()
    WHERE coalesce(budget.slowed_at < clock_timestamp() - make_interval(secs => {SLOWED_SECONDS}), true)
    RETURNING pace""")  # noqa: S608 - numbers of ours


class PostgresLeases:
    """The lines of all replicas that share the database; they must agree on the rates."""

    def __init__(self, database: Database, *, rates: Rates) -> None:
        """One per process."""
        self._database = database
        self._replica = str(uuid4())
        self._rates: dict[str, Any] = {"seconds": rates.seconds, "all_seconds": rates.everything_seconds}

    async def lease(
        self, endpoint: str, *, turns: int, earliest_seconds: float, horizon_seconds: float, waiting: int | None
    ) -> Lease:
        """See the port."""
        parameters = {
            "endpoint": endpoint,
            "replica": self._replica,
            "turns": turns,
            "earliest": earliest_seconds,
            "horizon": horizon_seconds,
            "waiting": waiting,
            **self._rates,
        }
        while not (rows := await self._database.run(_LEASE, parameters)):
            await self._database.run(_BEGIN, {"names": [endpoint, EVERYTHING]})
        (row,) = rows
        return Lease(
            turns=row.turns,
            first_seconds=row.first_seconds,
            step_seconds=row.step,
            pace=row.pace,
            everything_pace=row.all_pace,
            busy=row.busy,
        )

    async def slow(self, name: str) -> None:
        """See the port."""
        await self._database.run(_SLOW, {"name": name})
