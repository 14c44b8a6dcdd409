"""What tests of the budget are made of: callers, and lines that can be lost. Everything in virtual time."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from service.application.budget import Budget, Endpoint
from service.application.leases import Lease, Leases, LocalLeases, Rates
from service.domain.errors import StoreUnavailableError

RATES = Rates(endpoint=20, everything=80)
SETTLED = 30.0
"""Long enough for whatever is under way to be over."""


def now() -> float:
    return asyncio.get_running_loop().time()


def a_budget(rates: Rates | None = RATES, leases: Leases | None = None, concurrency: int = 64) -> Budget:
    return Budget(concurrency=concurrency, rates=rates, leases=leases, clock=now)


@dataclass(kw_only=True)
class Callers:
    """Calls to a budget; who began, in order and when."""

    budget: Budget
    began: list[tuple[Any, float]] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def order(self) -> list[Any]:
        return [name for name, _ in self.began]

    @property
    def times(self) -> list[float]:
        return [at for _, at in self.began]

    def call(
        self,
        name: Any = None,
        endpoint: Endpoint = Endpoint.CREATE,
        *,
        takes: float = 0.3,
        used: bool = True,
        **how: Any,
    ) -> asyncio.Task[None]:
        async def calling() -> None:
            async with self.budget.turn(endpoint, **how) as turn:
                turn.used = used
                self.began.append((name, now()))
                await asyncio.sleep(takes)

        self.tasks.append(asyncio.create_task(calling()))
        return self.tasks[-1]

    async def wait(self, seconds: float = SETTLED) -> None:
        await asyncio.sleep(seconds)

    def waiting(self) -> int:
        return sum(number for _, _, number in self.budget.waiting())


def most_in_a_second(times: list[float]) -> int:
    ordered = sorted(times)
    return max((sum(1 for at in ordered if begin <= at < begin + 1 - 1e-6) for begin in ordered), default=0)


@dataclass(kw_only=True)
class Flaky(Leases):
    """The lines that replicas share, which can be lost."""

    shared: LocalLeases
    away: bool = False
    silent: bool = False
    asked: list[tuple[str, int, int | None]] = field(default_factory=list)

    async def lease(
        self, endpoint: str, *, turns: int, earliest_seconds: float, horizon_seconds: float, waiting: int | None
    ) -> Lease:
        self.asked.append((endpoint, turns, waiting))
        await self._answer()
        return await self.shared.lease(
            endpoint, turns=turns, earliest_seconds=earliest_seconds, horizon_seconds=horizon_seconds
        )

    async def slow(self, name: str) -> None:
        await self._answer()
        await self.shared.slow(name)

    async def _answer(self) -> None:
        if self.silent:
            await asyncio.sleep(3600)
        if self.away:
            raise StoreUnavailableError


def flaky(rates: Rates = RATES) -> Flaky:
    return Flaky(shared=LocalLeases(rates=rates, clock=now))
