"""The places in line that are kept for creates which were told to come back."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE places (
            booking_id bigint PRIMARY KEY,
            arrived_at timestamptz NOT NULL,
            due_until timestamptz NOT NULL,
            kept_until timestamptz NOT NULL
        )""")
    op.execute("CREATE INDEX places_due_until_idx ON places (due_until)")
    op.execute("CREATE INDEX places_kept_until_idx ON places (kept_until)")
