"""Quota: a few permits of one endpoint at a time, taken from what all replicas share.

An endpoint's slots are spaced evenly, whichever replica gets them (the generic cell rate algorithm): to take quota
moves the time of the next slot on, and a slot that nobody uses passes.
"""

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from runtime import gcra

GLOBAL: Final = "*"
"""The name under which the calls of all endpoints are counted together."""
LOWEST_FACTOR: Final = 0.1
RECOVERY_SECONDS: Final = 60.0
"""From standing still to the full rate, linearly."""
STALE_SECONDS: Final = 2.0
"""After which a replica that has not reported its queue again has none."""
THROTTLE_SECONDS: Final = 1.0
"""Until the rate is halved again: calls that were on their way together are refused together."""


class QuotaUnavailableError(Exception):
    """What the replicas share cannot be reached."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Calls a second: of each endpoint, and of all endpoints together (0: unlimited).

    `seconds`: between two slots of one endpoint; `everything_seconds`: between two calls of whatever endpoint.
    """

    endpoint: float
    everything: float = 0
    seconds: float = field(init=False)
    everything_seconds: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "seconds", 1 / self.endpoint)
        object.__setattr__(self, "everything_seconds", 1 / self.everything if self.everything else 0.0)


@dataclass(frozen=True, kw_only=True)
class Quota:
    """`permits` of an endpoint, perhaps none. Times are seconds from now, so that nobody's clock matters.

    `first_seconds`: when the first slot is, or would be; `step_seconds`: between slots; `factor`: the endpoint's rate
    factor, `global_factor` that of all; `busy`: how many other replicas have a queue for the endpoint.
    """

    permits: int
    first_seconds: float
    step_seconds: float
    factor: float
    global_factor: float = 1
    busy: int = 0


class QuotaStore(Protocol):
    """The quota that replicas share. Every method may raise QuotaUnavailableError."""

    async def take(
        self, endpoint: str, *, permits: int, earliest_seconds: float, horizon_seconds: float, waiting: int | None
    ) -> Quota:
        """The next `permits` of the endpoint, none if the first slot is later than `horizon_seconds` from now.

        Slots before `earliest_seconds` are of no use; negative for those that have just passed. `waiting`: how many
        wait here for more than they can have, for the other replicas to know; None: nothing to report.
        """

    async def throttle(self, name: str) -> None:
        """Halve the rate of an endpoint or of `GLOBAL`, for all replicas, unless one has just done so."""


@dataclass(kw_only=True, eq=False)
class _Row:
    next_at: float = -math.inf
    factor: float = 1.0
    throttled_at: float = -math.inf

    def factor_at(self, now: float) -> float:
        return min(1.0, self.factor + max(0.0, now - self.throttled_at) / RECOVERY_SECONDS)


class LocalQuotaStore:
    """Quota in memory, for whoever shares this object."""

    def __init__(self, *, rates: Rates, clock: Callable[[], float]) -> None:
        """`clock`: seconds, of any beginning."""
        self._rates = rates
        self._clock = clock
        self._rows: defaultdict[str, _Row] = defaultdict(_Row)

    async def take(
        self,
        endpoint: str,
        *,
        permits: int,
        earliest_seconds: float,
        horizon_seconds: float,
        waiting: int | None = None,  # noqa: ARG002 - there is no other replica to know
        share: float = 1.0,
    ) -> Quota:
        """See the port; `share`: of the rates."""
        now, own, everything = self._clock(), self._rows[endpoint], self._rows[GLOBAL]
        factor, global_factor = own.factor_at(now), everything.factor_at(now)
        global_step = self._rates.everything_seconds / global_factor / share
        step = max(self._rates.seconds / min(factor, global_factor) / share, global_step)
        earliest, next_at = now + earliest_seconds, max(own.next_at, everything.next_at)
        first = gcra.allowed_at(next_at, now=earliest)
        if next_at > now + horizon_seconds:
            permits = 0
        if permits:
            own.next_at = gcra.advance(first, now=earliest, interval=step, cells=permits)
            everything.next_at = gcra.advance(everything.next_at, now=earliest, interval=global_step, cells=permits)
        return Quota(
            permits=permits, first_seconds=first - now, step_seconds=step, factor=factor, global_factor=global_factor
        )

    async def throttle(self, name: str) -> None:
        """See the port."""
        self.throttle_now(name)

    def throttle_now(self, name: str) -> bool:
        """The same at once; whether the rate was halved."""
        now, row = self._clock(), self._rows[name]
        if now - row.throttled_at < THROTTLE_SECONDS:
            return False
        row.factor, row.throttled_at = max(LOWEST_FACTOR, row.factor_at(now) / 2), now
        return True
