"""A person may ask in the console that a payment is reconciled."""

from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    op.execute("ALTER TABLE operator_acts DROP CONSTRAINT operator_acts_kind_check")
    op.execute(
        "ALTER TABLE operator_acts ADD CONSTRAINT operator_acts_kind_check"
        " CHECK (kind IN ('close', 'verify', 'reconcile', 'resend'))"
    )
