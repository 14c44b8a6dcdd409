"""Every key of a request is kept for a time, and what changes often is cleaned up often."""

from alembic import op

revision = "0016"
down_revision = "0015"

_SCRIPT = """
-- A day is far longer than a message is under way; how long keys are kept beyond that is the service's rule.
DROP TRIGGER request_keys_keep_messages ON request_keys;
CREATE TRIGGER request_keys_keep_messages BEFORE DELETE ON request_keys
    FOR EACH ROW WHEN (OLD.scope = 'message' AND OLD.created_at > now() - interval '1 day')
    EXECUTE FUNCTION keep_what_is_owed();

-- By default a fifth of a table may be dead rows: of one that grows for good that is far too many, and of one with
-- a few rows that change all the time it is never reached soon.
ALTER TABLE payments SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_insert_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.01);
ALTER TABLE journal SET (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.01);
ALTER TABLE request_keys SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_analyze_scale_factor = 0.01);
ALTER TABLE outbox SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
    autovacuum_analyze_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE places SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0);
ALTER TABLE budget SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, fillfactor = 20);
ALTER TABLE budget_demand SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, fillfactor = 50);
ALTER TABLE feed SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, fillfactor = 20);
"""


def upgrade() -> None:
    # The table may be large: creates go on meanwhile. An index that an interruption left behind is of no use.
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS request_keys_created_at_idx")
        op.execute("CREATE INDEX CONCURRENTLY request_keys_created_at_idx ON request_keys (created_at)")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS request_keys_idempotency_idx")
    # SQLAlchemy would have asyncpg prepare it, which takes one statement at a time.
    op.get_bind().connection.run_async(lambda driver: driver.execute(_SCRIPT))
