"""Admission of creates: a turn to call the gateway, a place in line, or a time to come back and a kept place.

Who came first is served first, whichever replica it comes back to. A line is only as long as its callers' patience:
whoever would wait for longer hears at once when to come back, and is then served after about half of it.
"""

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from weakref import WeakValueDictionary

from service.application.budget import Budget, Endpoint, NoTurnError, Turn
from service.application.ports import Clock, Places
from service.domain.errors import GatewayBusyError, OutcomeUnknownError, StoreUnavailableError

PATIENCE_SECONDS: Final = 10.0
"""How long a create may wait and call altogether if its caller does not leave sooner: a handler has 12 s."""
DUE: Final = timedelta(seconds=5)
"""How long after its time a create that was told to come back is still expected: it may never come."""
KEPT: Final = timedelta(seconds=30)
"""How long after its time its place is kept."""
MAX_KEPT: Final = timedelta(minutes=10)
LOOK_SECONDS: Final = 0.25
"""How old the knowledge of all replicas' kept places may be, unless many more are kept meanwhile."""
LOOK_CHANGES: Final = 25
"""So many of our own: in a burst the other replicas keep as many."""
_RESOLUTION_SECONDS: Final = 1.0
"""A deadline may be that late: AMQP timestamps are whole seconds."""
_LEAST_CALL_SECONDS: Final = 1.0
_WEIGHT: Final = 0.1
"""Of the last call in the mean of what calls take."""


class NoPlaces:
    """Keeps no place: who is refused comes back as a newcomer."""

    async def keep(self, booking_id: int, *, arrived_at: datetime, due_until: datetime, kept_until: datetime) -> None:
        """Nothing is kept."""

    async def take(self, booking_id: int, *, at: datetime, kept_until: datetime) -> datetime | None:  # noqa: ARG002
        """Nobody has a place."""
        return None

    async def drop(self, booking_id: int) -> None:
        """There is nothing to drop."""

    async def due(self, *, at: datetime) -> dict[int, int]:  # noqa: ARG002
        """Nobody is expected."""
        return {}

    async def prune_places(self, *, before: datetime, limit: int) -> int:  # noqa: ARG002
        """There is nothing to forget."""
        return 0


@dataclass(kw_only=True, eq=False)
class _Change:
    """Places that we add or take away; `written` once they are stored so."""

    second: int
    number: int
    written: bool = False


class Expected:
    """Who has a kept place and has not come back yet, in all replicas: what is stored, and what we do meanwhile."""

    def __init__(self, places: Places, clock: Clock) -> None:
        self._places = places
        self._clock = clock
        self._counts: Counter[int] = Counter()
        self._changes: list[_Change] = []
        self._changed = 0
        self._looked_at = datetime.min.replace(tzinfo=UTC)
        self._looking = asyncio.Lock()

    def __len__(self) -> int:
        return max(0, self._counts.total())

    def before(self, arrived_at: datetime | None) -> int:
        """How many came before, to the second; None: before somebody who is new."""
        if arrived_at is None:
            return len(self)
        second = _second(arrived_at)
        return max(0, sum(count for arrived, count in self._counts.items() if arrived < second))

    async def look(self) -> None:
        """Read what is stored, unless somebody has just done so."""
        async with self._looking:
            now = self._clock.now()
            if self._changed < LOOK_CHANGES and (now - self._looked_at).total_seconds() < LOOK_SECONDS:
                return
            self._changed = 0
            seen = {change for change in self._changes if change.written}
            self._counts = Counter(await self._places.due(at=now))
            self._changes = [change for change in self._changes if change not in seen]
            for change in self._changes:
                self._counts[change.second] += change.number
            self._looked_at = now

    def back(self, arrived_at: datetime) -> None:
        """One of them is back, and that is stored."""
        with self.more(arrived_at, number=-1):
            pass

    @contextmanager
    def more(self, arrived_at: datetime, *, number: int = 1) -> Generator[None]:
        """One more, counted at once and not only when what the block writes is seen by a look."""
        change = _Change(second=_second(arrived_at), number=number)
        self._changes.append(change)
        self._changed += 1
        self._counts[change.second] += number
        try:
            yield
        finally:
            change.written = True


class Admission:
    """One per process, over the budget and the kept places that all replicas share."""

    def __init__(self, *, budget: Budget, places: Places, clock: Clock) -> None:
        self.refused = 0
        self._budget = budget
        self._clock = clock
        self._places = places
        self._expected = Expected(self._places, clock)
        self._mean_call_seconds = 0.0
        self._alone: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()

    @property
    def expected(self) -> int:
        """Creates of all replicas that were told to come back and have not yet, as far as is known here."""
        return len(self._expected)

    def is_free(self) -> bool:
        """Whether a create could be served at once."""
        return self._budget.is_free(Endpoint.CREATE)

    @asynccontextmanager
    async def alone(self, booking_id: int, *, deadline: datetime | None) -> AsyncGenerator[None]:
        """One create of a booking at a time: however often it is repeated, it stands in line once.

        Raises:
            OutcomeUnknownError: the one before it takes longer than the caller waits.
        """
        lock = self._alone.setdefault(booking_id, asyncio.Lock())
        try:
            async with asyncio.timeout(self._seconds(deadline)):
                await lock.acquire()
        except TimeoutError:
            raise OutcomeUnknownError from None
        try:
            yield
        finally:
            lock.release()

    @asynccontextmanager
    async def turn(self, booking_id: int, *, deadline: datetime | None) -> AsyncGenerator[Turn]:
        """Wait for the booking's turn to call the gateway, and hold it for the block.

        Raises:
            GatewayBusyError: it would not come before the caller's deadline; says when to come back, and the place is
                kept.
        """
        arrived_at = None if self.is_free() and not self.expected else await self._take(booking_id)
        place = arrived_at or self._clock.now()
        patience = self._seconds(deadline) - max(_LEAST_CALL_SECONDS, 2 * self._mean_call_seconds)
        if not self.is_free():
            wait = self._wait(arrived_at)
            if wait > patience:
                raise await self._refusal(booking_id, place, wait, patience)
        try:
            async with self._budget.turn(Endpoint.CREATE, place=place, seconds=max(patience, 0)) as turn:
                began = asyncio.get_running_loop().time()
                yield turn
                if turn.used:
                    seconds = asyncio.get_running_loop().time() - began
                    self._mean_call_seconds += _WEIGHT * (seconds - self._mean_call_seconds)
        except NoTurnError as error:
            wait = max(error.wait_seconds, self._wait(arrived_at))
            raise await self._refusal(booking_id, place, wait, patience) from None
        if arrived_at is not None:
            with contextlib.suppress(StoreUnavailableError):  # then it is forgotten a little later
                await self._places.drop(booking_id)

    def _seconds(self, deadline: datetime | None) -> float:
        """How long the caller still waits."""
        if deadline is None:
            return PATIENCE_SECONDS
        left = (deadline - self._clock.now()).total_seconds() - _RESOLUTION_SECONDS
        return min(left, PATIENCE_SECONDS)

    def _wait(self, arrived_at: datetime | None) -> float:
        """When the turn would come if everybody who came before takes theirs."""
        coming = self._expected.before(arrived_at)
        return self._budget.wait_seconds(Endpoint.CREATE, arrived_at, coming=coming)

    async def _take(self, booking_id: int) -> datetime | None:
        """The place that is kept for the booking; whoever holds it is no longer expected, but there."""
        await self._expected.look()
        if not self.expected:
            return None
        now = self._clock.now()
        arrived_at = await self._places.take(booking_id, at=now, kept_until=now + KEPT)
        if arrived_at is not None:
            self._expected.back(arrived_at)
        return arrived_at

    async def _refusal(self, booking_id: int, place: datetime, wait: float, patience: float) -> GatewayBusyError:
        """Coming back when it says, the create waits for half of its patience: early enough, and not for long.

        However long the line is, it is told to come back while its place is still kept.
        """
        self.refused += 1
        longest = (MAX_KEPT - KEPT).total_seconds()
        seconds = max(1, math.ceil(min(wait - max(patience, 0) / 2, longest)))
        back_at = self._clock.now() + timedelta(seconds=seconds)
        latest = self._clock.now() + MAX_KEPT
        due_until, kept_until = min(back_at + DUE, latest), min(back_at + KEPT, latest)
        with self._expected.more(place), contextlib.suppress(StoreUnavailableError):  # refused it is all the same
            await self._places.keep(booking_id, arrived_at=place, due_until=due_until, kept_until=kept_until)
        return GatewayBusyError(retry_after_seconds=seconds)


def _second(moment: datetime) -> int:
    return math.floor(moment.timestamp())
