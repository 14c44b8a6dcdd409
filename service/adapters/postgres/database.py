"""The connection pool and its bounds: every wait for the database ends."""

import asyncio
import functools
import logging
import math
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

from runtime import tracing
from runtime.aio import LogOnChange, ThinnedOut
from service.adapters.postgres.reasons import USELESS, reason, sqlstate
from service.adapters.postgres.sessions import Sessions
from service.domain.errors import StoreRefusedError, StoreUnavailableError

_log = logging.getLogger(__name__)

POOL_SIZE: Final = 20
CROWD_SIZE: Final = 12
"""Connections for creates, which come in rushes; the others stay free for reads."""
COMMAND_SECONDS: Final = 3.0
"""asyncpg's own bound: without it a black-holed connection blocks until the kernel gives up. Closing the connection
takes two seconds more."""
ACQUIRE_SECONDS: Final = 2.0
SESSION_SECONDS: Final = 1800
"""The greatest age of a session: a fault in it that nobody foresaw ends with it."""
TRIES: Final = 3
"""Tries of a statement that the database rolled back because of others; all together end before a caller leaves."""

_UNDONE: Final = frozenset({"40001", "40P01", "55P03", "0A000"})
"""SQLSTATE: serialization failure, deadlock, lock timeout, and a plan that a migration made invalid."""
_REFUSED: Final = frozenset({"21", "22", "P0"})
"""Classes of SQLSTATE for errors in the statement's own data: cardinality, bad data, raised by a trigger."""
_UNAVAILABLE: Final = (
    PoolTimeoutError,
    AsyncAdapt_asyncpg_dbapi.Error,  # raised untranslated on connecting, as the pool is used without the engine
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    TimeoutError,
    OSError,
)
_PING: Final = text("SELECT 1 WHERE current_setting('transaction_read_only') = 'off'")
_SYSTEM: Final = {"db.system.name": "postgresql"}
SERVER_SETTINGS: Final = {
    "application_name": "payment-service",
    "statement_timeout": "2500",
    "lock_timeout": "1000",
    "idle_in_transaction_session_timeout": "10000",
}


_PLANS_ONCE: Final = {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off", "jit": "off"}
"""Otherwise PostgreSQL plans each run of a statement with arrays anew: it guesses that they have ten elements, and that
a plan for fewer is cheaper. And of a table that nothing has analyzed yet it keeps plans that read all of it. What has
no index is read all the same, at a cost so high (until 17) that the statement would be compiled."""
_PLANS_ANEW: Final = {"plan_cache_mode": "force_custom_plan"}
"""Otherwise PostgreSQL uses one plan for rare and for common values."""


def json_text(value: Any) -> str:
    """JSON as the driver takes it."""
    return orjson.dumps(value).decode()


class Row(asyncpg.Record):  # type: ignore[misc]  # asyncpg has no types
    """A row whose columns are attributes, too."""

    def __getattr__(self, name: str) -> Any:
        """A column by its name."""
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def make_engine(sessions: Sessions, **options: Any) -> AsyncEngine:
    """An engine whose driver parses the URL: SQLAlchemy does not know `sslmode` and several hosts.

    What it prepares has no name: behind a pooler another session may have that name, and it is no hot path.
    """

    def creator() -> Any:
        return engine.dialect.dbapi.connect(  # type: ignore[union-attr]  # asyncpg's is there
            async_creator_fn=sessions.open, prepared_statement_cache_size=0, prepared_statement_name_func=lambda: ""
        )

    engine = create_async_engine(
        "postgresql+asyncpg://",
        creator=creator,
        hide_parameters=True,
        json_serializer=lambda value: value,  # the driver does it
        json_deserializer=lambda value: value,
        **options,
    )
    event.listen(engine.sync_engine, "connect", _set_json_codec)
    return engine


def _set_json_codec(connection: Any, _: object) -> None:
    codec = {"encoder": json_text, "decoder": orjson.loads}
    connection.run_async(lambda driver: driver.set_type_codec("json", schema="pg_catalog", **codec))


class Database:
    """A bounded pool of connections."""

    def __init__(self, url: str, *, plans_once: bool | None = None, warnings: ThinnedOut | None = None) -> None:
        """`url`: `postgresql://user:password@host:port/name`, or several hosts, of which the writable one is used.

        `plans_once`: True if the statements are always the same and one plan is good for any parameters; False if no
        plan is; None lets PostgreSQL decide.
        `warnings`: receives why the database cannot be used; None for an operator's command, which says that itself.
        """
        plans = {None: {}, True: _PLANS_ONCE, False: _PLANS_ANEW}[plans_once]
        settings = {**SERVER_SETTINGS, **plans}
        self.sessions: Final = Sessions(url, settings=settings, command_timeout=COMMAND_SECONDS, record_class=Row)
        self.engine: Final[AsyncEngine] = make_engine(
            self.sessions,
            pool_size=POOL_SIZE,
            max_overflow=0,
            pool_timeout=ACQUIRE_SECONDS,
            pool_recycle=SESSION_SECONDS,
            pool_pre_ping=False,  # would cost a round trip per transaction; a stale connection is a retryable error
        )
        self._crowd: Final = asyncio.Semaphore(CROWD_SIZE)
        self._lost_at = -math.inf
        self._writes = LogOnChange(_log)
        self._warnings = warnings

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[AsyncConnection]:
        """One transaction: committed at the end of the block, rolled back if it raises.

        Raises:
            StoreUnavailableError: the database cannot be used. If it happened at the commit, the transaction may
                be committed: the caller must be safe to repeat.
        """
        with self._translated(), tracing.child("postgresql transaction", "client", _SYSTEM):
            async with self.engine.begin() as connection:
                yield connection

    async def run(self, statement: Executable, parameters: Mapping[str, Any], *, tries: int = TRIES) -> Sequence[Row]:
        """Run one statement as a transaction of its own, in a single round trip; its rows.

        SQLAlchemy compiles the statement, once, and pools the connections; the driver executes it, in a fifth of the
        time. If the database rolled it back because of others, it is repeated, up to `tries` times in all.

        Raises:
            StoreUnavailableError: as `transaction`.
            asyncpg.IntegrityConstraintViolationError: the statement violates a constraint and is rolled back.
        """
        sql, names, constants = _compiled(statement, tuple(sorted(parameters)))
        values = {**constants, **parameters}
        arguments = [values[name] for name in names]
        with self._translated(), tracing.child("postgresql", "client", _SYSTEM) as span:
            span.set({"db.query.text": sql})  # the values are not in it
            for _ in range(tries - 1):
                try:
                    return await self._run(sql, arguments)
                except asyncpg.PostgresError as error:
                    if error.sqlstate not in _UNDONE:
                        raise
            return await self._run(sql, arguments)

    async def _run(self, sql: str, arguments: Sequence[Any]) -> Sequence[Row]:
        connection = await self._checked_out()
        driver: Any = connection.driver_connection
        try:
            rows: Sequence[Row] = await driver.fetch(sql, *arguments)
        except BaseException as error:
            if driver.is_closed() or sqlstate(error) in USELESS:
                self._lose(f"{sqlstate(error)} {type(error).__name__}".strip(), made_at=connection.info["made_at"])
            if sqlstate(error) in USELESS or not isinstance(error, asyncpg.PostgresError):  # cancelled, for one
                connection.invalidate()
            raise
        finally:
            connection.close()
        return rows

    def _lose(self, why: str, *, made_at: float) -> None:
        """Replace all sessions made until now: one of them is of no use any more, so probably none is."""
        if made_at > self._lost_at:
            _log.warning("a session of the database is of no use any more (%s): all older ones are replaced", why)
            self._lost_at = time.monotonic()

    async def _checked_out(self) -> PoolProxiedConnection:
        """A pooled connection that is not known to be lost."""
        while True:
            connection = await self.engine.raw_connection()
            driver: Any = connection.driver_connection
            made_at = connection.info.setdefault("made_at", time.monotonic())
            if made_at > self._lost_at and not driver.is_closed():
                return connection
            connection.invalidate()
            connection.close()

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except (IntegrityError, asyncpg.IntegrityConstraintViolationError):
            raise  # the store handles it
        except (DBAPIError, asyncpg.PostgresError, *_UNAVAILABLE) as error:
            if sqlstate(error)[:2] in _REFUSED:
                raise StoreRefusedError from error
            if self._warnings is not None:
                self._warnings.warn(f"the database {reason(error)}")
            raise StoreUnavailableError from error

    @asynccontextmanager
    async def crowd(self) -> AsyncGenerator[None]:
        """Wait for one of the `CROWD_SIZE` connections that creates share, or raise StoreUnavailableError."""
        with self._translated():
            try:
                async with asyncio.timeout(ACQUIRE_SECONDS):
                    await self._crowd.acquire()
            except TimeoutError:
                raise PoolTimeoutError from None
        try:
            yield
        finally:
            self._crowd.release()

    @property
    def in_use(self) -> int:
        """Connections in use, of `POOL_SIZE`."""
        return self.engine.pool.checkedout()  # type: ignore[attr-defined,no-any-return]  # a QueuePool

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()

    async def ping(self) -> None:
        """Raises StoreUnavailableError if the database does not answer or is read-only (as after a failover)."""
        if not await self.run(_PING, {}):
            self._lost_at = time.monotonic()  # a session may keep what it began with
            self._writes.failed("the database takes no writes: sessions of that time are replaced")
            raise StoreUnavailableError
        self._writes.works("the database takes writes again")


_DIALECT: Final = PGDialect_asyncpg()  # type: ignore[no-untyped-call]


@functools.lru_cache(maxsize=256)
def _compiled(statement: Executable, given: tuple[str, ...]) -> tuple[str, Sequence[str], Mapping[str, Any]]:
    """The statement as text, the names of its parameters in order, and the values of its constants."""
    compiled: Any = statement.compile(dialect=_DIALECT, column_keys=list(given))  # type: ignore[attr-defined]
    names = compiled.positiontup or ()
    return str(compiled), names, {name: compiled.params[name] for name in names if not compiled.binds[name].required}
