"""Where turns come from: leases of a few turns each, of one endpoint, from a line that all replicas share.

The turns of an endpoint are spaced evenly, whoever gets them (the generic cell rate algorithm): a lease moves the time
of the next one on, and what nobody uses passes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

EVERYTHING: Final = "*"
"""The name of the line in which the calls of all endpoints stand."""
SLOWEST: Final = 0.1
RECOVERY_SECONDS: Final = 60.0
"""From standing still to the full pace, linearly."""
STALE_SECONDS: Final = 2.0
"""After which a replica that has not told of its line again has none."""
SLOWED_SECONDS: Final = 1.0
"""Until the pace is lowered again: calls that were on their way together are refused together."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Calls a second: of each endpoint, and of all endpoints together (0: as many as there are)."""

    endpoint: float
    everything: float = 0

    @property
    def seconds(self) -> float:
        """Between two turns of one endpoint."""
        return 1 / self.endpoint

    @property
    def everything_seconds(self) -> float:
        """Between two calls of whatever endpoint."""
        return 1 / self.everything if self.everything else 0.0


@dataclass(frozen=True, kw_only=True)
class Lease:
    """`turns` of an endpoint, perhaps none. Times are seconds from now, so that nobody's clock matters.

    `first_seconds`: when the first of them is, or would be; `step_seconds`: between them; `pace`: the share of the rate
    that is used, of the endpoint's and of the one for everything; `busy`: how many other replicas have a line for the
    endpoint.
    """

    turns: int
    first_seconds: float
    step_seconds: float
    pace: float
    everything_pace: float = 1
    busy: int = 0


class Leases(Protocol):
    """The lines. Every method may raise StoreUnavailableError."""

    async def lease(
        self, endpoint: str, *, turns: int, earliest_seconds: float, horizon_seconds: float, waiting: int | None
    ) -> Lease:
        """The next `turns` of the endpoint, none if the first of them is later than `horizon_seconds` from now.

        `earliest_seconds`: before it, no turn is worth having; negative for those that have just passed. `waiting`: how
        many wait here for more than they can have, to be told to the other replicas; None: nothing to tell.
        """

    async def slow(self, name: str) -> None:
        """Halve the pace of an endpoint or of `EVERYTHING`, for all replicas, unless somebody has just done so."""


@dataclass(kw_only=True, eq=False)
class _Row:
    next_at: float = float("-inf")
    pace: float = 1.0
    slowed_at: float = float("-inf")

    def pace_at(self, now: float) -> float:
        return min(1.0, self.pace + max(0.0, now - self.slowed_at) / RECOVERY_SECONDS)


@dataclass(kw_only=True, eq=False)
class LocalLeases:
    """Lines in memory, for whoever shares this object. `clock`: seconds, of any beginning."""

    rates: Rates
    clock: Callable[[], float]
    _rows: dict[str, _Row] = field(default_factory=dict)

    async def lease(
        self, endpoint: str, *, turns: int, earliest_seconds: float, horizon_seconds: float, waiting: int | None = None
    ) -> Lease:
        """See the port."""
        del waiting  # nobody is there who would like to know
        return self.take(endpoint, turns=turns, earliest_seconds=earliest_seconds, horizon_seconds=horizon_seconds)

    def take(
        self, endpoint: str, *, turns: int, earliest_seconds: float, horizon_seconds: float, share: float = 1.0
    ) -> Lease:
        """The same at once, from `share` of the rates."""
        now = self.clock()
        own, everything = self._row(endpoint), self._row(EVERYTHING)
        pace, everything_pace = own.pace_at(now), everything.pace_at(now)
        everything_step = self.rates.everything_seconds / everything_pace / share
        step = max(self.rates.seconds / min(pace, everything_pace) / share, everything_step)
        earliest = now + earliest_seconds
        next_at = max(own.next_at, everything.next_at)
        first = max(next_at, earliest)
        if next_at > now + horizon_seconds:
            turns = 0
        if turns:
            own.next_at = first + turns * step
            everything.next_at = max(everything.next_at, earliest) + turns * everything_step
        return Lease(
            turns=turns, first_seconds=first - now, step_seconds=step, pace=pace, everything_pace=everything_pace
        )

    async def slow(self, name: str) -> None:
        """See the port."""
        self.lower(name)

    def lower(self, name: str) -> bool:
        """The same at once; whether it was lowered."""
        now, row = self.clock(), self._row(name)
        if now - row.slowed_at < SLOWED_SECONDS:
            return False
        row.pace, row.slowed_at = max(SLOWEST, row.pace_at(now) / 2), now
        return True

    def _row(self, name: str) -> _Row:
        return self._rows.setdefault(name, _Row())
