"""Payments, their journal, the keys that make creates repeatable, and the outbox."""

from alembic import op

revision = "0001"
down_revision = None

_STATEMENTS = """
CREATE TABLE payments (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    reference varchar(36) NOT NULL,
    booking_id bigint NOT NULL,
    user_id bigint NOT NULL,
    amount_minor bigint NOT NULL,
    currency varchar(3) NOT NULL,
    success_url text NOT NULL,
    cancel_url text NOT NULL,
    livemode boolean NOT NULL,
    gateway_request json NOT NULL,
    status varchar(9) NOT NULL,
    reason varchar(40),
    attention varchar(40),
    session_id varchar(255),
    payment_url text,
    version integer NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    asked_at timestamptz,
    ask_failed_at timestamptz,
    CONSTRAINT payments_reference_key UNIQUE (reference),
    CONSTRAINT payments_session_id_key UNIQUE (session_id),
    CONSTRAINT payments_ids_check CHECK (booking_id > 0 AND user_id > 0),
    CONSTRAINT payments_money_check CHECK (amount_minor > 0 AND currency ~ '^[a-z]{3}$'),
    CONSTRAINT payments_status_check CHECK (status IN ('PENDING', 'COMPLETED', 'FAILED')),
    CONSTRAINT payments_completed_check CHECK (status <> 'COMPLETED' OR session_id IS NOT NULL),
    CONSTRAINT payments_reason_check CHECK ((status = 'FAILED') = (reason IS NOT NULL))
);
CREATE UNIQUE INDEX payments_live_booking_idx ON payments (booking_id) WHERE status IN ('PENDING', 'COMPLETED');
CREATE INDEX payments_booking_id_idx ON payments (booking_id);

CREATE TABLE request_keys (
    scope varchar(11) NOT NULL,
    caller varchar(255) NOT NULL,
    key varchar(255) NOT NULL,
    fingerprint varchar(64) NOT NULL,
    payment_id bigint NOT NULL CONSTRAINT request_keys_payment_id_fkey REFERENCES payments (id),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (scope, caller, key)
);

CREATE TABLE journal (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    payment_id bigint NOT NULL CONSTRAINT journal_payment_id_fkey REFERENCES payments (id),
    version integer NOT NULL,
    kind varchar(20) NOT NULL,
    status varchar(9) NOT NULL,
    detail json NOT NULL,
    request_id varchar(128) NOT NULL,
    at timestamptz NOT NULL
);
CREATE INDEX journal_payment_id_idx ON journal (payment_id);

CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id varchar(36) NOT NULL,
    payment_id bigint NOT NULL CONSTRAINT outbox_payment_id_fkey REFERENCES payments (id),
    sequence integer NOT NULL,
    routing_key varchar(40) NOT NULL,
    headers json NOT NULL,
    body bytea NOT NULL,
    attempts smallint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    claimed_until timestamptz,
    sent_at timestamptz,
    CONSTRAINT outbox_event_id_key UNIQUE (event_id),
    CONSTRAINT outbox_payment_id_sequence_key UNIQUE (payment_id, sequence)
);
CREATE INDEX outbox_unsent_idx ON outbox (id) WHERE sent_at IS NULL;
CREATE INDEX outbox_unsent_payment_idx ON outbox (payment_id, sequence) WHERE sent_at IS NULL;

-- The record can be trusted only if the database itself refuses to rewrite it.
CREATE FUNCTION payments_keep_final() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status <> 'PENDING' AND NEW.status <> OLD.status THEN
        RAISE EXCEPTION 'payment % is % and stays so', OLD.id, OLD.status
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER payments_keep_final BEFORE UPDATE ON payments FOR EACH ROW EXECUTE FUNCTION payments_keep_final();

CREATE FUNCTION journal_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the journal is append-only' USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER journal_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON journal
    FOR EACH STATEMENT EXECUTE FUNCTION journal_append_only();
"""


def upgrade() -> None:
    # asyncpg prepares what it sends, one statement at a time; "$$" bodies hold semicolons of their own.
    for statement in _split(_STATEMENTS):
        op.execute(statement)


def _split(script: str) -> list[str]:
    statements, current = [], ""
    for part in script.split(";\n"):
        current += part
        if current.count("$$") % 2:
            current += ";\n"
            continue
        statements.append(current)
        current = ""
    return [statement for statement in statements if statement.strip()]
