"""One endpoint's wait queue in one process: who waits, the slots taken from the quota, and what was granted lately."""

import asyncio
import math
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from service.ratelimit.permit import Endpoint, Permit, Priority, Slot
from service.ratelimit.quota import LOWEST_FACTOR, RECOVERY_SECONDS, STALE_SECONDS, Quota

CHUNK_SECONDS: Final = 0.1
"""A quota is of as many permits as this takes, so that busy replicas alternate and a dead one wastes little."""
HORIZONS: Final = {Priority.WRITE: 0.3, Priority.WAITED: 0.15, Priority.BACKGROUND: 0.0}
"""Seconds: how far ahead quota is taken. Who may reach further is served first where replicas compete."""
TOLERANCE_SECONDS: Final = 0.15
"""How long after its time a slot may be used: slots are spaced evenly, so no second sees over 1.15 x the rate."""

REPORT_SECONDS: Final = 0.5
"""Between two reports of a queue to the other replicas."""
_LONGEST_BREAK_SECONDS: Final = 0.3
_SHORTEST_BREAK_SECONDS: Final = 0.005

Rank = tuple[int, float, int]
"""A waiter's position: priority, arrival, and the order of joining. The lowest is first."""

ALWAYS: Final = Slot(at=-math.inf, ends=math.inf)
"""Where there is no rate."""


@dataclass(kw_only=True, eq=False, slots=True)
class Waiter:
    """Somebody in the queue since `came_at`. The future gets the permit."""

    rank: Rank
    came_at: float
    future: "asyncio.Future[Permit]"


class SlidingWindow(deque[float]):
    """At most `rate` grants in any second, whatever the quota gave: what a process missed, it must not make up for.

    Append the moment of each grant; remove that of a grant that was not used.
    """

    def __init__(self, rate: float) -> None:
        super().__init__(maxlen=math.ceil(rate))
        self._seconds = math.ceil(rate) / rate

    def free_at(self) -> float:
        """From when on one more is allowed."""
        return self[0] + self._seconds if len(self) == self.maxlen else -math.inf


@dataclass(kw_only=True, eq=False)
class WaitQueue:
    """The queue itself. It decides nothing; times are the process's own."""

    endpoint: Endpoint
    window: SlidingWindow | None
    """None: there is no rate."""
    step_seconds: float
    waiting: list[tuple[Rank, Waiter]] = field(default_factory=list)
    """Sorted, so that every position is known; to insert moves pointers, which is cheap for many thousands."""
    stock: deque[Slot] = field(default_factory=deque)
    next_at: float = -math.inf
    """When the first slot is that nobody has taken, as far as this process knows."""
    ask_at: float = -math.inf
    """Until then no more quota is asked for."""
    reported_at: float = -math.inf
    """When the other replicas were last told that many wait here."""
    busy: int = 0
    """Other replicas with a queue for this endpoint."""
    factor: float = 1.0
    """The rate factor when quota was last taken, at `taken_at`."""
    taken_at: float = -math.inf
    taking: asyncio.Task[None] | None = None

    def leave(self, waiter: Waiter) -> None:
        """Remove the waiter, if it still waits."""
        index = self.before(waiter.rank)
        if index < len(self.waiting) and self.waiting[index][1] is waiter:
            del self.waiting[index]

    def before(self, rank: tuple[float, ...]) -> int:
        """How many wait before that rank."""
        return bisect_left(self.waiting, (rank,))

    def ready(self, rank: tuple[float, ...]) -> int:
        """How many before that rank wait for nothing but concurrency."""
        return self.before(rank) if self.window is None else min(self.before(rank), len(self.stock))

    def due_at(self, now: float) -> float:
        """When the next slot of the stock can be granted; what nobody used in time is dropped."""
        while self.stock and self.stock[0].ends <= now:
            self.stock.popleft()
        if self.window is None:
            return -math.inf
        return max(self.stock[0].at, self.window.free_at()) if self.stock else math.inf

    def grant(self, now: float) -> Permit:
        """Give the next slot to the first waiter; one must be due, and somebody must wait."""
        rank, waiter = self.waiting.pop(0)
        slot = ALWAYS
        if self.window is not None:
            self.window.append(now)
            slot = self.stock.popleft()
        permit = Permit(
            endpoint=self.endpoint,
            priority=Priority(rank[0]),
            slot=slot,
            granted_at=now,
            waited_seconds=now - waiter.came_at,
        )
        waiter.future.set_result(permit)
        return permit

    def to_report(self, permits: int, *, now: float) -> int | None:
        """How many wait here, if they are more than `permits` and it is time to let the other replicas know."""
        if len(self.waiting) <= permits or now - self.reported_at < REPORT_SECONDS:
            return None
        self.reported_at = now
        return len(self.waiting)

    def put(self, quota: Quota, *, asked_at: float, now: float, horizon_seconds: float) -> None:
        """Stock a quota: the beginning of a slot counts from its answer, which came now, its end from its request."""
        for number in range(quota.permits):
            seconds = quota.first_seconds + number * quota.step_seconds
            self.stock.append(Slot(at=now + seconds, ends=asked_at + seconds + TOLERANCE_SECONDS))
        self.next_at = now + quota.first_seconds + quota.permits * quota.step_seconds
        self.step_seconds, self.busy = quota.step_seconds, quota.busy
        self.factor, self.taken_at = quota.factor, now
        self.ask_at = self.next_at - horizon_seconds
        if quota.permits and quota.busy:  # whoever has had nothing goes first
            self.ask_at += min(quota.busy * quota.permits * quota.step_seconds, _LONGEST_BREAK_SECONDS)
        elif not quota.permits:
            self.ask_at = max(self.ask_at, now + _SHORTEST_BREAK_SECONDS)

    def throttle(self, now: float) -> None:
        """Halve the rate; what is in stock was taken at the old one."""
        self.stock.clear()
        self.step_seconds *= 2
        self.factor, self.taken_at = max(LOWEST_FACTOR, self.factor_at(now) / 2), now

    def factor_at(self, now: float) -> float:
        """The rate factor, as it has recovered since it was last known."""
        return min(1.0, self.factor + (now - self.taken_at) / RECOVERY_SECONDS)

    def seconds_until(self, ahead: int, *, now: float) -> float:
        """When the permit comes that follows so many others here, by the rate alone."""
        if self.window is None:
            return 0.0
        if ahead < len(self.stock):
            return max(0.0, self.stock[ahead].at - now)
        sharing = 1 + (self.busy if now - self.taken_at < STALE_SECONDS else 0)
        behind = (ahead - len(self.stock)) * self.step_seconds * sharing
        return max(0.0, self.next_at - now) + behind
