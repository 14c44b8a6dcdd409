"""The terms of a payment without a session may be renewed, and a payment begins as PENDING, without anything more."""

from alembic import op

revision = "0013"
down_revision = "0012"

_SCRIPT = """
-- The terms have a trigger of their own, which no statement wakes but the one that renews them.
DROP TRIGGER payments_frozen ON payments;
CREATE TRIGGER payments_frozen BEFORE UPDATE OF id, booking_id, user_id, amount_minor, currency, success_url,
    cancel_url, livemode ON payments
    FOR EACH STATEMENT EXECUTE FUNCTION payments_frozen();

DROP TRIGGER payments_identity_frozen ON payments;
CREATE TRIGGER payments_identity_frozen BEFORE UPDATE OF sent, sent_at ON payments
    FOR EACH STATEMENT EXECUTE FUNCTION payments_frozen();

CREATE FUNCTION payments_keep_terms() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status = 'PENDING' AND OLD.session_id IS NULL AND NEW.reference <> OLD.reference
            AND (NEW.status, NEW.session_id, NEW.payment_url, NEW.version, NEW.reason, NEW.attention)
            IS NOT DISTINCT FROM (OLD.status, OLD.session_id, OLD.payment_url, OLD.version, OLD.reason, OLD.attention)
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'what payment % was made of is frozen', OLD.id USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER payments_keep_terms BEFORE UPDATE OF reference, gateway_request, created_at, pay_until ON payments
    FOR EACH ROW EXECUTE FUNCTION payments_keep_terms();

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
            (NEW.status, NEW.reason, NEW.attention, NEW.session_id, NEW.payment_url)
            IS DISTINCT FROM
            (OLD.status, OLD.reason, OLD.attention, OLD.session_id, OLD.payment_url) THEN
        broken := 'changes with its version only';
    ELSIF NEW.version = OLD.version AND NEW.expires_at <> OLD.expires_at AND NEW.reference = OLD.reference THEN
        broken := 'changes with its version only';
    ELSE
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'payment % is % and %', OLD.id, OLD.status, broken
        USING ERRCODE = 'integrity_constraint_violation';
END $$;

-- Renewed terms are a line of the journal and no version, as nobody has seen those that they replace.
ALTER TABLE journal ADD COLUMN renewal smallint NOT NULL DEFAULT 0;
ALTER TABLE journal DROP CONSTRAINT journal_payment_id_version_key;
ALTER TABLE journal ADD CONSTRAINT journal_payment_id_version_renewal_key UNIQUE (payment_id, version, renewal);

CREATE FUNCTION payments_begin() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a payment begins as PENDING, in version 0 and without a session'
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER payments_begin BEFORE INSERT ON payments
    FOR EACH ROW WHEN (NEW.status <> 'PENDING' OR NEW.version <> 0 OR NEW.settle_attempts <> 0
        OR COALESCE(NEW.session_id, NEW.payment_url, NEW.reason, NEW.attention) IS NOT NULL)
    EXECUTE FUNCTION payments_begin();
"""


def upgrade() -> None:
    # SQLAlchemy would have asyncpg prepare it, which takes one statement at a time.
    op.get_bind().connection.run_async(lambda driver: driver.execute(_SCRIPT))
