"""What operators ask for in the console, which the service does: the console itself may change no payment."""

from alembic import op

revision = "0018"
down_revision = "0017"

_SCRIPT = """
CREATE TABLE operator_acts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind varchar(20) NOT NULL,
    payment_id bigint NOT NULL CONSTRAINT operator_acts_payment_id_fkey REFERENCES payments (id),
    actor varchar(128) NOT NULL,
    why varchar(200) NOT NULL,
    asked_at timestamptz NOT NULL DEFAULT now(),
    claimed_until timestamptz,
    done_at timestamptz,
    is_done boolean,
    answer text,
    CONSTRAINT operator_acts_kind_check CHECK (kind IN ('close', 'verify', 'resend')),
    CONSTRAINT operator_acts_words_check CHECK (actor <> '' AND why <> '')
);
CREATE INDEX operator_acts_open_idx ON operator_acts (id) WHERE done_at IS NULL;
CREATE INDEX operator_acts_payment_id_idx ON operator_acts (payment_id);

CREATE FUNCTION operator_acts_keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'what an operator asked for is kept, and is answered once'
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER operator_acts_keep_rows BEFORE DELETE OR TRUNCATE ON operator_acts
    FOR EACH STATEMENT EXECUTE FUNCTION operator_acts_keep();
CREATE TRIGGER operator_acts_keep_words BEFORE UPDATE ON operator_acts FOR EACH ROW
    WHEN (OLD.done_at IS NOT NULL
        OR (NEW.kind, NEW.payment_id, NEW.actor, NEW.why, NEW.asked_at)
        IS DISTINCT FROM (OLD.kind, OLD.payment_id, OLD.actor, OLD.why, OLD.asked_at))
    EXECUTE FUNCTION operator_acts_keep();
"""


def upgrade() -> None:
    # SQLAlchemy would have asyncpg prepare it, which takes one statement at a time.
    op.get_bind().connection.run_async(lambda driver: driver.execute(_SCRIPT))
