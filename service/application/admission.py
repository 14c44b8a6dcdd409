"""Admission of creates: call the gateway now, wait for a permit, or come back at a time and to a reserved place.

Who came first is served first, whichever replica it comes back to. The queue is only as long as its callers' patience:
whoever would wait for longer hears at once when to come back, and is then served after about half of that patience.
"""

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol
from weakref import WeakValueDictionary

from service.application.ports import Clock, CommandContext, Reservations
from service.domain.errors import GatewayBusyError, GatewayFailedError, OutcomeUnknownError, StoreUnavailableError
from service.ratelimit.limiter import RateLimiter
from service.ratelimit.permit import Endpoint, PermitDeniedError

PATIENCE_SECONDS: Final = 10.0
"""How long a create may wait and call altogether if its caller does not leave sooner: a handler has 12 s."""
DUE: Final = timedelta(seconds=5)
"""How long after its time a create that was told to come back counts as outstanding: it may never come."""
KEPT: Final = timedelta(seconds=30)
"""How long after its time its reservation is kept."""
MAX_KEPT: Final = timedelta(minutes=10)
REFRESH_SECONDS: Final = 0.25
"""How old the knowledge of all replicas' reservations may be, unless many more are made meanwhile."""
REFRESH_CHANGES: Final = 25
"""After so many of our own it is read again: in a burst the other replicas make as many."""
_RESOLUTION_SECONDS: Final = 1.0
"""A deadline may be that late: AMQP timestamps are whole seconds."""
_LEAST_CALL_SECONDS: Final = 1.0


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The answer to whether a create may go: at once or through the queue, unless it is refused.

    `arrived_at`: since when the booking waits, if it has a reservation; `ahead`: how many outstanding creates come
    before it; `patience_seconds`: how long its caller can wait for a permit; `refused_seconds`: until one would come,
    if that is too late.
    """

    patience_seconds: float
    arrived_at: datetime | None = None
    ahead: int = 0
    refused_seconds: float | None = None


class AdmissionObserver(Protocol):
    """Counts refusals."""

    def on_create_refused(self) -> None:
        """A create was told to come back."""


@dataclass(kw_only=True, eq=False)
class _Change:
    """Reservations that we add or take away; `is_written` once they are stored so."""

    second: int
    number: int
    is_written: bool = False


class Outstanding:
    """Creates of all replicas that were told to come back and have not yet: what is stored, and our own changes."""

    def __init__(self, reservations: Reservations, clock: Clock) -> None:
        self._reservations = reservations
        self._clock = clock
        self.number = 0
        self._counts: Counter[int] = Counter()
        self._changes: list[_Change] = []
        self._changed = 0
        self._refreshed_at = datetime.min.replace(tzinfo=UTC)
        self._refreshing = asyncio.Lock()

    def before(self, arrived_at: datetime | None) -> int:
        """How many came before, to the second; None: before somebody who is new."""
        if arrived_at is None:
            return self.number
        second = _second(arrived_at)
        return max(0, sum(count for arrived, count in self._counts.items() if arrived < second))

    async def refresh(self) -> None:
        """Read what is stored, unless that was done a moment ago."""
        async with self._refreshing:
            now = self._clock.now()
            if self._changed < REFRESH_CHANGES and (now - self._refreshed_at).total_seconds() < REFRESH_SECONDS:
                return
            self._changed = 0
            seen = {change for change in self._changes if change.is_written}
            self._counts = Counter(await self._reservations.due(at=now))
            self._changes = [change for change in self._changes if change not in seen]
            for change in self._changes:
                self._counts[change.second] += change.number
            self.number = max(0, self._counts.total())
            self._refreshed_at = now

    def remove(self, arrived_at: datetime) -> None:
        """One of them is back, and that is stored."""
        with self.add(arrived_at, number=-1):
            pass

    @contextmanager
    def add(self, arrived_at: datetime, *, number: int = 1) -> Generator[None]:
        """Count one more at once, and not only when a refresh reads what the block stores."""
        change = _Change(second=_second(arrived_at), number=number)
        self._changes.append(change)
        self._changed += 1
        self._counts[change.second] += number
        self.number = max(0, self._counts.total())
        try:
            yield
        finally:
            change.is_written = True


@dataclass(kw_only=True, eq=False)
class Admission:
    """One per process, over the rate limiter and the reservations that all replicas share."""

    limiter: RateLimiter
    reservations: Reservations
    clock: Clock
    observer: AdmissionObserver

    def __post_init__(self) -> None:
        self.outstanding = Outstanding(self.reservations, self.clock)
        self.is_withheld = False
        """Whether no create may call the gateway: it may have a session of the booking that is unknown here."""
        self._serialized: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()

    def at_once(self, context: CommandContext) -> Decision | None:
        """Admit the create if a permit is free and nobody is to come back; None: ask `decide`."""
        if self.is_withheld or self.outstanding.number or not self.limiter.is_free(Endpoint.CREATE):
            return None
        return Decision(patience_seconds=self._seconds(context, calls=1))

    @asynccontextmanager
    async def serialized(self, booking_id: int, context: CommandContext) -> AsyncGenerator[None]:
        """One create of a booking at a time, so that it waits in the queue once; OutcomeUnknownError if not in time."""
        lock = self._serialized.setdefault(booking_id, asyncio.Lock())
        try:
            async with asyncio.timeout(self._seconds(context, calls=0)):
                await lock.acquire()
        except TimeoutError:
            raise OutcomeUnknownError from None
        try:
            yield
        finally:
            lock.release()

    async def decide(self, booking_id: int, context: CommandContext) -> Decision:
        """Queue or refuse the create, by its reservation if it has one; whoever comes back is outstanding no more.

        Raises:
            GatewayFailedError: creates are withheld.
        """
        if self.is_withheld:
            raise GatewayFailedError
        arrived_at = await self._take(booking_id)
        patience = self._seconds(context, calls=1)
        if self.limiter.is_free(Endpoint.CREATE):
            return Decision(patience_seconds=patience, arrived_at=arrived_at)
        ahead = self.outstanding.before(arrived_at)
        wait = self.limiter.wait_seconds(Endpoint.CREATE, arrived_at, ahead=ahead)
        refused = wait if wait > patience else None
        return Decision(patience_seconds=patience, arrived_at=arrived_at, ahead=ahead, refused_seconds=refused)

    @asynccontextmanager
    async def permit(self, booking_id: int, decision: Decision) -> AsyncGenerator[None]:
        """Reserve a permit for the booking's create during the block; GatewayBusyError says when to come back."""
        since = decision.arrived_at or self.clock.now()
        if decision.refused_seconds is not None:
            raise await self._refusal(booking_id, since, decision, decision.refused_seconds)
        try:
            permit = await self.limiter.acquire(
                Endpoint.CREATE,
                holder=booking_id,
                arrived_at=since,
                seconds=max(decision.patience_seconds, 0),
                ahead=decision.ahead,
            )
        except PermitDeniedError as error:
            raise await self._refusal(booking_id, since, decision, error.wait_seconds) from None
        try:
            yield
        finally:
            self.limiter.release(permit)
        if decision.arrived_at is not None:
            with contextlib.suppress(StoreUnavailableError):  # then it is pruned a little later
                await self.reservations.drop(booking_id)

    def _seconds(self, context: CommandContext, *, calls: int) -> float:
        """How long the caller can wait here, so that time is left for so many calls, twice as long as the mean."""
        left = context.seconds_left(self.clock.now())
        left = PATIENCE_SECONDS if left is None else min(left - _RESOLUTION_SECONDS, PATIENCE_SECONDS)
        return left - calls * max(_LEAST_CALL_SECONDS, 2 * self.limiter.mean_call_seconds)

    async def _take(self, booking_id: int) -> datetime | None:
        """Since when the booking waits, if it has a reservation; its holder is no longer outstanding, but there."""
        await self.outstanding.refresh()
        if not self.outstanding.number:
            return None
        now = self.clock.now()
        arrived_at = await self.reservations.take(booking_id, at=now, kept_until=now + KEPT)
        if arrived_at is not None:
            self.outstanding.remove(arrived_at)
        return arrived_at

    async def _refusal(self, booking_id: int, since: datetime, decision: Decision, wait: float) -> GatewayBusyError:
        """Keep a reservation; the create comes back while it is kept, and early by half of its patience."""
        self.observer.on_create_refused()
        longest = (MAX_KEPT - KEPT).total_seconds()
        seconds = max(1, math.ceil(min(wait - max(decision.patience_seconds, 0) / 2, longest)))
        back_at = self.clock.now() + timedelta(seconds=seconds)
        latest = self.clock.now() + MAX_KEPT
        due_until, kept_until = min(back_at + DUE, latest), min(back_at + KEPT, latest)
        with self.outstanding.add(since), contextlib.suppress(StoreUnavailableError):  # refused it is all the same
            await self.reservations.keep(booking_id, arrived_at=since, due_until=due_until, kept_until=kept_until)
        return GatewayBusyError(retry_after_seconds=seconds)


def _second(moment: datetime) -> int:
    return math.floor(moment.timestamp())
