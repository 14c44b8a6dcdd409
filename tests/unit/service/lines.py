"""A line in virtual time: the budget's promises without a gateway, and the callers who stand in it.

Nothing here sleeps: the loop's time jumps to whatever happens next, and the clock is the loop's.
"""

import asyncio
import itertools
import math
from bisect import bisect_left, insort
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from service.application.admission import Admission
from service.application.budget import Budget, Endpoint, NoTurnError, Priority, Turn
from service.domain.errors import GatewayBusyError
from tests.fakes import FakePlaces

BEGINNING = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its time stands still while anything is ready, and then jumps to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self._seconds = 0.0
        self._selector: Any
        select = self._selector.select

        def jump(timeout: float | None = None) -> Any:
            if timeout:
                self._seconds += timeout
            return select(0)

        self._selector.select = jump

    def time(self) -> float:
        return self._seconds


class VirtualClock:
    """The running loop's time."""

    def now(self) -> datetime:
        return BEGINNING + timedelta(seconds=asyncio.get_running_loop().time())


class PacedLine(Budget):
    """One turn after the other at a steady rate, by place; what nobody takes in its time has passed."""

    def __init__(self, *, per_second: float) -> None:
        super().__init__(concurrency=1000)
        self.given: list[float] = []
        self._interval = 1 / per_second
        self._next = 0.0
        self._waiting: list[tuple[Any, ...]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    def is_free(self, endpoint: Endpoint) -> bool:  # noqa: ARG002
        return not self._waiting and self._next <= asyncio.get_running_loop().time()

    def wait_seconds(self, endpoint: Endpoint, place: datetime | None = None, *, ahead: int = 0) -> float:  # noqa: ARG002
        before = len(self._waiting) if place is None else bisect_left(self._waiting, (place, -1))
        return max(0.0, self._next - asyncio.get_running_loop().time()) + (before + ahead) * self._interval

    @asynccontextmanager
    async def turn(
        self,
        endpoint: Endpoint,
        *,
        priority: Priority = Priority.WRITE,  # noqa: ARG002
        place: datetime | None = None,
        seconds: float | None = None,
    ) -> AsyncGenerator[Turn]:
        assert seconds is not None
        if (wait := self.wait_seconds(endpoint, place)) > seconds:
            raise NoTurnError(wait)
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (place or VirtualClock().now(), next(self._order), mine)
        insort(self._waiting, entry)
        self._give()
        try:
            async with asyncio.timeout(seconds):
                await mine
        except TimeoutError:
            if mine.cancelled():  # else it came in the last moment
                self._waiting = [other for other in self._waiting if other is not entry]
                raise NoTurnError(self.wait_seconds(endpoint, place)) from None
        self.given.append(asyncio.get_running_loop().time())
        yield Turn()

    def _give(self) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is None and self._waiting:
            self._timer = loop.call_at(max(self._next, loop.time()), self._due)

    def _due(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        while self._waiting:
            *_, first = self._waiting.pop(0)
            if not first.done():
                first.set_result(None)
                self._next = max(self._next, loop.time()) + self._interval
                break
        self._give()


@dataclass(kw_only=True)
class Buyer:
    """Somebody with a booking, behind a client that comes back after Retry-After."""

    booking: int
    arrives: float
    refusals: int = 0
    served: float = math.inf
    longest_wait: float = 0


@dataclass(kw_only=True)
class Rush:
    """Buyers before some replicas that share one line and its kept places."""

    per_second: float
    replicas: int = 1
    patience: float = 10.0
    line: PacedLine = field(init=False)
    places: FakePlaces = field(default_factory=FakePlaces)

    def __post_init__(self) -> None:
        self.line = PacedLine(per_second=self.per_second)
        self.doors = [
            Admission(budget=self.line, places=self.places, clock=VirtualClock()) for _ in range(self.replicas)
        ]

    async def buy(self, buyer: Buyer, *, tries: int = 3, waits: float | None = None) -> None:
        """Comes, and comes back when it was told to, or after `waits` seconds whatever it was told."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, buyer.arrives - loop.time()))
        for attempt in range(tries):
            came = loop.time()
            deadline = VirtualClock().now() + timedelta(seconds=self.patience + 1)  # as it is read from a message
            door = self.doors[(buyer.booking + attempt) % len(self.doors)]
            try:
                async with door.alone(buyer.booking, deadline=deadline):
                    if buyer.served == math.inf:
                        async with door.turn(buyer.booking, deadline=deadline) as turn:
                            turn.used = True
                            buyer.served = loop.time()
            except GatewayBusyError as error:
                buyer.refusals += 1
                told = float(error.retry_after_seconds or math.inf)
            buyer.longest_wait = max(buyer.longest_wait, loop.time() - came)
            if buyer.served < math.inf:
                return
            await asyncio.sleep(told if waits is None else waits)

    async def run(self, *buyers: Buyer, **how: Any) -> None:
        await asyncio.gather(*(self.buy(buyer, **how) for buyer in buyers))


def virtually(coroutine: Any) -> Any:
    """What it answers, in no time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)
