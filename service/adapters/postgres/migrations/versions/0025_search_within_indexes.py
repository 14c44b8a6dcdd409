"""Searches by amount or reason together with a currency read the index alone; the usual currency is a setting's.

The currency is the last column: an index has one entry for a payment as before, in the same order, and what is of
another currency is passed over in it, without a look at the payment.
"""

from alembic import context, op

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    currency = context.config.attributes["currency"]
    indexes = {
        "payments_amount_idx": "(amount_minor, created_at, id, currency)",
        "payments_reason_idx": "(reason, created_at, id, currency) WHERE reason IS NOT NULL",
    }
    if currency != "inr":
        indexes["payments_currency_idx"] = f"(currency, created_at, id) WHERE currency <> '{currency}'"
    with op.get_context().autocommit_block():
        for name, columns in indexes.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}_new")  # of an attempt that was broken off
            op.execute(f"CREATE INDEX CONCURRENTLY {name}_new ON payments {columns}")
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"ALTER INDEX {name}_new RENAME TO {name}")
