"""The engine and its bounds: every wait for the database ends."""

import asyncio
import functools
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import asyncpg
from sqlalchemy import Row, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.sql.base import Executable

from service.domain.errors import StoreRefusedError, StoreUnavailableError

POOL_SIZE: Final = 20
CROWD_SIZE: Final = 12
"""Connections that creates may have at once, which come in crowds: a read finds one of the others."""
CONNECT_SECONDS: Final = 3.0
COMMAND_SECONDS: Final = 3.0
"""asyncpg's own bound: without it a black-holed connection is waited for until the kernel gives up. Giving the
connection up takes two seconds more."""
ACQUIRE_SECONDS: Final = 2.0
TRIES: Final = 3
"""Of a statement that the database undid because of others; together shorter than a caller's patience."""

_UNDONE: Final = frozenset({"40001", "40P01", "55P03", "0A000"})
"""SQLSTATE: serialization failure, deadlock, lock timeout, and a plan that a migration made invalid."""
_REFUSED: Final = frozenset({"21", "22", "P0"})
"""Classes of SQLSTATE that blame the statement's own data: cardinality, bad data, and what a trigger raises."""
_PING: Final = text("SELECT 1 WHERE current_setting('transaction_read_only') = 'off'")
SERVER_SETTINGS: Final = {
    "application_name": "payment-service",
    "statement_timeout": "2500",
    "lock_timeout": "1000",
    "idle_in_transaction_session_timeout": "10000",
}


def dsn(url: str) -> str:
    """The URL for the driver itself, whatever scheme it has."""
    return "postgresql://" + url.partition("://")[2]


def make_engine(url: str, connect_options: Mapping[str, Any], **options: Any) -> AsyncEngine:
    """An engine whose driver reads the URL: SQLAlchemy does not know `sslmode` and `sslrootcert`."""
    connect = functools.partial(asyncpg.connect, dsn(url), timeout=CONNECT_SECONDS, **connect_options)
    return create_async_engine("postgresql+asyncpg://", async_creator=connect, hide_parameters=True, **options)


class Database:
    """A bounded pool of connections."""

    def __init__(self, url: str) -> None:
        """`url`: `postgresql://user:password@host:port/name`."""
        self.engine: Final[AsyncEngine] = make_engine(
            url,
            {"command_timeout": COMMAND_SECONDS, "server_settings": SERVER_SETTINGS},
            pool_size=POOL_SIZE,
            max_overflow=0,
            pool_timeout=ACQUIRE_SECONDS,
            pool_pre_ping=False,  # a round trip for each transaction; a stale connection is a retryable error instead
        )

        self._crowd: Final = asyncio.Semaphore(CROWD_SIZE)
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

        If the database undid it because of others, it is repeated whole.

        Raises:
            StoreUnavailableError: as `transaction`.
            IntegrityError: the statement breaks a constraint; nothing of it was kept.
        """
        with _translated():
            for _ in range(TRIES - 1):
                try:
                    return await self._run(statement, parameters)
                except DBAPIError as error:
                    if _sqlstate(error) not in _UNDONE:
                        raise
            return await self._run(statement, parameters)

    async def _run(self, statement: Executable, parameters: Mapping[str, Any]) -> Sequence[Row[Any]]:
        async with self._single.connect() as connection:
            return (await connection.execute(statement, parameters)).all()

    @asynccontextmanager
    async def crowd(self) -> AsyncGenerator[None]:
        """For the block, one of the crowd that shares `CROWD_SIZE` of the connections.

        Raises:
            StoreUnavailableError: too many were before, as when the pool has no connection in time.
        """
        with _translated():
            async with asyncio.timeout(ACQUIRE_SECONDS):
                await self._crowd.acquire()
        try:
            yield
        finally:
            self._crowd.release()

    @property
    def in_use(self) -> int:
        """Connections of the pool that somebody has just now, of `POOL_SIZE`."""
        return self.engine.pool.checkedout()  # type: ignore[attr-defined,no-any-return]  # a QueuePool

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()

    async def ping(self) -> None:
        """Raises StoreUnavailableError if the database does not answer, or takes no writes (as after a failover)."""
        if not await self.run(_PING, {}):
            raise StoreUnavailableError


@contextmanager
def _translated() -> Generator[None]:
    try:
        yield
    except IntegrityError:
        raise  # the store's own business
    except DBAPIError as error:
        raise (StoreRefusedError if _sqlstate(error)[:2] in _REFUSED else StoreUnavailableError) from error
    except (PoolTimeoutError, TimeoutError, OSError) as error:
        raise StoreUnavailableError from error


def _sqlstate(error: DBAPIError) -> str:
    """Five characters; empty if it was not the server that failed."""
    return getattr(error.orig, "sqlstate", None) or ""
