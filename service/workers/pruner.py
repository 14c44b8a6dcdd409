"""Deletes rows that nobody needs any more, a batch at a time. Any number of processes may run a pruner."""

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from runtime.aio import PeriodicLoop
from service.application.ports import Clock, Outbox, Reservations, Store
from service.domain.errors import StoreUnavailableError

_log = logging.getLogger(__name__)

KEYS_KEPT: Final = timedelta(days=30)
"""How long a repeated create is known by its idempotency key or message id; later it is a new one."""
POLL_SECONDS: Final = 60.0
BATCH: Final = 500
"""Rows of a kind in one pass: a few milliseconds of the database's time."""
BUSY_SECONDS: Final = 1.0
"""Between two passes while there is more: payments need the database, too."""


@dataclass(kw_only=True, eq=False)
class Pruner:
    """Deletes old keys of requests, sent events and expired reservations; never payments or journals."""

    store: Store
    outbox: Outbox
    reservations: Reservations
    clock: Clock
    events_kept: timedelta

    def __post_init__(self) -> None:
        self._loop = PeriodicLoop(
            trouble="old keys and events cannot be pruned", poll_seconds=POLL_SECONDS, passing=StoreUnavailableError
        )

    async def run(self) -> None:
        """Prune until `stop`."""
        await self._loop.run(self._pass)

    def stop(self) -> None:
        """End `run` after the current pass."""
        self._loop.stop()

    async def prune_next(self) -> bool:
        """Run one pass; whether there may be more to prune."""
        now = self.clock.now()
        keys = await self.store.prune_keys(before=now - KEYS_KEPT, limit=BATCH)
        events = await self.outbox.prune_sent(before=now - self.events_kept, limit=BATCH)
        reservations = await self.reservations.prune_reservations(before=now, limit=BATCH)
        if keys or events or reservations:
            _log.info("pruned %d keys of requests, %d sent events and %d reservations", keys, events, reservations)
        return BATCH in {keys, events, reservations}

    async def _pass(self) -> float:
        return BUSY_SECONDS if await self.prune_next() else POLL_SECONDS
