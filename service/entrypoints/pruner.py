"""The pruner: forgets what nobody needs any more, a little at a time. Any number of processes may run one."""

import logging
from datetime import timedelta
from typing import Final

from service.application.ports import Clock, Outbox, Places, Store
from service.entrypoints.rounds import Rounds

_log = logging.getLogger(__name__)

KEYS_KEPT: Final = timedelta(days=30)
"""How long a caller may repeat a create under its idempotency key."""
POLL_SECONDS: Final = 60.0
BATCH: Final = 500
"""So many rows of a kind in one round: few milliseconds of the database's time."""
BUSY_SECONDS: Final = 1.0
"""Between two rounds when there is more: the database is there for payments."""


class Pruner:
    """Deletes old idempotency keys, sent events and kept places; never payments, journals or message ids."""

    def __init__(self, *, store: Store, outbox: Outbox, places: Places, clock: Clock, events_kept: timedelta) -> None:
        self._store = store
        self._outbox = outbox
        self._places = places
        self._clock = clock
        self._events_kept = events_kept
        self._rounds = Rounds(trouble="old keys and events cannot be pruned", poll_seconds=POLL_SECONDS)

    async def run(self) -> None:
        """Prune until `stop`."""
        await self._rounds.run(self._round)

    def stop(self) -> None:
        """End `run` after the round that is under way."""
        self._rounds.stop()

    async def prune_next(self) -> bool:
        """One round; whether there may be more to prune."""
        now = self._clock.now()
        keys = await self._store.prune_keys(before=now - KEYS_KEPT, limit=BATCH)
        events = await self._outbox.prune_sent(before=now - self._events_kept, limit=BATCH)
        places = await self._places.prune_places(before=now, limit=BATCH)
        if keys or events or places:
            _log.info("pruned %d idempotency keys, %d sent events and %d kept places", keys, events, places)
        return BATCH in {keys, events, places}

    async def _round(self) -> float:
        return BUSY_SECONDS if await self.prune_next() else POLL_SECONDS
