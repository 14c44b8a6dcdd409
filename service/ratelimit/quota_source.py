"""Where one process gets its quota: from what the replicas share, or its own share of it while that is away."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from runtime.aio import cancel
from service.ratelimit.quota import LocalQuotaStore, Quota, QuotaStore, QuotaUnavailableError, Rates

_log = logging.getLogger(__name__)

BURST_SECONDS: Final = 0.1
"""How old an unused slot may be: a call that comes a little early need not wait."""
STORE_SECONDS: Final = 2.0
"""How long the store may take."""
PROBE_SECONDS: Final = 1.0
"""Between two probes of a store that is away, as long as permits are wanted."""
_LONGEST_TRIP_SECONDS: Final = 0.5
_TRIP_DECAY: Final = 0.8
"""What counts of the longest trip lately, at each trip after it."""


class QuotaSource:
    """One per process. `store`: what the replicas share; None: this process is alone."""

    def __init__(self, *, rates: Rates, store: QuotaStore | None, clock: Callable[[], float]) -> None:
        self._store = store
        self._local = LocalQuotaStore(rates=rates, clock=clock)
        self._clock = clock
        self._trip_seconds = 0.0
        self._busy: dict[str, int] = {}
        self._probed_at: float | None = None
        """When the store was last asked in vain; None: it answers."""
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_local(self) -> bool:
        """Whether the store is away, and this process takes its own share of the rates."""
        return self._probed_at is not None

    async def take(
        self, name: str, *, permits: int, horizon_seconds: float, waiting: int | None
    ) -> tuple[Quota, float]:
        """A quota, and when it was asked for. While the store is away, the others are assumed to go on."""
        if self._store is not None and self._probed_at is None:
            asked_at = self._clock()
            # A slot that would be over when the answer comes is not worth having.
            earliest = self._trip_seconds - BURST_SECONDS
            try:
                async with asyncio.timeout(STORE_SECONDS):
                    quota = await self._store.take(
                        name,
                        permits=permits,
                        earliest_seconds=earliest,
                        horizon_seconds=horizon_seconds,
                        waiting=waiting,
                    )
            except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must not wait for nothing
                unforeseen = None if isinstance(error, (QuotaUnavailableError, TimeoutError)) else error
                kind = type(error).__name__
                _log.warning("quota cannot be shared, each replica limits itself: %s", kind, exc_info=unforeseen)
                self._probed_at = self._clock()
            else:
                trip = max(self._clock() - asked_at, self._trip_seconds * _TRIP_DECAY)
                self._trip_seconds = min(_LONGEST_TRIP_SECONDS, trip)
                self._busy[name] = quota.busy
                return quota, asked_at
        asked_at = self._clock()
        if self._store is not None and self._probed_at is not None and asked_at - self._probed_at >= PROBE_SECONDS:
            self._probed_at = asked_at
            self._start(self._ask_again(self._store, name), name="quota-probe")
        quota = await self._local.take(
            name,
            permits=permits,
            earliest_seconds=-BURST_SECONDS,
            horizon_seconds=horizon_seconds,
            share=1 / (1 + self._busy.get(name, 0)),
        )
        return quota, asked_at

    def throttle(self, name: str) -> bool:
        """Halve the rate, here at once and for all replicas in a moment; False if that has just been done."""
        halved = self._local.throttle_now(name)
        if halved and self._store is not None:
            self._start(self._share_throttle(self._store, name), name=f"quota-throttle-{name}")
        return halved

    async def close(self) -> None:
        """End what runs."""
        await cancel(self._tasks)

    async def _ask_again(self, store: QuotaStore, name: str) -> None:
        """Probe the store, without anybody waiting for it."""
        try:
            async with asyncio.timeout(STORE_SECONDS):
                await store.take(name, permits=0, earliest_seconds=0, horizon_seconds=0, waiting=None)
        except (QuotaUnavailableError, TimeoutError):
            return
        self._probed_at = None
        _log.info("quota is shared again")

    async def _share_throttle(self, store: QuotaStore, name: str) -> None:
        try:
            async with asyncio.timeout(STORE_SECONDS):
                await store.throttle(name)
        except (QuotaUnavailableError, TimeoutError) as error:
            _log.warning("the other replicas do not learn that Stripe limits us: %s", type(error).__name__)

    def _start(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
