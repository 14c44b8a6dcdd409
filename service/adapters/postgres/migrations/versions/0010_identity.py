"""What a create is known by, whatever the settings become: what was sent and when, and until when its payer may pay."""

from alembic import op

revision = "0010"
down_revision = "0009"

_SCRIPT = """
ALTER TABLE payments ADD COLUMN pay_until timestamptz, ADD COLUMN sent varchar(64), ADD COLUMN sent_at timestamptz;
CREATE TRIGGER payments_identity_frozen BEFORE UPDATE OF pay_until, sent, sent_at ON payments
    FOR EACH STATEMENT EXECUTE FUNCTION payments_frozen();
"""


def upgrade() -> None:
    op.get_bind().connection.run_async(lambda driver: driver.execute(_SCRIPT))
