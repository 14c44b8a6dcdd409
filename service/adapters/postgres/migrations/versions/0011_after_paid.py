"""What becomes of a payment after it was paid, and how far that was read."""

from alembic import op

revision = "0011"
down_revision = "0010"

_SCRIPT = """
ALTER TABLE payments ADD COLUMN refunded_minor bigint NOT NULL DEFAULT 0, ADD COLUMN dispute varchar(40);
ALTER TABLE feed ADD COLUMN charges_read_until timestamptz;

-- The condition makes it cost nothing where neither column changes.
CREATE FUNCTION payments_keep_refunds() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.version = OLD.version OR NEW.refunded_minor < OLD.refunded_minor THEN
        RAISE EXCEPTION 'payment % keeps its refunds, and changes with its version only', OLD.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER payments_keep_refunds BEFORE UPDATE ON payments FOR EACH ROW
    WHEN ((OLD.refunded_minor, OLD.dispute) IS DISTINCT FROM (NEW.refunded_minor, NEW.dispute))
    EXECUTE FUNCTION payments_keep_refunds();
"""


def upgrade() -> None:
    # SQLAlchemy would have asyncpg prepare it, which takes one statement at a time.
    op.get_bind().connection.run_async(lambda driver: driver.execute(_SCRIPT))
