"""Listens for NOTIFY. A notification may be lost, so it only makes work start sooner."""

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from typing import Final

import asyncpg

from runtime.aio import Backoff, LogOnChange, wait_or_timeout
from service.adapters.postgres.database import COMMAND_SECONDS
from service.adapters.postgres.reasons import reason
from service.adapters.postgres.sessions import Sessions
from service.adapters.postgres.statements import OUTBOX_CHANNEL

_log = logging.getLogger(__name__)

_PROBE_SECONDS: Final = 10.0
_SHARED_SECONDS: Final = 60.0
"""The pause between two checks whether the pooler keeps sessions by now."""
_DRIVER_ERRORS: Final = (asyncpg.InterfaceError, asyncpg.InternalClientError)
_PROBE_CHANNEL: Final = "payment_listener_probe"
_NOTIFIED_SECONDS: Final = 5.0
"""How long a notification may take to reach a session that is ours alone."""

LISTEN_ERRORS: Final = (OSError, TimeoutError, asyncpg.PostgresError, *_DRIVER_ERRORS)


class SharedSessionError(Exception):
    """A pooler gives the session to others between two transactions: notifications would reach somebody else."""


class PostgresListener:
    """Listens on a connection of its own, and wakes the relay: see `service.workers.relay.Wakeup`."""

    def __init__(
        self, url: str, *, on_notification: Mapping[str, Callable[[str], None]], on_reconnect: Callable[[], None]
    ) -> None:
        """`url`: as `Database` takes it.

        `on_notification`: by channel, what is called with the payload of each notification. `on_reconnect` is called
        whenever listening begins (again): earlier notifications were missed.
        """
        self._sessions = Sessions(url, command_timeout=COMMAND_SECONDS)
        self._on_notification = on_notification
        self._on_reconnect = on_reconnect
        self._woken = asyncio.Event()
        self._backoff = Backoff(first_seconds=1.0, longest_seconds=4.0)
        self._change = LogOnChange(_log)

    async def wait(self, seconds: float) -> None:
        """Return at the next notification, at once if one came since the last call, or after `seconds`."""
        await wait_or_timeout(self._woken, seconds)
        self._woken.clear()

    def wake(self) -> None:
        """End the wait."""
        self._woken.set()

    async def run(self) -> None:
        """Listen until cancelled, reconnecting when the connection is lost."""
        while True:
            try:
                await self._listen()
            except SharedSessionError:
                self._change.failed(
                    "a pooler in transaction mode drops notifications, polling goes on: "
                    "DATABASE_LISTEN_URL must lead to the database itself"
                )
                await asyncio.sleep(_SHARED_SECONDS)
            except LISTEN_ERRORS as error:
                self._change.failed("cannot listen for notifications, polling goes on: the database %s", reason(error))
                await asyncio.sleep(self._backoff.next_seconds())

    async def check(self) -> None:
        """Raise one of LISTEN_ERRORS, or SharedSessionError, unless one could listen now."""
        connection = await self._sessions.open()
        try:
            await self._refuse_shared(connection)
        finally:
            connection.terminate()

    async def _refuse_shared(self, connection: asyncpg.Connection) -> None:
        if self._sessions.pooled and await self._is_shared(connection):
            raise SharedSessionError

    async def _listen(self) -> None:
        connection = await self._sessions.open()
        try:
            await self._refuse_shared(connection)
            for channel in {OUTBOX_CHANNEL, *self._on_notification}:
                await connection.add_listener(channel, self._notified)
            self.wake()
            self._on_reconnect()
            self._change.works("listening for notifications again")
            self._backoff.reset()
            while True:
                await asyncio.sleep(_PROBE_SECONDS)
                # A dead connection is not noticed otherwise, nor that another host has become the one that writes.
                if await connection.fetchval("SELECT pg_is_in_recovery()"):
                    raise ConnectionError("the host is a standby now")
        finally:
            connection.terminate()

    async def _is_shared(self, connection: asyncpg.Connection) -> bool:
        """Whether others get this session between two transactions: then it hears no notification while it waits.

        Asked by a notification, since a pooler in transaction mode may give us the same server process many times.
        """
        token, notified = secrets.token_hex(8), asyncio.Event()

        def on_probe(_connection: object, _pid: int, _channel: str, payload: object) -> None:
            if payload == token:
                notified.set()

        await connection.add_listener(_PROBE_CHANNEL, on_probe)
        other = await self._sessions.open()
        try:
            await other.execute("SELECT pg_notify($1, $2)", _PROBE_CHANNEL, token)
            await wait_or_timeout(notified, _NOTIFIED_SECONDS)
        finally:
            await other.close()
        if notified.is_set():
            await connection.remove_listener(_PROBE_CHANNEL, on_probe)
        return not notified.is_set()

    def _notified(self, _connection: object, _pid: int, channel: str, payload: object) -> None:
        if channel == OUTBOX_CHANNEL:
            self.wake()
        if (callback := self._on_notification.get(channel)) is not None:
            callback(str(payload))
