"""Opens sessions at the host that takes writes, and sets up nothing in them that a pooler in between would lose."""

import functools
import logging
from asyncio.staggered import staggered_race
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import asyncpg

from runtime import connection_urls

_log = logging.getLogger(__name__)

CONNECT_SECONDS: Final = 3.0
STAGGER_SECONDS: Final = 0.5
"""After which the next host is tried as well: one that was switched off does not answer at all."""
WRITABLE: Final = "read-write"
"""What is asked of a host unless the URL says otherwise (`target_session_attrs`)."""


class Sessions:
    """Opens sessions of one URL, which may name several hosts: that one of them takes writes is found out each time.

    A pooler (PgBouncer) gives out sessions of its own, and in transaction mode another one for each transaction. So
    behind one no statement is prepared under a name and no setting is made, as it would be for somebody else. A pooler
    is recognised by its key for cancelling, which is not that of the server's process. Without a pooler, both are used:
    a prepared statement costs half the time, and the server ends what we have given up.
    """

    def __init__(self, url: str, *, settings: Mapping[str, str] | None = None, **options: Any) -> None:
        """`url`: `postgresql://user:password@host1:port,host2:port/name`; `options`: as `asyncpg.connect`."""
        self.pooled: bool | None = None
        """Whether a pooler is in between; None before the first session."""
        self._hosts: list[tuple[str | None, int | None]] = [*connection_urls.database_hosts(url)] or [(None, None)]
        self._url = "postgresql://" + connection_urls.without_database_hosts(url).partition("://")[2]
        chosen = "target_session_attrs" in parse_qs(urlsplit(self._url).query)
        self._options = {
            "timeout": CONNECT_SECONDS,
            **({} if chosen else {"target_session_attrs": WRITABLE}),
            **options,
        }
        self._settings = dict(settings or {})

    async def open(self) -> asyncpg.Connection:
        """A new session.

        Raises:
            OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InternalClientError: of the host that tells most.
        """
        if self.pooled is not None:
            return await self._open(pooled=self.pooled)
        connection = await self._open(pooled=True)
        try:
            process, limit = await connection.fetchrow("SELECT pg_backend_pid(), current_setting('statement_timeout')")
        except BaseException:
            connection.terminate()
            raise
        self.pooled = process != connection.get_server_pid()
        if not self.pooled:
            connection.terminate()
            return await self._open(pooled=False)
        _log.info("a pooler is between us and the database: no statement is prepared under a name")
        if limit == "0" and self._settings.get("statement_timeout", limit) != limit:
            _log.warning("the pooler's sessions have no statement_timeout: set it for the role (ALTER ROLE ... SET)")
        return connection

    async def _open(self, *, pooled: bool) -> asyncpg.Connection:
        """A session at the first host that is willing; the next time that one is asked first."""
        attempts = [
            functools.partial(self._connected, host=host, port=port, pooled=pooled) for host, port in self._hosts
        ]
        if len(attempts) == 1:
            return await attempts[0]()
        connection, index, errors = await staggered_race(attempts, STAGGER_SECONDS)
        if index is None:
            raise min((error for error in errors if error is not None), key=_told_last)
        self._hosts = [*self._hosts[index:], *self._hosts[:index]]
        return connection

    async def _connected(self, *, host: str | None, port: int | None, pooled: bool) -> asyncpg.Connection:
        bare = {"statement_cache_size": 0} if pooled else {"server_settings": self._settings}
        return await asyncpg.connect(self._url, host=host, port=port, **self._options, **bare)


def _told_last(error: BaseException) -> int:
    """Of several hosts' errors an impostor's counts first, then what a server says, then silence."""
    if connection_urls.distrust(error) is not None:
        return 0
    return 2 if isinstance(error, OSError | TimeoutError) else 1
