"""Payment ids that no copy of the database gives out again: the millisecond, and three digits of a sequence."""

from alembic import op

revision = "0014"
down_revision = "0013"

_SCRIPT = """
ALTER TABLE payments ALTER COLUMN id DROP IDENTITY;
CREATE SEQUENCE payments_id_seq AS smallint MINVALUE 0 MAXVALUE 999 CYCLE OWNED BY payments.id;
ALTER TABLE payments ALTER COLUMN id
    SET DEFAULT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint * 1000 + nextval('payments_id_seq');
"""


def upgrade() -> None:
    # SQLAlchemy would have asyncpg prepare it, which takes one statement at a time.
    op.get_bind().connection.run_async(lambda driver: driver.execute(_SCRIPT))
