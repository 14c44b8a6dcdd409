"""What operators look payments up by, newest first."""

from alembic import op

revision = "0017"
down_revision = "0016"

_INDEXES = {
    "payments_created_idx": "payments (created_at, id)",
    "payments_user_idx": "payments (user_id, created_at, id)",
    "payments_amount_idx": "payments (amount_minor, created_at, id)",
    "payments_reason_idx": "payments (reason, created_at, id) WHERE reason IS NOT NULL",
    "payments_attention_idx": "payments (created_at, id) WHERE attention IS NOT NULL",
    "journal_request_id_idx": "journal (request_id)",
    # The journal only grows, in the order of its times: a few pages tell where an hour begins.
    "journal_at_idx": "journal USING brin (at) WITH (pages_per_range = 16, autosummarize = on)",
}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name, columns in _INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")  # of an attempt that was broken off
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {columns}")
