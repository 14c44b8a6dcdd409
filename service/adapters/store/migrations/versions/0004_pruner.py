"""The indexes by which the pruner finds what is old, and what it can never delete."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute("CREATE INDEX request_keys_idempotency_idx ON request_keys (created_at) WHERE scope = 'idempotency'")
    op.execute("CREATE INDEX outbox_sent_idx ON outbox (sent_at) WHERE sent_at IS NOT NULL")
    # A message that is delivered again years later must find its payment, and an event that was not sent is owed.
    op.execute("""
        CREATE FUNCTION keep_what_is_owed() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '% keeps message ids and unsent events', TG_TABLE_NAME
                USING ERRCODE = 'integrity_constraint_violation';
        END $$""")
    op.execute("""
        CREATE TRIGGER request_keys_keep_messages BEFORE DELETE ON request_keys
        FOR EACH ROW WHEN (OLD.scope = 'message') EXECUTE FUNCTION keep_what_is_owed()""")
    op.execute("""
        CREATE TRIGGER outbox_keep_unsent BEFORE DELETE ON outbox
        FOR EACH ROW WHEN (OLD.sent_at IS NULL) EXECUTE FUNCTION keep_what_is_owed()""")
