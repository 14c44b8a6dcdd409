"""A new payment is more than begun also by what came later than the trigger: what became of it after it was paid."""

from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    op.execute("""
        CREATE OR REPLACE TRIGGER payments_begin BEFORE INSERT ON payments
        FOR EACH ROW WHEN (NEW.status <> 'PENDING' OR NEW.version <> 0 OR NEW.settle_attempts <> 0
            OR NEW.refunded_minor <> 0 OR NEW.closed_at IS NOT NULL
            OR COALESCE(NEW.session_id, NEW.payment_url, NEW.reason, NEW.attention, NEW.last_outcome, NEW.dispute)
            IS NOT NULL)
        EXECUTE FUNCTION payments_begin()
    """)
