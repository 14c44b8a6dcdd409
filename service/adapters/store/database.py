"""The engine and its bounds: every wait for the database ends."""

from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from sqlalchemy import Row, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.sql.base import Executable

from service.domain.errors import StoreUnavailableError

POOL_SIZE: Final = 20
CONNECT_SECONDS: Final = 3.0
COMMAND_SECONDS: Final = 5.0
"""asyncpg's own bound: without it a black-holed connection is waited for until the kernel gives up."""
ACQUIRE_SECONDS: Final = 3.0

_PING: Final = text("SELECT 1")
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

        self._single: Final = self.engine.execution_options(isolation_level="AUTOCOMMIT")

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[AsyncConnection]:
        """One transaction: committed at the end of the block, rolled back if it raises.

        Raises:
            StoreUnavailableError: the database cannot be used. If it happened at the commit, nobody knows whether the
                transaction was kept: whoever repeats must be safe to repeat.
        """
        with _translated():
            async with self.engine.begin() as connection:
                yield connection

    async def run(self, statement: Executable, parameters: Mapping[str, Any]) -> Sequence[Row[Any]]:
        """One statement that is a transaction by itself, and its rows: a single round trip.

        Raises:
            StoreUnavailableError: as `transaction`.
            IntegrityError: the statement breaks a constraint; nothing of it was kept.
        """
        with _translated():
            async with self._single.connect() as connection:
                return (await connection.execute(statement, parameters)).all()

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()

    async def ping(self) -> None:
        """Raises StoreUnavailableError if the database does not answer."""
        await self.run(_PING, {})


@contextmanager
def _translated() -> Generator[None]:
    try:
        yield
    except IntegrityError:
        raise  # the store's own business
    except (DBAPIError, PoolTimeoutError, TimeoutError, OSError) as error:
        raise StoreUnavailableError from error
