"""Migrates a database to the tables that this version needs, and tells its revision.

A migration never waits long for a lock, as everybody else would wait behind it: it gives up, lets the others pass, and
tries again. Each is a transaction of its own. Which older versions may still use the tables is a comment on the table
of revisions, so that their replicas can restart, and a release be rolled back.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.aio import spread
from service.adapters.postgres import privileges
from service.adapters.postgres.database import Database, make_engine
from service.adapters.postgres.reasons import sqlstate
from service.adapters.postgres.sessions import Sessions
from service.domain.errors import StoreUnavailableError

_log = logging.getLogger(__name__)

OLDEST_VERSION: Final = "0015"
"""The oldest revision whose code may use the migrated tables; a migration that breaks older code raises it."""
USUAL_CURRENCY: Final = "inr"
LOCK_SECONDS: Final = 0.5
"""How long a migration may wait for a lock, and others behind it."""
AGAIN_SECONDS: Final = 2.0
TRIES: Final = 300


class UnknownRevisionError(Exception):
    """The database is newer than this version, or no release's; the text is a sentence for an operator."""


class MigrationForbiddenError(Exception):
    """The role may not do what the migration needs; the text is a sentence for an operator."""


class TablesInUseError(Exception):
    """Somebody uses the tables and does not end; the text is a sentence for an operator."""


@dataclass(frozen=True, kw_only=True)
class Migration:
    """The database afterwards. `granted`: whether the application's role was granted what it needs."""

    revision: str
    granted: bool


_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_NO_CONNECTION: Final = frozenset({"28", "3D", "53", "57"})
"""Classes of SQLSTATE with which a server refuses a connection."""
_LOCKED: Final = frozenset({"55P03", "40P01"})
_FORBIDDEN: Final = "42501"
_NO_LIMITS: Final = {"statement_timeout": "0", "idle_in_transaction_session_timeout": "0"}
_ONE_AT_A_TIME: Final = 7_021_915_001  # any number: concurrent migrations of one database wait for each other


async def migrate(
    url: str,
    *,
    application: str | None = None,
    console: str | None = None,
    currency: str = USUAL_CURRENCY,
    tries: int = TRIES,
) -> Migration:
    """Upgrade the database to `newest_revision`. Safe to repeat and to run concurrently, and while others use it.

    `application`: the role with which the service uses the tables. Unless it is the role that migrates, it is granted
    what it needs and no more. `console`: the console's role, if it has one. `currency`: that of almost all payments,
    which searches need no index for. A newer database that this version may use stays as it is.

    Raises:
        NoSuchRoleError: there is no such role; nothing was changed.
        UnknownRevisionError: it is at none of this version's revisions; nothing was changed.
        MigrationForbiddenError: the role may not; migrations before that one are done.
        TablesInUseError: somebody holds a lock all the time; migrations before that one are done.
        StoreUnavailableError: the database cannot be reached, refuses the role, or was lost on the way; repeat it.
        SQLAlchemyError: it cannot be used.
    """
    engine = make_engine(Sessions(url, settings=_NO_LIMITS))
    event.listen(engine.sync_engine, "begin", _wait_not_long)
    try:
        async with _serialized(engine):
            for _ in range(tries):
                try:
                    return await _migrated(engine, application, console, currency)
                except (DBAPIError, asyncpg.PostgresError) as error:  # a script's are the driver's own
                    if sqlstate(error) == _FORBIDDEN:
                        raise MigrationForbiddenError(_forbidden(error)) from error
                    if sqlstate(error) not in _LOCKED:
                        raise
                _log.warning("the tables are in use: trying again")
                await asyncio.sleep(spread(AGAIN_SECONDS))
        raise TablesInUseError("The tables are in use all the time: see who holds locks in pg_stat_activity.")
    except OSError as error:  # TimeoutError too
        raise StoreUnavailableError from error
    except DBAPIError as error:
        if error.connection_invalidated or sqlstate(error)[:2] in _NO_CONNECTION:
            raise StoreUnavailableError from error
        raise
    except PendingRollbackError as error:  # what was under way would have ended on a session that was lost
        raise StoreUnavailableError from error.__context__ or error
    finally:
        await engine.dispose()


async def current_revision(database: Database) -> str | None:
    """The revision that the database is at; None before the first."""
    async with database.transaction() as connection:
        current, _ = await connection.run_sync(_state)
        return current


async def revision_problem(database: Database) -> str | None:
    """Why this version cannot use the database as it is, as a sentence; None if it can."""
    async with database.transaction() as connection:
        return _problem(*await connection.run_sync(_state))


def newest_revision() -> str:
    """The revision that this version needs."""
    return max(_revisions())


def _problem(current: str | None, oldest: str | None) -> str | None:
    newest = newest_revision()
    if current == newest:
        return None
    if current is not None and current > newest:  # four digits each
        if oldest is not None and oldest <= newest:
            return None
        return (
            f"The database is at revision {current}, and this version knows revisions up to {newest}: "
            "run the version that migrated it, or a newer one."
        )
    if current not in {None, *_revisions()}:
        return f"The database is at revision {current}, which no release has had: it cannot be migrated."
    return f"The database is at revision {current or 'none'}, but {newest} is needed: run payment-service migrate."


def _forbidden(error: Exception) -> str:
    """With the server's own words, which name the table or schema and hold no statement."""
    said = getattr(error, "orig", error)
    said = getattr(said, "__cause__", None) or said
    return (
        f"The role that migrates may not: {said}. It must own the tables, or the database as long as there are none: "
        "see MIGRATION_DATABASE_URL."
    )


def _revisions() -> set[str]:
    """The migrations' files are numbered."""
    return {file.name.partition("_")[0] for file in (_MIGRATIONS / "versions").glob("[0-9]*.py")}


def _state(connection: Connection) -> tuple[str | None, str | None]:
    """The database's revision, and the oldest version that may use it; None if they are not known."""
    oldest = connection.scalar(text("SELECT obj_description(to_regclass('alembic_version'), 'pg_class')"))
    known = connection.scalar(text("SELECT to_regclass('alembic_version') IS NOT NULL"))
    return connection.scalar(text("SELECT version_num FROM alembic_version")) if known else None, oldest


@asynccontextmanager
async def _serialized(engine: AsyncEngine) -> AsyncGenerator[None]:
    """Nobody else migrates meanwhile.

    `CREATE INDEX CONCURRENTLY` waits for the end of every transaction that has a snapshot when it looks. So whoever
    waits here asks again and again, each time in a transaction of its own; and whoever goes on runs a simple query
    after its question, so that no portal stays open.
    """
    serialized = text(f"SELECT pg_try_advisory_xact_lock({_ONE_AT_A_TIME})")
    async with engine.connect() as holder:
        while True:
            async with holder.begin():
                if await holder.scalar(serialized):
                    driver: Any = (await holder.get_raw_connection()).driver_connection
                    await driver.execute("SELECT 1")
                    yield
                    return
            await asyncio.sleep(spread(0.2))


async def _migrated(engine: AsyncEngine, application: str | None, console: str | None, currency: str) -> Migration:
    async with engine.connect() as connection:
        current, oldest = await connection.run_sync(_state)
        if current not in {None, *_revisions()}:
            if (problem := _problem(current, oldest)) is not None:
                raise UnknownRevisionError(problem)
            return Migration(revision=str(current), granted=False)
        for role in (application, console):
            if role is not None:
                await connection.run_sync(privileges.check_role, role)
        await connection.rollback()
        await connection.run_sync(_upgrade, currency=currency)
        await connection.rollback()
        granted = application is not None and await connection.run_sync(privileges.grant, application)
        if console is not None:
            await connection.run_sync(privileges.grant, console, privileges.CONSOLE_GRANTED)
        await connection.execute(text(f"COMMENT ON TABLE alembic_version IS '{OLDEST_VERSION}'"))
        await connection.commit()
    return Migration(revision=newest_revision(), granted=granted)


def _wait_not_long(connection: Connection) -> None:
    """Bound the waits for locks, for this transaction alone, as a pooler may give the session to others."""
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(LOCK_SECONDS * 1000)}")


def _upgrade(connection: Connection, revision: str = "head", *, currency: str = USUAL_CURRENCY) -> None:
    from alembic import command  # noqa: PLC0415 - a second of imports that only this command needs
    from alembic.config import Config  # noqa: PLC0415

    config: Any = Config(attributes={"connection": connection, "currency": currency})
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.set_main_option("path_separator", "os")
    command.upgrade(config, revision)
