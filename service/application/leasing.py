"""Leasing turns for one process: of what the replicas share, or of its own making while that is away."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from service.application.leases import Lease, Leases, LocalLeases, Rates
from service.domain.errors import StoreUnavailableError

_log = logging.getLogger(__name__)

BURST_SECONDS: Final = 0.1
"""How far back the turns go that nobody has had: a call that comes a little early need not wait."""
LEASE_SECONDS: Final = 2.0
"""How long the store may take for a lease."""
AGAIN_SECONDS: Final = 1.0
"""Between two looks for a store that is away, as long as turns are wanted."""
_LONGEST_TRIP_SECONDS: Final = 0.5
_TRIP_KEPT: Final = 0.8
"""Of the longest trip lately, at each one after it."""


class Leasing:
    """One per process. `leases`: what the replicas share; None: this process is alone."""

    def __init__(self, *, rates: Rates, leases: Leases | None, clock: Callable[[], float]) -> None:
        """`clock`: seconds, of any beginning."""
        self._leases = leases
        self._local = LocalLeases(rates=rates, clock=clock)
        self._clock = clock
        self._trip_seconds = 0.0
        self._busy: dict[str, int] = {}
        self._looked_at: float | None = None
        """When the store was last asked in vain; None: it answers."""
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_alone(self) -> bool:
        """Whether the store is away, and the turns are of this process's own making."""
        return self._looked_at is not None

    async def lease(self, name: str, *, turns: int, horizon_seconds: float, waiting: int | None) -> tuple[Lease, float]:
        """A lease, and when it was asked for. While the store is away, the others are thought to go on as they did."""
        sent = self._clock()
        earliest = self._trip_seconds - BURST_SECONDS  # what would be over when the answer comes is not worth having
        if self._leases is not None and self._looked_at is None:
            try:
                async with asyncio.timeout(LEASE_SECONDS):
                    lease = await self._leases.lease(
                        name, turns=turns, earliest_seconds=earliest, horizon_seconds=horizon_seconds, waiting=waiting
                    )
            except Exception as error:  # noqa: BLE001 - whatever it is, those in line must not wait for nothing
                unforeseen = None if isinstance(error, (StoreUnavailableError, TimeoutError)) else error
                told = type(error).__name__
                _log.warning("turns cannot be shared, each replica paces itself: %s", told, exc_info=unforeseen)
                self._looked_at = self._clock()
            else:
                self._trip_seconds = min(
                    _LONGEST_TRIP_SECONDS, max(self._clock() - sent, self._trip_seconds * _TRIP_KEPT)
                )
                self._busy[name] = lease.busy
                return lease, sent
        if self._leases is not None and self._looked_at is not None:
            if self._clock() - self._looked_at >= AGAIN_SECONDS:
                self._looked_at = self._clock()
                self._start(self._look(self._leases, name), name="budget-look")
            sent = self._clock()
        lease = self._local.take(
            name,
            turns=turns,
            earliest_seconds=-BURST_SECONDS,
            horizon_seconds=horizon_seconds,
            share=1 / (1 + self._busy.get(name, 0)),
        )
        return lease, sent

    def slow(self, name: str) -> bool:
        """Halve the pace, here at once and for all others in a moment; False if that has just been done."""
        lowered = self._local.lower(name)
        if lowered and self._leases is not None:
            self._start(self._slow(self._leases, name), name=f"budget-slow-{name}")
        return lowered

    async def close(self) -> None:
        """End what runs."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _look(self, leases: Leases, name: str) -> None:
        try:
            async with asyncio.timeout(LEASE_SECONDS):
                await leases.lease(name, turns=0, earliest_seconds=0, horizon_seconds=0, waiting=None)
        except (StoreUnavailableError, TimeoutError):
            return
        self._looked_at = None
        _log.info("turns are shared again")

    async def _slow(self, leases: Leases, name: str) -> None:
        try:
            async with asyncio.timeout(LEASE_SECONDS):
                await leases.slow(name)
        except (StoreUnavailableError, TimeoutError) as error:
            _log.warning("the other replicas do not hear that Stripe limits us: %s", type(error).__name__)

    def _start(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
