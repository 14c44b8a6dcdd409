"""One endpoint's line in one process: who waits, the turns that were leased, and what was given lately."""

import asyncio
import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from service.application.leases import RECOVERY_SECONDS, SLOWEST, STALE_SECONDS, Lease

TOLERANCE_SECONDS: Final = 0.15
"""How long after its time a turn may be used: turns are spaced evenly, so no second sees over 1.15 x the rate."""

Rank = tuple[int, float, int]
"""Where somebody stands: priority, place, and in which order they came. The lowest is first."""


@dataclass(frozen=True, kw_only=True)
class Leased:
    """A turn that may be used from `at` on and before `ends`."""

    at: float
    ends: float


ALWAYS: Final = Leased(at=-math.inf, ends=math.inf)
"""Where nothing is paced."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """A turn that somebody has, and since when."""

    leased: Leased
    at: float


@dataclass(kw_only=True, eq=False)
class Waiter:
    """Somebody in the line. The future is done when it is their turn."""

    rank: Rank
    future: "asyncio.Future[Given]"


class Guard:
    """At most `limit` in any `seconds`, whatever was leased: what a process missed, it must not make up for."""

    def __init__(self, rate: float) -> None:
        self._limit = math.ceil(rate)
        self._seconds = self._limit / rate
        self._given: deque[float] = deque()

    def free_at(self) -> float:
        """From when on one more is allowed."""
        return self._given[0] + self._seconds if len(self._given) == self._limit else -math.inf

    def note(self, at: float) -> None:
        """One was given."""
        if len(self._given) == self._limit:
            self._given.popleft()
        self._given.append(at)

    def forget(self, at: float) -> None:
        """That one was not used."""
        if at in self._given:
            self._given.remove(at)


@dataclass(kw_only=True, eq=False)
class Line:
    """The line itself. It decides nothing; times are the process's own."""

    name: str
    guard: Guard | None
    """None: nothing is paced."""
    step_seconds: float
    waiting: list[tuple[Rank, Waiter]] = field(default_factory=list)
    """Sorted, so that everybody's place can be told; to insert moves pointers, which is cheap for many thousands."""
    stock: deque[Leased] = field(default_factory=deque)
    next_at: float = -math.inf
    """When the first turn is that nobody has, as far as is known here."""
    ask_at: float = -math.inf
    """Until then no lease is asked for."""
    told_at: float = -math.inf
    """When the other replicas were last told of this line."""
    busy: int = 0
    """Other replicas with a line."""
    pace: float = 1.0
    leased_at: float = 0.0
    leasing: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None
    wakes_at: float = math.inf

    def join(self, waiter: Waiter) -> None:
        """Stand in line."""
        insort(self.waiting, (waiter.rank, waiter), key=lambda entry: entry[0])

    def leave(self, waiter: Waiter) -> None:
        """Stand in it no longer."""
        index = self.before(waiter.rank)
        if index < len(self.waiting) and self.waiting[index][1] is waiter:
            del self.waiting[index]

    def before(self, rank: tuple[float, ...]) -> int:
        """How many stand before that rank."""
        return bisect_left(self.waiting, rank, key=lambda entry: entry[0])

    def wake(self, at: float, *, now: float, call: Callable[[], None]) -> None:
        """Call at that time and at no other; infinity: not at all."""
        if at == self.wakes_at:
            return
        if self.timer is not None:
            self.timer.cancel()
        self.wakes_at = at
        self.timer = None if at == math.inf else asyncio.get_running_loop().call_later(at - now, self._woken, call)

    def _woken(self, call: Callable[[], None]) -> None:
        self.timer, self.wakes_at = None, math.inf
        call()

    def due_at(self, now: float) -> float:
        """When the next turn of the stock can be given; what nobody used in time is dropped."""
        while self.stock and self.stock[0].ends <= now:
            self.stock.popleft()
        if self.guard is None:
            return -math.inf
        return max(self.stock[0].at, self.guard.free_at()) if self.stock else math.inf

    def give(self, now: float) -> Given:
        """The next turn, to whoever is first; to be called when one is due and somebody waits."""
        _, waiter = self.waiting.pop(0)
        leased = ALWAYS
        if self.guard is not None:
            self.guard.note(now)
            leased = self.stock.popleft()
        given = Given(leased=leased, at=now)
        waiter.future.set_result(given)
        return given

    def give_back(self, given: Given) -> None:
        """It was not used."""
        if self.guard is not None:
            self.guard.forget(given.at)
            self.stock.appendleft(given.leased)

    def put(self, lease: Lease, *, sent: float, now: float) -> None:
        """What was leased: begun when the answer came at the latest, over when the question left at the earliest."""
        for number in range(lease.turns):
            seconds = lease.first_seconds + number * lease.step_seconds
            self.stock.append(Leased(at=now + seconds, ends=sent + seconds + TOLERANCE_SECONDS))
        self.next_at = now + lease.first_seconds + lease.turns * lease.step_seconds
        self.step_seconds, self.busy = lease.step_seconds, lease.busy
        self.pace, self.leased_at = lease.pace, now

    def halve(self, now: float) -> None:
        """Stripe says that it is too much: what was leased was leased at that pace."""
        self.stock.clear()
        self.step_seconds *= 2
        self.pace, self.leased_at = max(SLOWEST, self.pace_at(now) / 2), now

    def pace_at(self, now: float) -> float:
        """The share of the rate that is used, as it has recovered since it was last heard of."""
        return min(1.0, self.pace + (now - self.leased_at) / RECOVERY_SECONDS)

    def ready(self, rank: tuple[float, ...]) -> int:
        """How many of those before that rank wait for nothing but a slot."""
        return self.before(rank) if self.guard is None else min(self.before(rank), len(self.stock))

    def seconds_until(self, ahead: int, *, now: float) -> float:
        """When the turn comes before which there are so many others here, by the pace alone."""
        if self.guard is None:
            return 0.0
        if ahead < len(self.stock):
            return max(0.0, self.stock[ahead].at - now)
        sharing = 1 + (self.busy if now - self.leased_at < STALE_SECONDS else 0)
        behind = (ahead - len(self.stock)) * self.step_seconds * sharing
        return max(0.0, self.next_at - now) + behind
