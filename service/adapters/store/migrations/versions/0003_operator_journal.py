"""What operators did to dead letters.

A table of its own, not lines of `journal` without a payment: three columns there would have to become nullable, and the
rule that every line of a payment has its version and status would be gone for the sake of lines that have neither.
"""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE operator_journal (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            kind varchar(30) NOT NULL,
            actor varchar(128) NOT NULL,
            queue varchar(255) NOT NULL,
            message_id text,
            reason text NOT NULL,
            body_sha256 varchar(64) NOT NULL,
            at timestamptz NOT NULL
        )""")
    op.execute("CREATE INDEX operator_journal_message_id_idx ON operator_journal (message_id)")
    # The function refuses whatever it is called for; it is the payments' journal's own.
    op.execute("""
        CREATE TRIGGER operator_journal_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON operator_journal
        FOR EACH STATEMENT EXECUTE FUNCTION journal_append_only()""")
