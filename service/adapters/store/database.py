"""The engine and its bounds: every wait for the database ends."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from service.domain.errors import StoreUnavailableError

POOL_SIZE: Final = 20
CONNECT_SECONDS: Final = 3.0
COMMAND_SECONDS: Final = 5.0
"""asyncpg's own bound: without it a black-holed connection is waited for until the kernel gives up."""
ACQUIRE_SECONDS: Final = 3.0

_SERVER_SETTINGS: Final = {
    "application_name": "payment-service",
    "statement_timeout": "4000",
    "lock_timeout": "2000",
    "idle_in_transaction_session_timeout": "10000",
}


def async_url(url: str) -> str:
    """The URL with the driver that we use; `postgres://` and `postgresql://` mean it too."""
    scheme, _, rest = url.partition("://")
    return f"postgresql+asyncpg://{rest}" if scheme in {"postgres", "postgresql"} else url


class Database:
    """A bounded pool of connections."""

    def __init__(self, url: str) -> None:
        """`url`: `postgresql://user:password@host:port/name`."""
        self.engine: Final[AsyncEngine] = create_async_engine(
            async_url(url),
            pool_size=POOL_SIZE,
            max_overflow=0,
            pool_timeout=ACQUIRE_SECONDS,
            pool_pre_ping=False,  # a round trip for each transaction; a stale connection is a retryable error instead
            hide_parameters=True,
            connect_args={
                "timeout": CONNECT_SECONDS,
                "command_timeout": COMMAND_SECONDS,
                "server_settings": _SERVER_SETTINGS,
            },
        )

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[AsyncConnection]:
        """One transaction: committed at the end of the block, rolled back if it raises.

        Raises:
            StoreUnavailableError: the database cannot be used. If it happened at the commit, nobody knows whether the
                transaction was kept: whoever repeats must be safe to repeat.
        """
        try:
            async with self.engine.begin() as connection:
                yield connection
        except IntegrityError:
            raise  # the store's own business
        except (DBAPIError, PoolTimeoutError, TimeoutError, OSError) as error:
            raise StoreUnavailableError from error

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()

    async def ping(self) -> None:
        """Raises StoreUnavailableError if the database does not answer."""
        async with self.transaction() as connection:
            await connection.execute(text("SELECT 1"))

    async def fetch_all(self, statement: Any) -> list[Any]:
        """The rows of one statement, in a transaction of its own."""
        async with self.transaction() as connection:
            return list((await connection.execute(statement)).all())
