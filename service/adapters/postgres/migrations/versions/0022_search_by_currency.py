"""Operators look for payments in a rare currency; those in the usual one need no index, and writing them costs none."""

from alembic import op

revision = "0022"
down_revision = "0021"

_NAME = "payments_currency_idx"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {_NAME}")  # of an attempt that was broken off
        op.execute(f"CREATE INDEX CONCURRENTLY {_NAME} ON payments (currency, created_at, id) WHERE currency <> 'inr'")
