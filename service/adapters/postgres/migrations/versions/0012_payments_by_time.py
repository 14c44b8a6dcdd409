"""Payments with a session by the time of their creation, for the reconciliation."""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.execute("CREATE INDEX payments_opened_idx ON payments (created_at, id) WHERE session_id IS NOT NULL")
