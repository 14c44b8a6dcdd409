"""Bringing a database to the tables that this version of the code needs."""

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from service.adapters.store.database import CONNECT_SECONDS, Database, async_url

_LOCK = 7_021_915_001  # any number; two migrations of one database wait for each other


async def migrate(url: str) -> str:
    """Upgrade the database to the newest revision; answers it. Safe to run twice and from two places at once."""
    engine = create_async_engine(async_url(url), connect_args={"timeout": CONNECT_SECONDS}, hide_parameters=True)
    try:
        async with engine.begin() as connection:
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            await connection.run_sync(_upgrade)
    finally:
        await engine.dispose()
    return newest_revision()


async def current_revision(database: Database) -> str | None:
    """The revision that the database is at; None before the first."""
    async with database.transaction() as connection:
        return await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())


def newest_revision() -> str:
    """The revision that this version of the code needs."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def _upgrade(connection: Connection) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _config(**options: Any) -> Config:
    config = Config(**options)
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config
