"""Bringing a database to the tables that this version of the code needs, and asking whether it is there."""

from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from service.adapters.store import privileges
from service.adapters.store.database import CONNECT_SECONDS, Database, async_url
from service.domain.errors import StoreUnavailableError

_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_LOCK: Final = 7_021_915_001  # any number; two migrations of one database wait for each other


async def migrate(url: str, *, application: str | None = None) -> bool:
    """Upgrade the database to `newest_revision`. Safe to run twice and from two places at once.

    `application`: the role by which the service will use the tables. It is granted what it needs and no more; the
    answer is whether that was done, because it is another role than the one that migrates.

    Raises:
        NoSuchRoleError: there is no such role; nothing was changed.
        StoreUnavailableError: the database cannot be reached; nothing was changed.
        SQLAlchemyError: it refuses; nothing was changed.
    """
    engine = create_async_engine(async_url(url), connect_args={"timeout": CONNECT_SECONDS}, hide_parameters=True)
    try:
        async with engine.begin() as connection:
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            await connection.run_sync(_upgrade)
            return application is not None and await connection.run_sync(privileges.grant, application)
    except (OSError, TimeoutError) as error:
        raise StoreUnavailableError from error
    finally:
        await engine.dispose()


async def current_revision(database: Database) -> str | None:
    """The revision that the database is at; None before the first."""
    async with database.transaction() as connection:
        known = await connection.scalar(text("SELECT to_regclass('alembic_version') IS NOT NULL"))
        return await connection.scalar(text("SELECT version_num FROM alembic_version")) if known else None


def newest_revision() -> str:
    """The revision that this version of the code needs: the migrations' files are numbered."""
    return max(file.name.partition("_")[0] for file in (_MIGRATIONS / "versions").glob("[0-9]*.py"))


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - a second of imports that only this command needs
    from alembic.config import Config  # noqa: PLC0415

    options: dict[str, Any] = {"script_location": str(_MIGRATIONS), "path_separator": "os"}
    config = Config(attributes={"connection": connection})
    for name, value in options.items():
        config.set_main_option(name, value)
    command.upgrade(config, "head")
