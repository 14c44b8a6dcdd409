"""Who may call the gateway, and when: so many calls a second for each endpoint and for all, and so many at once."""

import asyncio
import itertools
import logging
import math
import time
from bisect import insort
from collections.abc import AsyncGenerator, Callable, Hashable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from runtime.aio import cancel
from service.ratelimit.permit import Endpoint, Permit, PermitDeniedError, PermitObserver, Priority
from service.ratelimit.queue import CHUNK_SECONDS, HORIZONS, SlidingWindow, Waiter, WaitQueue
from service.ratelimit.quota import GLOBAL, QuotaStore, Rates
from service.ratelimit.quota_source import QuotaSource

_log = logging.getLogger(__name__)

CLOSED_SECONDS: Final = 1.0
"""When to come back to a process that is ending: another one is there by then."""
_NEWEST: Final = 0.1
"""The weight of the newest call in the mean of how long calls take."""


@dataclass(kw_only=True, eq=False)
class RateLimiter:
    """One per process, over what all replicas share. Not thread-safe; everything happens in the event loop.

    `concurrency`: calls at once; `rates`: None if unlimited; `quota_store`: None if this process is alone.
    """

    concurrency: int
    rates: Rates | None
    quota_store: QuotaStore | None
    observer: PermitObserver
    now: Callable[[], datetime]
    """The clock by which reservations are dated: the one of all replicas."""
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        rates = self.rates
        self.mean_call_seconds = 0.0
        """How long calls take, of late."""
        self._held: set[Permit] = set()
        self._reads = 0  # of the held permits
        self._reserved: dict[tuple[Endpoint, Hashable], list[Permit]] = {}
        self._arrivals = itertools.count()
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._source = QuotaSource(rates=rates, store=self.quota_store, clock=self.clock) if rates else None
        self._chunk = max(1, int(rates.endpoint * CHUNK_SECONDS)) if rates else 0
        self._window = SlidingWindow(rates.everything) if rates and rates.everything else None
        self._queues = {
            endpoint: WaitQueue(
                endpoint=endpoint,
                window=SlidingWindow(rates.endpoint) if rates else None,
                step_seconds=max(rates.seconds, rates.everything_seconds) if rates else 0.0,
            )
            for endpoint in Endpoint
        }

    @property
    def is_local(self) -> bool:
        """Whether quota is this process's own because the store is away."""
        return self._source is not None and self._source.is_local

    def waiting(self) -> Iterator[tuple[Endpoint, Priority, int]]:
        """How many wait here."""
        for endpoint, queue in self._queues.items():
            for priority in Priority:
                yield endpoint, priority, queue.before((priority + 1,)) - queue.before((priority,))

    def rate_factor(self, endpoint: Endpoint) -> float:
        """The share of the endpoint's rate that is used: less than 1 for a while after Stripe said: too much."""
        return self._queues[endpoint].factor_at(self.clock())

    def is_free(self, endpoint: Endpoint) -> bool:
        """Whether a permit could be had at once: nobody waits for one, and one is there."""
        queue = self._queues[endpoint]
        if queue.waiting or self._room(Priority.WAITED) <= 0:
            return False
        return self._wait(queue, (Priority.WAITED, math.inf), 0) <= 0

    def wait_seconds(
        self,
        endpoint: Endpoint,
        arrived_at: datetime | None = None,
        *,
        priority: Priority = Priority.WRITE,
        ahead: int = 0,
    ) -> float:
        """Until somebody who arrived then would have a permit; `ahead`: how many will come and go first, anywhere."""
        return self._wait(self._queues[endpoint], self._rank(priority, arrived_at), ahead)

    async def acquire(
        self,
        endpoint: Endpoint,
        *,
        priority: Priority = Priority.WRITE,
        holder: Hashable = None,
        arrived_at: datetime | None = None,
        seconds: float | None = None,
        ahead: int = 0,
    ) -> Permit:
        """Wait for a permit; `release` must follow. With a `holder` it is reserved for that holder's next call.

        `arrived_at`: since when the caller waits, if it comes back; None: since now. `seconds`: how long it can wait.
        PermitDeniedError says that none will come in that time, at once if that is known at once.
        """
        came_at, queue = self.clock(), self._queues[endpoint]
        rank = self._rank(priority, arrived_at)
        if self._closed:
            raise self._denied(endpoint, came_at, CLOSED_SECONDS)
        if seconds is not None and (wait := self._wait(queue, rank, ahead)) > seconds:
            raise self._denied(endpoint, came_at, wait)
        future: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        waiter = Waiter(rank=(*rank, next(self._arrivals)), came_at=came_at, future=future)
        insort(queue.waiting, (waiter.rank, waiter))  # ranks differ, so waiters are never compared
        self._serve()
        try:
            async with asyncio.timeout(seconds):
                permit = await asyncio.shield(future)  # a permit may come between the end of the wait and this
        except PermitDeniedError as error:
            raise self._denied(endpoint, came_at, error.wait_seconds) from None
        except (TimeoutError, asyncio.CancelledError) as error:
            queue.leave(waiter)
            if future.done() and future.exception() is None:
                self.release(future.result())  # it came in the very moment in which nobody waited any longer
            else:
                self._serve()
            if isinstance(error, TimeoutError):
                raise self._denied(endpoint, came_at, self._wait(queue, rank, ahead)) from None
            raise
        if holder is not None:
            permit.holder = holder
            self._reserved.setdefault((endpoint, holder), []).append(permit)
        return permit

    def release(self, permit: Permit) -> None:
        """Give the permit back. If a call of its holder's has claimed it, nothing happens: the call gives it back."""
        if permit not in self._held:
            return
        self._held.remove(permit)
        self._reads -= permit.priority is not Priority.WRITE
        if permit.holder is not None:
            self._unreserve(permit)
        if permit.is_used:
            self.mean_call_seconds += (self.clock() - permit.granted_at - self.mean_call_seconds) * _NEWEST
        else:
            queue = self._queues[permit.endpoint]
            if queue.window is not None:
                queue.stock.appendleft(permit.slot)
            for window in (queue.window, self._window):
                if window is not None and permit.granted_at in window:
                    window.remove(permit.granted_at)
        result = "used" if permit.is_used else "unused"
        self.observer.on_permit(permit.endpoint.value, result, permit.waited_seconds)
        self._serve()

    @asynccontextmanager
    async def permit(
        self,
        endpoint: Endpoint,
        *,
        priority: Priority = Priority.WRITE,
        holder: Hashable = None,
        seconds: float | None = None,
    ) -> AsyncGenerator[Permit]:
        """Hold a permit for the block: the one that is reserved for `holder`, otherwise the next, as `acquire`."""
        if reserved := self._reserved.get((endpoint, holder)):
            claimed = reserved[-1]
            self._unreserve(claimed)
            permit = replace(claimed, holder=None)  # another one, so that whoever reserved it cannot give it back
            self._held.remove(claimed)
            self._held.add(permit)
        else:
            permit = await self.acquire(endpoint, priority=priority, seconds=seconds)
        try:
            yield permit
        finally:
            self.release(permit)

    def throttle(self, endpoint: Endpoint, *, everything: bool = False) -> None:
        """Halve the rate on all replicas, for a while: Stripe said that this endpoint, or `everything`, is too much."""
        if self._source is None:
            _log.debug("nothing to throttle: there is no rate")
        elif self._source.throttle(GLOBAL if everything else endpoint.value):
            _log.warning("Stripe limits us: half the rate for %s", "everything" if everything else endpoint.value)
            for queue in self._queues.values() if everything else [self._queues[endpoint]]:
                queue.throttle(self.clock())

    async def close(self) -> None:
        """Deny everybody who still waits, and end what runs for them."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for queue in self._queues.values():
            for _, waiter in queue.waiting:
                waiter.future.set_exception(PermitDeniedError(CLOSED_SECONDS))
            queue.waiting.clear()
        await cancel(queue.taking for queue in self._queues.values() if queue.taking is not None)
        if self._source is not None:
            await self._source.close()

    def _unreserve(self, permit: Permit) -> None:
        reserved = self._reserved[permit.endpoint, permit.holder]
        reserved.remove(permit)
        if not reserved:  # or every holder would leave an empty list behind
            del self._reserved[permit.endpoint, permit.holder]

    def _denied(self, endpoint: Endpoint, came_at: float, wait_seconds: float) -> PermitDeniedError:
        self.observer.on_permit(endpoint.value, "denied", self.clock() - came_at)
        return PermitDeniedError(wait_seconds)

    def _wait(self, own: WaitQueue, rank: tuple[float, ...], ahead: int) -> float:
        """Until somebody of that rank would have a permit."""
        now = self.clock()
        own.due_at(now)
        before = own.before(rank) if own.waiting else 0
        over = before + ahead + 1 - self._room(rank[0])
        for queue in self._queues.values():
            if queue.waiting and queue is not own:
                over += queue.ready(rank)
        by_concurrency = max(0, over) * self.mean_call_seconds / self.concurrency
        return max(own.seconds_until(before, now=now) + ahead * own.step_seconds, by_concurrency)

    def _room(self, priority: float) -> int:
        """How many of that priority could begin now. Reads, however many and slow, leave a quarter to the writes."""
        free = self.concurrency - len(self._held)
        if priority == Priority.WRITE:
            return free
        return min(free, self.concurrency - self.concurrency // 4 - self._reads)

    def _serve(self) -> None:
        """Grant what can be granted, take quota for the others, and wake up when there is something to do for them."""
        if self._closed:
            return
        now = self.clock()
        while (queue := self._next(now)) is not None:
            permit = queue.grant(now)
            self._held.add(permit)
            self._reads += permit.priority is not Priority.WRITE
            if self._window is not None:
                self._window.append(now)
        if self._timer is not None:
            self._timer.cancel()
        self._timer, wake_at = None, math.inf
        for queue in self._queues.values():
            if queue.waiting:
                wake_at = min(wake_at, self._prepare(queue, now))
        if wake_at < math.inf:
            self._timer = asyncio.get_running_loop().call_later(wake_at - now, self._serve)

    def _next(self, now: float) -> WaitQueue | None:
        """The endpoint that is served next. Writes leave reads an eighth of the concurrency."""
        best, best_order = None, (True, (math.inf, 0.0, 0))
        for queue in self._queues.values():
            if not queue.waiting:
                continue
            if self._window is not None and self._window.free_at() > now:
                return None
            rank = queue.waiting[0][0]
            if self._room(rank[0]) <= 0 or queue.due_at(now) > now:
                continue
            # False comes first.
            order = ((rank[0] == Priority.WRITE) is (self._reads < self.concurrency // 8), rank)
            if best is None or order < best_order:
                best, best_order = queue, order
        return best

    def _prepare(self, queue: WaitQueue, now: float) -> float:
        """Take quota if the queue, which somebody waits in, needs some; when to look at it again."""
        priority = queue.waiting[0][0][0]
        room = self._room(priority)
        if self._source is None or room <= 0:
            return math.inf  # until a permit is released
        wake_at = queue.due_at(now)
        if self._window is not None:
            wake_at = max(wake_at, self._window.free_at())
        wanted = min(room, len(queue.waiting)) - len(queue.stock)
        if wanted <= 0 or queue.taking is not None:
            return wake_at
        if queue.ask_at > now:
            return min(wake_at, queue.ask_at)
        take = self._take(self._source, queue, min(wanted, self._chunk), HORIZONS[Priority(priority)])
        queue.taking = asyncio.create_task(take, name=f"quota-{queue.endpoint.value}")
        return wake_at

    async def _take(self, source: QuotaSource, queue: WaitQueue, permits: int, horizon_seconds: float) -> None:
        waiting = queue.to_report(permits, now=self.clock())
        try:
            quota, asked_at = await source.take(
                queue.endpoint.value, permits=permits, horizon_seconds=horizon_seconds, waiting=waiting
            )
        finally:
            queue.taking = None
        queue.put(quota, asked_at=asked_at, now=self.clock(), horizon_seconds=horizon_seconds)
        self._serve()

    def _rank(self, priority: Priority, arrived_at: datetime | None) -> tuple[int, float]:
        return int(priority), (arrived_at or self.now()).timestamp()
