"""Least privilege: what the application's role may do with each table, and whether it could do more.

The tables belong to the role that migrates. Identity columns need no grant for their sequences.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import Connection, text

from service.adapters.postgres.database import Database
from service.adapters.postgres.statements import CHANGING, TERMS

_CHANGING: Final = tuple(
    dict.fromkeys((*CHANGING, *TERMS, "asked_at", "ask_failed_at", "settle_attempts", "settle_after"))
)

Granted = Mapping[str, tuple[str, ...]]

GRANTED: Final[Granted] = {
    "alembic_version": ("SELECT",),
    "payments": ("SELECT", "INSERT", f"UPDATE ({', '.join(_CHANGING)})"),
    "journal": ("SELECT", "INSERT"),
    "operator_journal": ("SELECT", "INSERT"),
    "operator_acts": ("SELECT", "UPDATE (claimed_until, done_at, is_done, answer)"),
    # The pruner locks rows before it deletes them, for which PostgreSQL requires UPDATE on a column.
    "request_keys": ("SELECT", "INSERT", "DELETE", "UPDATE (created_at)"),
    "outbox": ("SELECT", "INSERT", "DELETE", "UPDATE (attempts, claimed_until, sent_at)"),
    "account_pin": ("SELECT", "INSERT", "UPDATE (livemode, account, pinned_at)"),
    # These only coordinate the replicas, and may be emptied at any time.
    "budget": ("SELECT", "INSERT", "UPDATE (next_at, pace, slowed_at)"),
    "budget_demand": ("SELECT", "INSERT", "DELETE", "UPDATE (waiting, seen_at)"),
    "gateway_health": ("SELECT", "INSERT", "DELETE", "UPDATE (circuit, sent, calls, failed, per_second, seen_at)"),
    "feed": ("SELECT", "INSERT", "UPDATE (leader, leader_until, read_until, charges_read_until)"),
    "places": ("SELECT", "INSERT", "DELETE", "UPDATE (arrived_at, due_until, kept_until)"),
}
"""Table -> privileges. The application has no others."""

CONSOLE_GRANTED: Final[Granted] = {
    **dict.fromkeys(
        ("alembic_version", "payments", "journal", "outbox", "feed", "budget", "budget_demand", "gateway_health"),
        ("SELECT",),
    ),
    "operator_journal": ("SELECT", "INSERT"),
    "operator_acts": ("SELECT", "INSERT (kind, payment_id, actor, why)"),
}
"""The same for the console, which reads, and writes down what a person has done or asks for."""

_PAYMENT_IDS: Final = "payments_id_seq"
"""The sequence of a default, which whoever inserts must be granted: to take the next value, and not to set it."""

_COULD_REWRITE: Final = text("""
    SELECT bool_or(pg_has_role(relowner, 'MEMBER') OR has_schema_privilege(relnamespace, 'CREATE')
        OR has_table_privilege(record.oid, 'DELETE, TRUNCATE, UPDATE, TRIGGER'))
    FROM pg_class AS record
    WHERE record.oid IN ('payments'::regclass, 'journal'::regclass, 'operator_journal'::regclass)""")

_LACKING: Final = text("""
    SELECT lacking.privilege || ' of ' || lacking.name AS said
    FROM (
        SELECT *, to_regclass(name) AS record
        FROM unnest(CAST(:names AS text[]), CAST(:privileges AS text[]), CAST(:columns AS text[]))
            AS wanted(name, privilege, col)
    ) AS lacking
    WHERE NOT CASE WHEN col = '' THEN has_table_privilege(record, privilege) ELSE has_column_privilege(
        record, (SELECT attnum FROM pg_attribute WHERE attrelid = record AND attname = col), privilege) END""")
"""A table or column that does not exist makes this null: it is a matter of the revision."""


class NoSuchRoleError(Exception):
    """The application's role does not exist: migrating creates tables, not roles."""


def check_role(connection: Connection, role: str) -> None:
    """Raise NoSuchRoleError unless the role exists."""
    if not connection.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role}):
        raise NoSuchRoleError(f"The role {role} does not exist: create it first.")


def grant(connection: Connection, role: str, granted: Granted = GRANTED) -> bool:
    """Grant the role, which exists, what `granted` says, and no more; False if it is the one that migrates."""
    if connection.scalar(text("SELECT current_user")) == role:
        return False
    quote = connection.dialect.identifier_preparer.quote_identifier
    quoted, schema = quote(role), quote(connection.scalar(text("SELECT current_schema()")) or "public")
    connection.execute(text(f"REVOKE CREATE ON SCHEMA {schema} FROM {quoted}"))
    connection.execute(text(f"GRANT USAGE ON SCHEMA {schema} TO {quoted}"))
    for table in GRANTED:
        connection.execute(text(f"REVOKE ALL ON {table} FROM {quoted}"))
        if table in granted:
            connection.execute(text(f"GRANT {', '.join(granted[table])} ON {table} TO {quoted}"))
    connection.execute(text(f"REVOKE ALL ON SEQUENCE {_PAYMENT_IDS} FROM {quoted}"))
    if granted is GRANTED:
        connection.execute(text(f"GRANT USAGE ON SEQUENCE {_PAYMENT_IDS} TO {quoted}"))
    return True


async def could_rewrite(database: Database) -> bool:
    """Whether the connections' role could rewrite the record, as the tables' owner or by surplus privileges."""
    (row,) = await database.run(_COULD_REWRITE, {})
    return bool(row[0])


async def lacking(database: Database, granted: Granted) -> Sequence[str]:
    """Those privileges that the connections' role lacks, each with its table."""
    wanted = [
        (table, privilege, column)
        for table, privileges in granted.items()
        for privilege, columns in map(_parsed, privileges)
        for column in columns
    ]
    names, privileges, columns = map(list, zip(*wanted, strict=True))
    rows = await database.run(_LACKING, {"names": names, "privileges": privileges, "columns": columns})
    return list(dict.fromkeys(row.said for row in rows))


def _parsed(privilege: str) -> tuple[str, list[str]]:
    """`UPDATE (this, that)` in its parts; for a whole table the one column has no name."""
    name, _, columns = privilege.rstrip(")").partition(" (")
    return name, columns.split(", ")
