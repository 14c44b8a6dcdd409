"""A rush in virtual time: buyers behind clients that come back when they are told to, before the real wait queue."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

from service.application.admission import Admission
from service.application.ports import CommandContext
from service.domain.errors import GatewayBusyError, OutcomeUnknownError
from service.ratelimit.limiter import RateLimiter
from service.ratelimit.permit import Endpoint
from service.ratelimit.quota import Rates
from tests.kit.clock import LoopClock
from tests.kit.fake_reservations import FakeReservations
from tests.kit.observers import CountingObserver
from tests.kit.service import context
from tests.unit.service.ratelimit.callers import a_limiter, flaky, now

CALL_SECONDS = 0.3


@dataclass(kw_only=True)
class Buyer:
    """Somebody with a booking."""

    booking: int
    arrives: float
    refusals: int = 0
    served: float = math.inf
    longest_wait: float = 0


class Door:
    """One replica: its admission, and the gateway's calls behind it."""

    def __init__(self, *, limiter: RateLimiter, reservations: FakeReservations) -> None:
        self.observer = CountingObserver()
        self.admission = Admission(
            limiter=limiter, reservations=reservations, clock=LoopClock(), observer=cast("Any", self.observer)
        )
        self._limiter = limiter

    @asynccontextmanager
    async def call(self, booking: int, sent: CommandContext) -> AsyncIterator[None]:
        """What a create does between its permit and its answer."""
        decision = self.admission.at_once(sent) or await self.admission.decide(booking, sent)
        async with (
            self.admission.permit(booking, decision),
            self._limiter.permit(Endpoint.CREATE, holder=booking) as permit,
        ):
            permit.use()
            yield


@dataclass(kw_only=True)
class Rush:
    """Some replicas that share one quota and its reservations."""

    per_second: float
    replicas: int = 1
    patience: float = 10.0
    reservations: FakeReservations = field(default_factory=FakeReservations)
    served: dict[int, float] = field(default_factory=dict)
    """Booking -> when its permit came."""

    @property
    def given(self) -> list[float]:
        """When permits came, in order."""
        return sorted(self.served.values())

    def __post_init__(self) -> None:
        rates = Rates(endpoint=self.per_second)
        quota_store = flaky(rates, busy=self.replicas - 1)  # all are busy, and know it
        self.doors = [
            Door(limiter=a_limiter(rates, quota_store), reservations=self.reservations) for _ in range(self.replicas)
        ]

    async def buy(self, buyer: Buyer, *, tries: int = 3, waits: float | None = None) -> None:
        """Comes, and comes back when it was told to, or after `waits` seconds whatever it was told."""
        await asyncio.sleep(max(0.0, buyer.arrives - now()))
        for attempt in range(tries):
            came, told = now(), math.inf
            door = self.doors[(buyer.booking + attempt) % len(self.doors)]
            try:
                await self._create(buyer, door)
            except GatewayBusyError as error:
                buyer.refusals += 1
                told = float(error.retry_after_seconds or math.inf)
            except OutcomeUnknownError:  # nobody hears it: the client has left
                return
            buyer.longest_wait = max(buyer.longest_wait, now() - came)
            if buyer.served < math.inf:
                return
            await asyncio.sleep(told if waits is None else waits)

    async def _create(self, buyer: Buyer, door: Door) -> None:
        deadline = LoopClock().now() + timedelta(seconds=self.patience + 1)  # as it is read from a message
        sent = context(deadline=deadline)
        async with door.admission.serialized(buyer.booking, sent):
            if buyer.booking not in self.served:
                async with door.call(buyer.booking, sent):
                    self.served[buyer.booking] = now()
                    await asyncio.sleep(CALL_SECONDS)
        buyer.served = self.served[buyer.booking]

    async def run(self, *buyers: Buyer, **how: Any) -> None:
        await asyncio.gather(*(self.buy(buyer, **how) for buyer in buyers))
