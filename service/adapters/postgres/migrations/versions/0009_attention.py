"""What the gateway last said of a payment, and when an operator dealt with what needed attention."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.execute("ALTER TABLE payments ADD COLUMN last_outcome varchar(40), ADD COLUMN closed_at timestamptz")
