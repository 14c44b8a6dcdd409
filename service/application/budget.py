"""The budget of calls to the gateway: whose turn it is, and when.

Stripe allows so many calls a second for each endpoint and for all of them, and we allow ourselves so many at once.
"""

import asyncio
import itertools
import logging
import math
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Final

from service.application.leases import EVERYTHING, Leases, Rates
from service.application.leasing import Leasing
from service.application.lines import Given, Guard, Line, Rank, Waiter

_log = logging.getLogger(__name__)

CHUNK_SECONDS: Final = 0.1
"""A lease is of as many turns as this takes, so that busy replicas alternate and a dead one takes little with it."""
TELL_SECONDS: Final = 0.5
"""Between two times that the other replicas are told of a line."""
CLOSED_SECONDS: Final = 1.0
"""When to come back to a process that is ending: another one is there by then."""
_LONGEST_BREAK_SECONDS: Final = 0.3
_SHORTEST_BREAK_SECONDS: Final = 0.005
_NEWEST: Final = 0.1
"""What the newest turn counts in the mean of how long they are held."""


class Endpoint(StrEnum):
    """What the gateway limits by itself: every named operation is its own endpoint."""

    CREATE = "create"
    RETRIEVE = "retrieve"
    LIST = "list"
    EXPIRE = "expire"
    EVENTS = "events"


class Priority(IntEnum):
    """Who goes first where calls compete."""

    WRITE = 0
    WAITED = 1
    """A read that somebody waits for."""
    BACKGROUND = 2
    """A read that nobody waits for."""


class NoTurnError(Exception):
    """The turn would not come in time; `wait_seconds` is when it would, counted from now."""

    def __init__(self, wait_seconds: float) -> None:
        super().__init__()
        self.wait_seconds = wait_seconds


class Turn:
    """The right to make one call now. Left unused, it goes to whoever is next."""

    def __init__(self, release: Callable[[], None] = lambda: None) -> None:
        self.used = False
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        """The call is over: others may go before the block ends. Whoever wants another call needs another turn."""
        release, self._release = self._release, None
        if release is not None:
            release()


_HORIZONS: Final = {Priority.WRITE: 0.3, Priority.WAITED: 0.15, Priority.BACKGROUND: 0.0}
"""Seconds: how far ahead turns are leased. Who may reach further is served first where replicas compete."""


class Budget:
    """One per process, over what all replicas share. Not thread-safe; everything happens in the event loop."""

    def __init__(
        self,
        *,
        concurrency: int,
        rates: Rates | None = None,
        leases: Leases | None = None,
        told: Callable[[str, str, float], None] = lambda *_: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`concurrency`: turns held at once in this process; `rates`: how many begin in a second, None: any number.

        `leases`: what the replicas share, None: this process is alone. `told` hears of each turn: the endpoint, `used`,
        `unused` or `refused`, and how long it was waited for. `clock`: seconds, of any beginning.
        """
        self._concurrency = concurrency
        self._held = self._reads = 0
        self._held_seconds = 0.0
        self._told = told
        self._clock = clock
        self._arrivals = itertools.count()
        self._closed = False
        self._leasing = Leasing(rates=rates, leases=leases, clock=clock) if rates else None
        self._chunk = max(1, int(rates.endpoint * CHUNK_SECONDS)) if rates else 0
        self._everything = Guard(rates.everything) if rates and rates.everything else None
        self._lines = {
            endpoint: Line(
                name=endpoint.value,
                guard=Guard(rates.endpoint) if rates else None,
                step_seconds=max(rates.seconds, rates.everything_seconds) if rates else 0.0,
            )
            for endpoint in Endpoint
        }

    @property
    def is_alone(self) -> bool:
        """Whether the turns are this process's own because the store is away."""
        return self._leasing is not None and self._leasing.is_alone

    def waiting(self) -> Iterator[tuple[Endpoint, Priority, int]]:
        """How many wait here."""
        for endpoint, line in self._lines.items():
            for priority in Priority:
                yield endpoint, priority, line.before((priority + 1,)) - line.before((priority,))

    def pace(self, endpoint: Endpoint) -> float:
        """The share of the endpoint's rate that is used: less than 1 for a while after Stripe said: too much."""
        return self._lines[endpoint].pace_at(self._clock())

    def is_free(self, endpoint: Endpoint) -> bool:
        """Whether a turn could be had at once: nobody waits for one, and one is there."""
        if self._lines[endpoint].waiting or self._room(Priority.WAITED) <= 0:
            return False
        return self.wait_seconds(endpoint, priority=Priority.WAITED) <= 0

    def wait_seconds(
        self,
        endpoint: Endpoint,
        place: datetime | None = None,
        *,
        priority: Priority = Priority.WRITE,
        coming: int = 0,
    ) -> float:
        """When somebody with that place would have a turn, counted from now: an estimate from what is known here.

        `coming`: how many will come before it to all replicas, besides those who wait.
        """
        rank = _rank(priority, place)
        now, line = self._clock(), self._lines[endpoint]
        line.due_at(now)
        ahead = line.before(rank)
        over = ahead + coming + 1 - self._room(priority)
        over += sum(other.ready(rank) for other in self._lines.values() if other is not line)
        by_slots = max(0, over) * self._held_seconds / self._concurrency
        return max(line.seconds_until(ahead, now=now) + coming * line.step_seconds, by_slots)

    @asynccontextmanager
    async def turn(
        self,
        endpoint: Endpoint,
        *,
        priority: Priority = Priority.WRITE,
        place: datetime | None = None,
        seconds: float | None = None,
    ) -> AsyncGenerator[Turn]:
        """Wait for a turn and hold it for the block.

        `place`: since when the caller stands in line, for those who come back; None: since now. `seconds`: how long it
        can wait; if the turn will not come in that time, `NoTurnError` is raised at once and not in the end.
        """
        came_at = self._clock()
        try:
            given = await self._wait(endpoint, priority, place, seconds)
        except NoTurnError:
            self._told(endpoint.value, "refused", self._clock() - came_at)
            raise

        def end() -> None:
            self._end(endpoint, priority, given, used=turn.used)
            self._told(endpoint.value, "used" if turn.used else "unused", given.at - came_at)

        turn = Turn(end)
        try:
            yield turn
        finally:
            turn.release()

    def slow(self, endpoint: Endpoint, *, everything: bool = False) -> None:
        """Stripe said that it is too much, of this endpoint or of `everything`: halve the pace, on all replicas.

        At most once a second; within a minute the pace is what it was.
        """
        if self._leasing is None:
            _log.debug("nothing to slow: calls are not paced")
        elif self._leasing.slow(EVERYTHING if everything else endpoint.value):
            _log.warning("Stripe limits us: half the pace for %s", "everything" if everything else endpoint.value)
            for line in self._lines.values() if everything else [self._lines[endpoint]]:
                line.halve(self._clock())

    async def close(self) -> None:
        """Send everybody away who still waits, and end what runs for them."""
        self._closed = True
        tasks = [line.leasing for line in self._lines.values() if line.leasing is not None]
        for line in self._lines.values():
            for _, waiter in line.waiting:
                waiter.future.set_exception(NoTurnError(CLOSED_SECONDS))
            line.waiting.clear()
            line.wake(math.inf, now=0, call=self._serve)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._leasing is not None:
            await self._leasing.close()

    async def _wait(
        self, endpoint: Endpoint, priority: Priority, place: datetime | None, seconds: float | None
    ) -> Given:
        if self._closed:
            raise NoTurnError(CLOSED_SECONDS)
        if seconds is not None and (wait := self.wait_seconds(endpoint, place, priority=priority)) > seconds:
            raise NoTurnError(wait)
        rank = (*_rank(priority, place), next(self._arrivals))
        waiter = Waiter(rank=rank, future=asyncio.get_running_loop().create_future())
        line = self._lines[endpoint]
        line.join(waiter)
        self._serve()
        if waiter.future.done():
            return waiter.future.result()
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(waiter.future)  # a turn may come between the end of the wait and this
        except (TimeoutError, asyncio.CancelledError) as error:
            line.leave(waiter)
            if not waiter.future.done() or waiter.future.exception() is not None:
                self._serve()
            else:  # it came in the very moment in which nobody waited any longer
                self._end(endpoint, priority, waiter.future.result(), used=False)
            if isinstance(error, TimeoutError):
                raise NoTurnError(self.wait_seconds(endpoint, place, priority=priority)) from None
            raise

    def _end(self, endpoint: Endpoint, priority: Priority, given: Given, *, used: bool) -> None:
        self._held -= 1
        self._reads -= priority is not Priority.WRITE
        if used:
            self._held_seconds += (self._clock() - given.at - self._held_seconds) * _NEWEST
        else:
            self._lines[endpoint].give_back(given)
            if self._everything is not None:
                self._everything.forget(given.at)
        self._serve()

    def _room(self, priority: int) -> int:
        """How many of that priority could begin now. Reads, however many and slow, leave a quarter to the writes."""
        free = self._concurrency - self._held
        if priority == Priority.WRITE:
            return free
        return min(free, self._concurrency - self._concurrency // 4 - self._reads)

    def _serve(self) -> None:
        """Give what can be given, and see to it that the others are served when it can be."""
        if self._closed:
            return
        now = self._clock()
        while (line := self._next(now)) is not None:
            priority = line.waiting[0][0][0]
            line.give(now)
            self._held += 1
            self._reads += priority != Priority.WRITE
            if self._everything is not None:
                self._everything.note(now)
        for line in self._lines.values():
            self._prepare(line, now)

    def _next(self, now: float) -> Line | None:
        """Whose turn it is among the endpoints. An eighth of what is held is for reads: writes may not end them all."""
        if self._everything is not None and self._everything.free_at() > now:
            return None
        ready = [
            line
            for line in self._lines.values()
            if line.waiting and self._room(line.waiting[0][0][0]) > 0 and line.due_at(now) <= now
        ]
        reads_first = self._reads < self._concurrency // 8

        def order(line: Line) -> tuple[bool, Rank]:
            rank = line.waiting[0][0]
            return (rank[0] == Priority.WRITE) is reads_first, rank

        return min(ready, key=order, default=None)

    def _prepare(self, line: Line, now: float) -> None:
        """Ask for a lease if the line needs one, and wake up when there is something to do for it."""
        priority = line.waiting[0][0][0] if line.waiting else Priority.WRITE
        if not line.waiting or self._leasing is None or self._room(priority) <= 0:
            line.wake(math.inf, now=now, call=self._serve)
            return
        wake_at = line.due_at(now)
        if self._everything is not None:
            wake_at = max(wake_at, self._everything.free_at())
        wanted = min(self._room(priority), len(line.waiting)) - len(line.stock)
        if wanted > 0 and line.leasing is None:
            if line.ask_at <= now:
                lease = self._lease(self._leasing, line, min(wanted, self._chunk), _HORIZONS[Priority(priority)])
                line.leasing = asyncio.create_task(lease, name=f"budget-lease-{line.name}")
            else:
                wake_at = min(wake_at, line.ask_at)
        line.wake(wake_at, now=now, call=self._serve)

    async def _lease(self, leasing: Leasing, line: Line, turns: int, horizon_seconds: float) -> None:
        waiting, now = len(line.waiting), self._clock()
        tell = waiting > turns and now - line.told_at >= TELL_SECONDS
        if tell:
            line.told_at = now
        try:
            lease, sent = await leasing.lease(
                line.name,
                turns=turns,
                horizon_seconds=horizon_seconds,
                waiting=waiting if tell else None,
            )
        finally:
            line.leasing = None
        now = self._clock()
        line.put(lease, sent=sent, now=now)
        line.ask_at = line.next_at - horizon_seconds
        if lease.turns and lease.busy:  # whoever has had nothing goes first
            line.ask_at += min(lease.busy * lease.turns * lease.step_seconds, _LONGEST_BREAK_SECONDS)
        elif not lease.turns:
            line.ask_at = max(line.ask_at, now + _SHORTEST_BREAK_SECONDS)
        self._serve()


def _rank(priority: Priority, place: datetime | None) -> tuple[int, float]:
    return int(priority), time.time() if place is None else place.timestamp()
