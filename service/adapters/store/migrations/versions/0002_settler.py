"""What the settler remembers of its tries, and the index by which it finds pending payments."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("ALTER TABLE payments ADD COLUMN settle_attempts integer NOT NULL DEFAULT 0")
    op.execute("ALTER TABLE payments ADD COLUMN settle_after timestamptz")
    op.execute("CREATE INDEX payments_pending_idx ON payments (created_at) WHERE status = 'PENDING'")
