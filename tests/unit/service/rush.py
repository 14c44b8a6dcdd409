"""A rush in virtual time: buyers behind clients that come back when they are told to, before the real line."""

import asyncio
import math
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from service.application.admission import Admission
from service.application.leases import Lease, LocalLeases, Rates
from service.domain.errors import GatewayBusyError, OutcomeUnknownError
from tests.fakes import FakePlaces
from tests.unit.service.callers import a_budget, now

BEGINNING = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
CALL_SECONDS = 0.3


class VirtualClock:
    """The running loop's time."""

    def now(self) -> datetime:
        return BEGINNING + timedelta(seconds=now())


@dataclass(kw_only=True, eq=False)
class _Shared(LocalLeases):
    """Lines of replicas that are all busy, and know it."""

    others: int

    async def lease(self, endpoint: str, **how: Any) -> Lease:
        return replace(await super().lease(endpoint, **how), busy=self.others)


@dataclass(kw_only=True)
class Buyer:
    """Somebody with a booking."""

    booking: int
    arrives: float
    refusals: int = 0
    served: float = math.inf
    longest_wait: float = 0


@dataclass(kw_only=True)
class Rush:
    """Some replicas that share one line and its kept places."""

    per_second: float
    replicas: int = 1
    patience: float = 10.0
    places: FakePlaces = field(default_factory=FakePlaces)
    served: dict[int, float] = field(default_factory=dict)
    """Booking -> when its turn came."""

    @property
    def given(self) -> list[float]:
        """When turns came, in order."""
        return sorted(self.served.values())

    def __post_init__(self) -> None:
        rates = Rates(endpoint=self.per_second)
        leases = _Shared(rates=rates, clock=now, others=self.replicas - 1)
        budgets = [a_budget(rates, leases) for _ in range(self.replicas)]
        self.doors = [Admission(budget=budget, places=self.places, clock=VirtualClock()) for budget in budgets]

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

    async def _create(self, buyer: Buyer, door: Admission) -> None:
        deadline = VirtualClock().now() + timedelta(seconds=self.patience + 1)  # as it is read from a message
        async with door.alone(buyer.booking, deadline=deadline):
            if buyer.booking not in self.served:
                async with door.turn(buyer.booking, deadline=deadline) as turn:
                    turn.used = True
                    self.served[buyer.booking] = now()
                    await asyncio.sleep(CALL_SECONDS)
        buyer.served = self.served[buyer.booking]

    async def run(self, *buyers: Buyer, **how: Any) -> None:
        await asyncio.gather(*(self.buy(buyer, **how) for buyer in buyers))
