"""Callers of a rate limiter, and a quota store that can fail. Everything in virtual time."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

from service.ratelimit.limiter import RateLimiter
from service.ratelimit.permit import Endpoint
from service.ratelimit.quota import LocalQuotaStore, Quota, QuotaStore, QuotaUnavailableError, Rates
from tests.kit import world
from tests.kit.virtual_time import simulated

RATES = Rates(endpoint=20, everything=80)
SETTLED = 30.0
"""Long enough for whatever is under way to be over."""


def virtual(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test in virtual time: nothing takes as long as it says."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        simulated(test(*args, **kwargs))

    return run


def now() -> float:
    return asyncio.get_running_loop().time()


def a_limiter(
    rates: Rates | None = RATES, quota_store: QuotaStore | None = None, concurrency: int = 64, **more: Any
) -> RateLimiter:
    return world.a_limiter(concurrency, rates, quota_store, clock=now, **more)


@dataclass(kw_only=True)
class Callers:
    """Calls to a limiter; who began, in order and when."""

    limiter: RateLimiter
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
            permit = await self.limiter.acquire(endpoint, **how)
            if used:
                permit.use()
            self.began.append((name, now()))
            try:
                await asyncio.sleep(takes)
            finally:
                self.limiter.release(permit)

        self.tasks.append(asyncio.create_task(calling()))
        return self.tasks[-1]

    def calls(self, count: int, *what: Any, **how: Any) -> None:
        for _ in range(count):
            self.call(*what, **how)

    async def wait(self, seconds: float = SETTLED) -> None:
        await asyncio.sleep(seconds)

    def waiting(self) -> int:
        return sum(number for _, _, number in self.limiter.waiting())


def most_in_a_second(times: list[float]) -> int:
    ordered = sorted(times)
    return max((sum(1 for at in ordered if begin <= at < begin + 1 - 1e-6) for begin in ordered), default=0)


@dataclass(kw_only=True)
class Flaky(QuotaStore):
    """Quota that replicas share, which can be lost; so many of them are `busy`."""

    shared: LocalQuotaStore
    busy: int = 0
    away: bool = False
    silent: bool = False
    asked: list[tuple[str, int, int | None]] = field(default_factory=list)

    async def take(
        self, endpoint: str, *, permits: int, earliest_seconds: float, horizon_seconds: float, waiting: int | None
    ) -> Quota:
        self.asked.append((endpoint, permits, waiting))
        await self._answer()
        quota = await self.shared.take(
            endpoint, permits=permits, earliest_seconds=earliest_seconds, horizon_seconds=horizon_seconds
        )
        return replace(quota, busy=self.busy)

    async def throttle(self, name: str) -> None:
        await self._answer()
        await self.shared.throttle(name)

    async def _answer(self) -> None:
        if self.silent:
            await asyncio.sleep(3600)
        if self.away:
            raise QuotaUnavailableError


def flaky(rates: Rates = RATES, *, busy: int = 0) -> Flaky:
    return Flaky(shared=LocalQuotaStore(rates=rates, clock=now), busy=busy)
