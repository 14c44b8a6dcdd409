"""Which of Stripe's accounts, in which mode, the database belongs to."""

from alembic import op

revision = "0015"
down_revision = "0014"

_SCRIPT = """
CREATE TABLE account_pin (
    id smallint PRIMARY KEY,
    livemode boolean NOT NULL,
    account varchar(255),
    pinned_at timestamptz NOT NULL,
    CONSTRAINT account_pin_one_check CHECK (id = 1)
);
-- A database in use has its mode already; the account is learnt at the next start.
INSERT INTO account_pin (id, livemode, pinned_at) SELECT 1, livemode, now() FROM payments ORDER BY id DESC LIMIT 1;
"""


def upgrade() -> None:
    # SQLAlchemy would have asyncpg prepare it, which takes one statement at a time.
    op.get_bind().connection.run_async(lambda driver: driver.execute(_SCRIPT))
