"""Tells what calls to the gateway came to in the last minute, for the console: it asks no replica, but the database."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import uuid4

from runtime.aio import PeriodicLoop
from service.application.ports.gateway_health import EndpointHealth, GatewayHealth
from service.domain.errors import StoreUnavailableError

EVERY_SECONDS: Final = 5.0
KEPT: Final = 13
"""Counts that are remembered: the oldest is a minute old."""


@dataclass(kw_only=True, eq=False)
class HealthTeller:
    """One per process. `totals`: what was counted since the process began; `per_second`: see `GatewayHealth.tell`."""

    store: GatewayHealth
    totals: Callable[[], Sequence[EndpointHealth]]
    per_second: float

    def __post_init__(self) -> None:
        self._replica = str(uuid4())
        self._seen: deque[Sequence[EndpointHealth]] = deque([self.totals()], KEPT)
        self._loop = PeriodicLoop(
            trouble="how Stripe does cannot be told", poll_seconds=EVERY_SECONDS, passing=StoreUnavailableError
        )

    async def run(self) -> None:
        """Tell until `stop`."""
        await self._loop.run(self._pass)

    def stop(self) -> None:
        """End `run` after the current pass."""
        self._loop.stop()

    async def tell(self) -> None:
        """Tell once."""
        now = self.totals()
        self._seen.append(now)
        lately = [
            replace(new, sent=new.sent - old.sent, calls=new.calls - old.calls, failed=new.failed - old.failed)
            for new, old in zip(now, self._seen[0], strict=True)
        ]
        await self.store.tell(self._replica, lately, per_second=self.per_second)

    async def _pass(self) -> float:
        await self.tell()
        return EVERY_SECONDS
