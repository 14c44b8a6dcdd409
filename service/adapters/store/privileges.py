"""Least privilege: what the application's role may do with each table, and whether a role may do more.

The tables belong to the role that migrates. Sequences are missing on purpose: an identity column needs no grant.
"""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, text

from service.adapters.store.database import Database
from service.adapters.store.statements import CHANGING

_CHANGING: Final = (*CHANGING, "asked_at", "ask_failed_at", "settle_attempts", "settle_after")

GRANTED: Final[Mapping[str, tuple[str, ...]]] = {
    "alembic_version": ("SELECT",),
    "payments": ("SELECT", "INSERT", f"UPDATE ({', '.join(_CHANGING)})"),
    "journal": ("SELECT", "INSERT"),
    "operator_journal": ("SELECT", "INSERT"),
    # The pruner locks what it deletes, and PostgreSQL asks for the right to update a column of what is locked.
    "request_keys": ("SELECT", "INSERT", "DELETE", "UPDATE (created_at)"),
    "outbox": ("SELECT", "INSERT", "DELETE", "UPDATE (attempts, claimed_until, sent_at)"),
    # Nothing of these is a record: they coordinate the replicas, and may be emptied at any time.
    "budget": ("SELECT", "INSERT", "UPDATE (next_at, pace, slowed_at)"),
    "budget_demand": ("SELECT", "INSERT", "DELETE", "UPDATE (waiting, seen_at)"),
    "feed": ("SELECT", "INSERT", "UPDATE (leader, leader_until, read_until)"),
    "places": ("SELECT", "INSERT", "DELETE", "UPDATE (arrived_at, due_until, kept_until)"),
}
"""Table -> privileges. Whatever is not here, the application cannot do."""

_COULD_REWRITE: Final = text("""
    SELECT bool_or(pg_has_role(relowner, 'MEMBER') OR has_schema_privilege(relnamespace, 'CREATE')
        OR has_table_privilege(record.oid, 'DELETE, TRUNCATE, UPDATE, TRIGGER'))
    FROM pg_class AS record
    WHERE record.oid IN ('payments'::regclass, 'journal'::regclass, 'operator_journal'::regclass)""")


class NoSuchRoleError(Exception):
    """The application's role is not there: migrating makes tables, not roles."""


def grant(connection: Connection, role: str) -> bool:
    """Give the role what `GRANTED` says and take the rest away; False if it is the role that migrates.

    Raises:
        NoSuchRoleError: there is no such role.
    """
    if connection.scalar(text("SELECT current_user")) == role:
        return False
    if not connection.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role}):
        raise NoSuchRoleError(f"The role {role} of DATABASE_URL does not exist: create it first.")
    quoted = connection.dialect.identifier_preparer.quote_identifier(role)
    schema = connection.dialect.identifier_preparer.quote_identifier(
        connection.scalar(text("SELECT current_schema()")) or "public"
    )
    connection.execute(text(f"REVOKE CREATE ON SCHEMA {schema} FROM {quoted}"))
    connection.execute(text(f"GRANT USAGE ON SCHEMA {schema} TO {quoted}"))
    for table, privileges in GRANTED.items():
        connection.execute(text(f"REVOKE ALL ON {table} FROM {quoted}"))
        connection.execute(text(f"GRANT {', '.join(privileges)} ON {table} TO {quoted}"))
    return True


async def could_rewrite(database: Database) -> bool:
    """Whether the role of these connections could change the record: it owns the tables, or may do more than needed."""
    (row,) = await database.run(_COULD_REWRITE, {})
    return bool(row[0])
