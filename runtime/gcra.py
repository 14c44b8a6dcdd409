"""The generic cell rate algorithm (ITU-T I.371) as pure arithmetic: cells are spaced evenly, up to a burst at once.

A stream's whole state is one number, `next_at`: when its next cell is due at the even pace. `-math.inf` is the state of
a stream that has had none. Times and intervals are seconds; the beginning of the clock does not matter. Whoever keeps
the state asks `allowed_at`, and stores what `advance` answers once the cells are granted: what is refused never counts.
"""


def allowed_at(next_at: float, *, now: float, interval: float = 0, burst: float = 1) -> float:
    """When one cell may pass: `now`, or the later moment at which it no longer exceeds the burst."""
    return max(now, next_at - (burst - 1) * interval)


def advance(next_at: float, *, now: float, interval: float, cells: int = 1) -> float:
    """The state after `cells` were granted at `now`; time that passed unused before is not given back."""
    return max(next_at, now) + cells * interval
