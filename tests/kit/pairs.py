"""Two PostgreSQL servers, of which one follows the other, to be killed and promoted."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg

from tests.kit import canary
from tests.kit.lifetimes import closing
from tests.kit.until import until
from tools.devstack import postgres_server
from tools.devstack.postgres_server import Server

DATABASE: Final = "payments"
STANDBY: Final = "standby"


@dataclass(kw_only=True)
class Pair:
    """What the primary acknowledges is on the standby, too."""

    primary: Server
    standby: Server

    @property
    def url(self) -> str:
        """The standby is named first."""
        login = self.primary.url(DATABASE).partition("@")[0]
        return f"{login}@127.0.0.1:{self.standby.port},127.0.0.1:{self.primary.port}/{DATABASE}"

    async def fail_over(self) -> None:
        """The primary dies, and the standby takes its place."""
        await postgres_server.kill(self.primary.folder)
        await postgres_server.execute(self.standby.url(), "SELECT pg_promote()")


@asynccontextmanager
async def a_pair(folder: Path) -> AsyncIterator[Pair]:
    """A primary with an empty database, and its synchronous standby."""
    folders = [folder / name for name in ("primary", STANDBY)]
    canary.put_password(folders[0], "password", "application-password")
    try:
        primary = await postgres_server.start(folders[0], database=DATABASE, dies_with_us=True)
        await postgres_server.follow(primary, folders[1], name=STANDBY)
        standby = await postgres_server.start(folders[1], dies_with_us=True)
        async with closing(await asyncpg.connect(primary.url())) as admin:
            await admin.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{STANDBY}'")
            await admin.execute("SELECT pg_reload_conf()")
            query = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
            await until(lambda: admin.fetchval(query))
        yield Pair(primary=primary, standby=standby)
    finally:
        for each in folders:
            await postgres_server.stop(each)
