"""What the replicas share of Stripe's rate limits: when an endpoint's next turn is, and who stands in line for it."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE budget (
            endpoint varchar(30) PRIMARY KEY,
            next_at timestamptz NOT NULL,
            pace real NOT NULL DEFAULT 1,
            slowed_at timestamptz,
            CONSTRAINT budget_pace_check CHECK (pace > 0 AND pace <= 1)
        )""")
    op.execute("""
        CREATE TABLE budget_demand (
            endpoint varchar(30),
            replica varchar(36),
            waiting integer NOT NULL,
            seen_at timestamptz NOT NULL,
            PRIMARY KEY (endpoint, replica)
        )""")
