"""How each replica sees Stripe do, which the console shows: some rows, which may be emptied at any time."""

from alembic import op

revision = "0021"
down_revision = "0020"

_SCRIPT = """
CREATE TABLE gateway_health (
    endpoint varchar(30) NOT NULL,
    replica varchar(36) NOT NULL,
    circuit smallint NOT NULL,
    sent integer NOT NULL,
    calls integer NOT NULL,
    failed integer NOT NULL,
    per_second real NOT NULL,
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (endpoint, replica)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
"""


def upgrade() -> None:
    op.execute(_SCRIPT)
