"""Which replica reads Stripe's events, and how far they have been read."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE feed (
            id smallint PRIMARY KEY,
            leader varchar(36),
            leader_until timestamptz,
            read_until timestamptz,
            CONSTRAINT feed_one_check CHECK (id = 1)
        )""")
