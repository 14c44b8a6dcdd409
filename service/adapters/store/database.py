"""The engine and its bounds: every wait for the database ends."""

import asyncio
import functools
import time
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import asyncpg
import orjson
from sqlalchemy import PoolProxiedConnection, event, text
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi, PGDialect_asyncpg
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
_UNAVAILABLE: Final = (
    PoolTimeoutError,
    AsyncAdapt_asyncpg_dbapi.Error,  # what connecting raises, as it comes: the pool is asked, and no engine
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    TimeoutError,
    OSError,
)
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


class Row(asyncpg.Record):  # type: ignore[misc]  # asyncpg has no types
    """A row, whose columns are attributes too."""

    def __getattr__(self, name: str) -> Any:
        """A column by its name."""
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def make_engine(url: str, connect_options: Mapping[str, Any], **options: Any) -> AsyncEngine:
    """An engine whose driver reads the URL: SQLAlchemy does not know `sslmode` and `sslrootcert`."""
    connect = functools.partial(asyncpg.connect, dsn(url), timeout=CONNECT_SECONDS, record_class=Row, **connect_options)
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        hide_parameters=True,
        json_serializer=_as_it_is,  # the driver does it
        json_deserializer=_as_it_is,
        **options,
    )
    event.listen(engine.sync_engine, "connect", _read_json)
    return engine


def _as_it_is(value: Any) -> Any:
    return value


def _read_json(connection: Any, _: object) -> None:
    def write(value: Any) -> str:
        return orjson.dumps(value).decode()

    connection.run_async(
        lambda driver: driver.set_type_codec("json", schema="pg_catalog", encoder=write, decoder=orjson.loads)
    )


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
        self._lost_at = 0.0

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

    async def run(self, statement: Executable, parameters: Mapping[str, Any]) -> Sequence[Row]:
        """One statement that is a transaction by itself, and its rows: a single round trip.

        The driver runs it. SQLAlchemy writes it, once, and pools the connections, but to execute a statement takes it
        five times as long as the driver. If the database undid it because of others, it is repeated whole.

        Raises:
            StoreUnavailableError: as `transaction`.
            asyncpg.IntegrityConstraintViolationError: the statement breaks a constraint; nothing of it was kept.
        """
        written, names = _compiled(statement, tuple(sorted(parameters)))
        arguments = [parameters.get(name, value) for name, value in names]
        with _translated():
            for _ in range(TRIES - 1):
                try:
                    return await self._run(written, arguments)
                except asyncpg.PostgresError as error:
                    if error.sqlstate not in _UNDONE:
                        raise
            return await self._run(written, arguments)

    async def _run(self, written: str, arguments: Sequence[Any]) -> Sequence[Row]:
        connection = await self._checked_out()
        driver: Any = connection.driver_connection
        try:
            rows: Sequence[Row] = await driver.fetch(written, *arguments)
        except BaseException as error:
            if driver.is_closed():  # as most likely are all that were made before
                self._lost_at = time.monotonic()
            if not isinstance(error, asyncpg.PostgresError):  # cut off in the middle, for one
                connection.invalidate()
            raise
        finally:
            connection.close()
        return rows

    async def _checked_out(self) -> PoolProxiedConnection:
        """A connection of the pool that is not known to be lost."""
        while True:
            connection = await self.engine.raw_connection()
            driver: Any = connection.driver_connection
            made_at = connection.info.setdefault("made_at", time.monotonic())
            if made_at > self._lost_at and not driver.is_closed():
                return connection
            connection.invalidate()
            connection.close()

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
    except (IntegrityError, asyncpg.IntegrityConstraintViolationError):
        raise  # the store's own business
    except (DBAPIError, asyncpg.PostgresError) as error:
        raise (StoreRefusedError if _sqlstate(error)[:2] in _REFUSED else StoreUnavailableError) from error
    except _UNAVAILABLE as error:
        raise StoreUnavailableError from error


def _sqlstate(error: DBAPIError | asyncpg.PostgresError) -> str:
    """Five characters; empty if it was not the server that failed."""
    return getattr(getattr(error, "orig", error), "sqlstate", None) or ""


_DIALECT: Final = PGDialect_asyncpg()  # type: ignore[no-untyped-call]


@functools.lru_cache(maxsize=256)
def _compiled(statement: Executable, given: tuple[str, ...]) -> tuple[str, tuple[tuple[str, Any], ...]]:
    """The statement as text, and its parameters in order: each one's name, and its value if none is given."""
    compiled: Any = statement.compile(dialect=_DIALECT, column_keys=list(given))  # type: ignore[attr-defined]
    return str(compiled), tuple((name, compiled.params[name]) for name in compiled.positiontup or ())
