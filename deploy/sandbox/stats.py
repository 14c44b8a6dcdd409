"""What was asked of the API, counted per endpoint."""

from dataclasses import asdict, dataclass


@dataclass(kw_only=True)
class Counts:
    """One endpoint's calls.

    ``calls`` counts whatever arrived, cut connections included. ``errors`` are the calls that were not served: cut,
    or answered with 400 or more, other than 429. Those are ``rate_limited``. ``replays`` came from a kept answer.
    """

    calls: int = 0
    errors: int = 0
    rate_limited: int = 0
    replays: int = 0


class Stats:
    """Counts of every endpoint, zeros included, so that a reader need not ask whether a name is there."""

    def __init__(self, endpoints: frozenset[str]) -> None:
        self._endpoints = sorted(endpoints)
        self.reset()

    def reset(self) -> None:
        """Back to zero."""
        self.counts = {endpoint: Counts() for endpoint in self._endpoints}

    def as_json(self) -> dict[str, dict[str, int]]:
        """``{endpoint: {"calls", "errors", "rate_limited", "replays"}}``."""
        return {endpoint: asdict(counts) for endpoint, counts in self.counts.items()}
