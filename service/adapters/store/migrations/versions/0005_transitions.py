"""The database itself holds every change to the rules: frozen columns, one version at a time, final is final."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    # A row's trigger costs each change a little; this one costs nothing, as no statement of ours names these columns.
    op.execute("""
        CREATE FUNCTION payments_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'what a payment was made of is frozen' USING ERRCODE = 'integrity_constraint_violation';
        END $$""")
    op.execute("""
        CREATE TRIGGER payments_frozen BEFORE UPDATE OF id, reference, booking_id, user_id, amount_minor, currency,
            success_url, cancel_url, livemode, gateway_request, created_at ON payments
        FOR EACH STATEMENT EXECUTE FUNCTION payments_frozen()""")
    op.execute("""
        CREATE OR REPLACE FUNCTION payments_keep_final() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            broken text;
        BEGIN
            IF OLD.status <> 'PENDING' AND NEW.status <> OLD.status THEN
                broken := 'stays so';
            ELSIF OLD.status <> 'PENDING' AND (NEW.reason, NEW.payment_url, NEW.expires_at)
                    IS DISTINCT FROM (OLD.reason, OLD.payment_url, OLD.expires_at) THEN
                broken := 'keeps its reason and its page';
            ELSIF OLD.session_id IS NOT NULL AND NEW.session_id IS DISTINCT FROM OLD.session_id THEN
                broken := 'keeps its session';
            ELSIF NEW.version NOT IN (OLD.version, OLD.version + 1) THEN
                broken := 'changes one version at a time';
            ELSIF NEW.version = OLD.version AND
                    (NEW.status, NEW.reason, NEW.attention, NEW.session_id, NEW.payment_url, NEW.expires_at)
                    IS DISTINCT FROM
                    (OLD.status, OLD.reason, OLD.attention, OLD.session_id, OLD.payment_url, OLD.expires_at) THEN
                broken := 'changes with its version only';
            ELSE
                RETURN NEW;
            END IF;
            RAISE EXCEPTION 'payment % is % and %', OLD.id, OLD.status, broken
                USING ERRCODE = 'integrity_constraint_violation';
        END $$""")
    # One line for each version: also when the outbox, which has the same rule, has been pruned.
    op.execute("ALTER TABLE journal ADD CONSTRAINT journal_payment_id_version_key UNIQUE (payment_id, version)")
    op.execute("DROP INDEX journal_payment_id_idx")
