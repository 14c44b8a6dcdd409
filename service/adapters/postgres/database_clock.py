"""The database's time, by which replicas compare: a machine's own clock may be wrong, by minutes or hours."""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import func, select

from runtime.aio import LogOnChange
from service.adapters.postgres.database import Database
from service.domain.errors import StoreUnavailableError

_log = logging.getLogger(__name__)

MEASURE_SECONDS: Final = 10.0
WARNED: Final = timedelta(seconds=30)
_NOW: Final = select(func.clock_timestamp().label("now"))


async def database_now(database: Database) -> datetime:
    """The time by the database's clock, for a command that needs it once.

    Raises:
        StoreUnavailableError
    """
    clock = DatabaseClock(database)
    await clock.measure()
    return clock.now()


class DatabaseClock:
    """See the port `Clock`. Between two measurements it counts on by the monotonic clock, which no step moves."""

    def __init__(
        self,
        database: Database,
        *,
        machine: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`machine`: the clock that is measured, and used until the first measurement."""
        self.skew: timedelta | None = None
        """How far the machine's clock is ahead of the database's, behind if negative; None before it was measured."""
        self._database = database
        self._machine, self._monotonic = machine, monotonic
        self._known, self._known_at = machine(), monotonic()
        self._warning = LogOnChange(_log)

    def now(self) -> datetime:
        return self._known + timedelta(seconds=self._monotonic() - self._known_at)

    async def measure(self) -> None:
        """Ask the database; an answer that took too long to be more exact than what is known changes nothing.

        Raises:
            StoreUnavailableError
        """
        began = self._monotonic()
        (row,) = await self._database.run(_NOW, {})
        ended = self._monotonic()
        uncertain = timedelta(seconds=(ended - began) / 2)
        measured = row.now + uncertain
        if self.skew is None or abs(measured - self.now()) > uncertain:
            self._known, self._known_at = measured, ended
        self.skew = self._machine() - measured
        if abs(self.skew) >= WARNED:
            seconds = self.skew.total_seconds()
            self._warning.failed(
                "this machine's clock is %+.0f s from the database's, whose time is used: set it right", seconds
            )
        else:
            self._warning.works("this machine's clock and the database's agree again")

    async def run(self) -> None:
        """Measure now and then, until cancelled."""
        while True:
            await asyncio.sleep(MEASURE_SECONDS)
            try:
                await self.measure()
            except StoreUnavailableError:
                continue  # others log it; the monotonic clock counts on
