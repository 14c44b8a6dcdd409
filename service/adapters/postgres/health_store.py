"""The gateway's health: a row for each replica and endpoint, deleted a minute after the replica's last report."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import ARRAY, REAL, Integer, SmallInteger, String, bindparam, text

from service.adapters.postgres.database import Database
from service.application.ports.gateway_health import EndpointHealth

FORGOTTEN_SECONDS: Final = 60

# As with quota, nothing of it needs to survive a crash of PostgreSQL.
_TELL: Final = text(f"""
    WITH forgotten AS (
        DELETE FROM gateway_health WHERE (endpoint, replica) IN (
            SELECT endpoint, replica FROM gateway_health
            WHERE seen_at < now() - make_interval(secs => {FORGOTTEN_SECONDS}) AND replica <> :replica
            FOR UPDATE SKIP LOCKED
        )
    ), told AS (
        INSERT INTO gateway_health (endpoint, replica, circuit, sent, calls, failed, per_second, seen_at)
        SELECT given.*, :per_second, now() FROM (SELECT unnest(:endpoints), :replica, unnest(:circuits), unnest(:sent),
            unnest(:calls), unnest(:failed)) AS given
        ON CONFLICT (endpoint, replica) DO UPDATE SET circuit = excluded.circuit, sent = excluded.sent,
            calls = excluded.calls, failed = excluded.failed, per_second = excluded.per_second,
            seen_at = excluded.seen_at
    )
    SELECT set_config('synchronous_commit', 'off', true)""").bindparams(  # noqa: S608 - a number of ours
    bindparam("replica", type_=String),
    bindparam("per_second", type_=REAL),
    bindparam("endpoints", type_=ARRAY(String)),
    bindparam("circuits", type_=ARRAY(SmallInteger)),
    *(bindparam(name, type_=ARRAY(Integer)) for name in ("sent", "calls", "failed")),
)


class PostgresGatewayHealth:
    """See the port `GatewayHealth`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def tell(self, replica: str, health: Sequence[EndpointHealth], *, per_second: float) -> None:
        parameters = {
            "replica": replica,
            "per_second": per_second,
            "endpoints": [each.endpoint for each in health],
            "circuits": [each.circuit for each in health],
            "sent": [each.sent for each in health],
            "calls": [each.calls for each in health],
            "failed": [each.failed for each in health],
        }
        await self._database.run(_TELL, parameters)
