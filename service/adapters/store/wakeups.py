"""NOTIFY as an alarm clock: it only wakes. A notification may be lost, so nothing may depend on one."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import asyncpg

from service.adapters.store.database import COMMAND_SECONDS, CONNECT_SECONDS, dsn
from service.adapters.store.statements import OUTBOX_CHANNEL

_log = logging.getLogger(__name__)

_RECONNECT_SECONDS: Final = 2.0
_PROBE_SECONDS: Final = 10.0


class Wakeups:
    """Listens on a connection of its own; `wait` returns at a notification for the relays or after a time."""

    def __init__(
        self,
        url: str,
        *,
        heard: Mapping[str, Callable[[str], None]] = MappingProxyType({}),
        missed: Callable[[], None] = lambda: None,
    ) -> None:
        """`url`: as `Database` takes it.

        `heard`: by channel, what is called with each notification's payload. `missed` is called whenever listening
        begins (again): what came before, nobody heard.
        """
        self._url = dsn(url)
        self._heard = heard
        self._missed = missed
        self._rung = asyncio.Event()
        self._listening = True

    async def wait(self, seconds: float) -> None:
        """Return at the next notification, at once if one came since the last call, or after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        except TimeoutError:
            pass
        self._rung.clear()

    def ring(self) -> None:
        """Wake whoever waits."""
        self._rung.set()

    async def run(self) -> None:
        """Listen for ever, reconnecting; to be run as a task and cancelled at the end."""
        while True:
            try:
                await self._listen()
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                if self._listening:  # one line per change
                    _log.warning("not listening for notifications, the timer goes on: %s", type(error).__name__)
                self._listening = False
                await asyncio.sleep(_RECONNECT_SECONDS)

    async def _listen(self) -> None:
        connection = await asyncpg.connect(self._url, timeout=CONNECT_SECONDS, command_timeout=COMMAND_SECONDS)
        try:
            for channel in {OUTBOX_CHANNEL, *self._heard}:
                await connection.add_listener(channel, self._hear)
            self.ring()  # whatever came while nobody listened
            self._missed()
            if not self._listening:
                _log.info("listening for notifications again")
            self._listening = True
            while True:
                await asyncio.sleep(_PROBE_SECONDS)
                await connection.execute("SELECT 1")  # a dead connection says nothing by itself
        finally:
            connection.terminate()

    def _hear(self, _connection: object, _pid: int, channel: str, payload: object) -> None:
        if channel == OUTBOX_CHANNEL:
            self.ring()
        if (callback := self._heard.get(channel)) is not None:
            callback(str(payload))
