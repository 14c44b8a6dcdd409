"""A refund that fails at the gateway lowers what was refunded: its money is back with the merchant."""

from alembic import op

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    op.execute("""
        CREATE OR REPLACE FUNCTION payments_keep_refunds() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.version = OLD.version OR NEW.refunded_minor < 0 THEN
                RAISE EXCEPTION 'payment % keeps its refunds, and changes with its version only', OLD.id
                    USING ERRCODE = 'integrity_constraint_violation';
            END IF;
            RETURN NEW;
        END $$
    """)
