"""Whether the service can use a database, and if not why, in sentences for an operator."""

from typing import Final

import asyncpg

from runtime import connection_urls
from service.adapters.postgres.database import Database, sqlstate
from service.adapters.postgres.listener import LISTEN_ERRORS, PostgresListener, SharedSessionError
from service.adapters.postgres.migrate import revision_problem
from service.domain.errors import StoreUnavailableError

_REASONS: Final = {
    "28000": "refuses the role or its password",
    "28P01": "refuses the role or its password",
    "3D000": "does not exist on that server",
    "42501": "refuses the role a right that it needs: run payment-service migrate with MIGRATION_DATABASE_URL",
    "53300": "has no connection left",
    "57P03": "is still starting or stopping",
}
"""SQLSTATE -> what is to be told."""


def why(error: StoreUnavailableError) -> str:
    """What to say after the database's name: that it cannot be reached, or why it refuses us."""
    if (distrust := connection_urls.distrust(error)) is not None:
        return distrust
    return "accepts no writes" if error.__cause__ is None else _why(error.__cause__)


def _why(cause: BaseException) -> str:
    if isinstance(cause.__cause__ or cause, asyncpg.TargetServerAttributeNotMatched):
        return "accepts no writes"  # a server that follows another one
    return _REASONS.get(sqlstate(cause)) or f"cannot be reached ({type(cause).__name__})"


async def problem_of(database: Database) -> str | None:
    """Why the service cannot use the database, as a sentence; None if it can."""
    try:
        await database.ping()
        return await revision_problem(database)
    except StoreUnavailableError as error:
        return f"The database (DATABASE_URL) {why(error)}."


async def listening_problem_of(url: str | None, *, otherwise: str) -> str | None:
    """Why no notification would come by DATABASE_LISTEN_URL, or without one by `otherwise`; None if they would."""
    listener = PostgresListener(url or otherwise, on_notification={}, on_reconnect=lambda: None)
    try:
        await listener.check()
    except SharedSessionError:
        name = "DATABASE_LISTEN_URL" if url else "DATABASE_URL"
        return (
            f"{name} leads through a pooler in transaction mode, which drops notifications: "
            "DATABASE_LISTEN_URL must lead to the database itself."
        )
    except LISTEN_ERRORS as error:
        why_not = connection_urls.distrust(error) or _why(error)
        return f"The database (DATABASE_LISTEN_URL) {why_not}." if url else None  # of the other it is told anyway
    return None
