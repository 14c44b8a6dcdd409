"""NOTIFY as an alarm clock: it only wakes. A notification may be lost, so nothing may depend on one."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

import asyncpg

from service.adapters.store.database import COMMAND_SECONDS, CONNECT_SECONDS, dsn
from service.adapters.store.statements import OUTBOX_CHANNEL

_log = logging.getLogger(__name__)

_RECONNECT_SECONDS: Final = 2.0
_PROBE_SECONDS: Final = 10.0


class Wakeups:
    """Listens on a connection of its own; `wait` returns at a notification of the outbox or after a time."""

    def __init__(self, url: str, *, heard: Mapping[str, Callable[[str], None]] | None = None) -> None:
        """`url`: as `Database` takes it; `heard`: who hears the payloads of other channels."""
        self._url = dsn(url)
        self._heard = heard or {}
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
            await connection.add_listener(OUTBOX_CHANNEL, lambda *_: self.ring())
            for channel, hear in self._heard.items():
                await connection.add_listener(channel, _of_payload(hear))
            self.ring()  # whatever came while nobody listened
            if not self._listening:
                _log.info("listening for notifications again")
            self._listening = True
            while True:
                await asyncio.sleep(_PROBE_SECONDS)
                await connection.execute("SELECT 1")  # a dead connection says nothing by itself
        finally:
            connection.terminate()


def _of_payload(hear: Callable[[str], None]) -> Callable[..., None]:
    return lambda _connection, _pid, _channel, payload: hear(payload)
