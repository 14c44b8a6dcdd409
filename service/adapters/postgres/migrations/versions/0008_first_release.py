"""The tables of release 1.0.0. The revisions before this one were never released, and are gone."""

from alembic import op

revision = "0008"
down_revision = None

_SCRIPT = """
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
    settle_attempts integer NOT NULL DEFAULT 0,
    settle_after timestamptz,
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
CREATE INDEX payments_pending_idx ON payments (created_at) WHERE status = 'PENDING';

CREATE TABLE request_keys (
    scope varchar(11) NOT NULL,
    caller varchar(255) NOT NULL,
    key varchar(255) NOT NULL,
    fingerprint varchar(64) NOT NULL,
    payment_id bigint NOT NULL CONSTRAINT request_keys_payment_id_fkey REFERENCES payments (id),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (scope, caller, key)
);
CREATE INDEX request_keys_idempotency_idx ON request_keys (created_at) WHERE scope = 'idempotency';

CREATE TABLE journal (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    payment_id bigint NOT NULL CONSTRAINT journal_payment_id_fkey REFERENCES payments (id),
    version integer NOT NULL,
    kind varchar(20) NOT NULL,
    status varchar(9) NOT NULL,
    detail json NOT NULL,
    request_id varchar(128) NOT NULL,
    at timestamptz NOT NULL,
    -- One line per version, even when the outbox, which has the same constraint, has been pruned.
    CONSTRAINT journal_payment_id_version_key UNIQUE (payment_id, version)
);

-- What operators did to dead letters. As lines of the journal without a payment they would make three columns nullable,
-- and give up the rule that every line has its payment's version and status.
CREATE TABLE operator_journal (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind varchar(30) NOT NULL,
    actor varchar(128) NOT NULL,
    queue varchar(255) NOT NULL,
    message_id text,
    reason text NOT NULL,
    body_sha256 varchar(64) NOT NULL,
    at timestamptz NOT NULL
);
CREATE INDEX operator_journal_message_id_idx ON operator_journal (message_id);

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
CREATE INDEX outbox_sent_idx ON outbox (sent_at) WHERE sent_at IS NOT NULL;

-- What the replicas share of Stripe's rate limits: when an endpoint's next permit is, and who waits for one.
CREATE TABLE budget (
    endpoint varchar(30) PRIMARY KEY,
    next_at timestamptz NOT NULL,
    pace real NOT NULL DEFAULT 1,
    slowed_at timestamptz,
    CONSTRAINT budget_pace_check CHECK (pace > 0 AND pace <= 1)
);
CREATE TABLE budget_demand (
    endpoint varchar(30),
    replica varchar(36),
    waiting integer NOT NULL,
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (endpoint, replica)
);

-- Which replica reads Stripe's events, and how far it has read.
CREATE TABLE feed (
    id smallint PRIMARY KEY,
    leader varchar(36),
    leader_until timestamptz,
    read_until timestamptz,
    CONSTRAINT feed_one_check CHECK (id = 1)
);

-- The reservations of creates that were told to come back.
CREATE TABLE places (
    booking_id bigint PRIMARY KEY,
    arrived_at timestamptz NOT NULL,
    due_until timestamptz NOT NULL,
    kept_until timestamptz NOT NULL
);
CREATE INDEX places_due_until_idx ON places (due_until);
CREATE INDEX places_kept_until_idx ON places (kept_until);

-- The record is reliable only if the database itself refuses to rewrite it. A statement trigger on columns that no
-- statement of ours names costs nothing, unlike a row trigger.
CREATE FUNCTION payments_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'what a payment was made of is frozen' USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER payments_frozen BEFORE UPDATE OF id, reference, booking_id, user_id, amount_minor, currency,
    success_url, cancel_url, livemode, gateway_request, created_at ON payments
    FOR EACH STATEMENT EXECUTE FUNCTION payments_frozen();

CREATE FUNCTION payments_keep_final() RETURNS trigger LANGUAGE plpgsql AS $$
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
END $$;
CREATE TRIGGER payments_keep_final BEFORE UPDATE ON payments FOR EACH ROW EXECUTE FUNCTION payments_keep_final();

CREATE FUNCTION journal_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the journal is append-only' USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER journal_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON journal
    FOR EACH STATEMENT EXECUTE FUNCTION journal_append_only();
CREATE TRIGGER operator_journal_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON operator_journal
    FOR EACH STATEMENT EXECUTE FUNCTION journal_append_only();

-- A message that is delivered again years later must find its payment, and no unsent event may be lost.
CREATE FUNCTION keep_what_is_owed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% keeps message ids and unsent events', TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER request_keys_keep_messages BEFORE DELETE ON request_keys
    FOR EACH ROW WHEN (OLD.scope = 'message') EXECUTE FUNCTION keep_what_is_owed();
CREATE TRIGGER outbox_keep_unsent BEFORE DELETE ON outbox
    FOR EACH ROW WHEN (OLD.sent_at IS NULL) EXECUTE FUNCTION keep_what_is_owed();
"""


def upgrade() -> None:
    # SQLAlchemy would have asyncpg prepare it, which takes one statement at a time.
    op.get_bind().connection.run_async(lambda driver: driver.execute(_SCRIPT))
