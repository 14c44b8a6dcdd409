"""The results as data: figures with goals and baselines, plots, and the parts that they belong to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, field
from typing import Any, Final

from pydantic import TypeAdapter, computed_field
from pydantic.dataclasses import dataclass

Number = float | int | None
QUIET = 1.3
"""On a quiet machine the slowest of equal pieces of work takes at most so many times the median."""


@dataclass(frozen=True)
class Figure:
    """One number. `baseline` is the same number of `against`, measured in the same run."""

    name: str
    value: Number
    unit: str = ""
    _: KW_ONLY
    at_most: Number = None
    at_least: Number = None
    baseline: Number = None
    against: str = ""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def goal(self) -> str:
        if self.at_most == 0:
            return "0"
        bounds = [f"≤ {self.at_most:g}"] if self.at_most is not None else []
        bounds += [f"≥ {self.at_least:g}"] if self.at_least is not None else []
        return " and ".join(bounds) and f"{' and '.join(bounds)} {self.unit}".strip()

    @computed_field  # type: ignore[prop-decorator]
    @property
    def met(self) -> bool | None:
        """None without a goal. A missing value does not meet its goal."""
        if self.at_most is None and self.at_least is None:
            return None
        if self.value is None:
            return False
        low = self.at_least is None or self.value >= self.at_least
        return low and (self.at_most is None or self.value <= self.at_most)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def ratio(self) -> float | None:
        """The figure in units of its baseline."""
        return round(self.value / self.baseline, 3) if self.value is not None and self.baseline else None


def compared(name: str, value: Number, baseline: Number, against: str, *, unit: str = "", **goal: Number) -> Figure:
    """A figure with a baseline; `goal` is `at_most` or `at_least`."""
    return Figure(name, value, baseline=baseline, against=against, unit=unit, **goal)


@dataclass(frozen=True)
class Plot:
    """`series` are values over `x`: lines, or bars side by side, or stacked."""

    title: str
    x: list[Any]
    series: Mapping[str, Sequence[Number]]
    xlabel: str
    ylabel: str
    _: KW_ONLY
    kind: str = "lines"
    log: bool = False
    goal: Number = None
    goal_name: str = "goal"
    """The label of the horizontal line at `goal`."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One benchmark with its results; `how` describes the method."""

    name: str
    title: str
    how: str
    figures: list[Figure]
    plots: list[Plot] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    noise: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


def percentiles(title: str, curves: Mapping[str, Mapping[str, Number]], **more: Any) -> Plot:
    """Latencies in milliseconds by percentile."""
    x = list(next(iter(curves.values())))
    return Plot(title, x, {name: list(curve.values()) for name, curve in curves.items()}, "percentile", "ms", **more)


def bars(title: str, values: Mapping[Any, Number], xlabel: str, ylabel: str) -> Plot:
    """One value for each `x`."""
    return Plot(title, [*values], {ylabel: [*values.values()]}, xlabel, ylabel, kind="bars")


def slices(series: Mapping[str, Sequence[Number]], ylabel: str, *, goal: Number = None) -> Plot:
    """What was measured again and again, in order."""
    numbers = range(1, max(map(len, series.values())) + 1)
    return Plot("Each slice", [*numbers], series, "slice", ylabel, goal=goal)


def stacked(title: str, x: list[Any], shares: Sequence[Mapping[str, Number]], xlabel: str, ylabel: str) -> Plot:
    """For each `x`, its shares on top of each other."""
    names = dict.fromkeys(name for each in shares for name in each)
    series = {name: [each.get(name, 0.0) for each in shares] for name in names}
    return Plot(title, x, series, xlabel, ylabel, kind="stacked")


_PART: Final = TypeAdapter(Part)


def as_json(part: Part) -> dict[str, Any]:
    """JSON with the derived verdicts and ratios, for other programs."""
    plain: dict[str, Any] = _PART.dump_python(part, mode="json")
    return plain


def from_json(part: Mapping[str, Any]) -> Part:
    """The part from the JSON of `as_json`."""
    return _PART.validate_python(part)


def verdict(figures: Iterable[Figure]) -> tuple[int, int]:
    """The number of goals, and of those that are met."""
    goals = [figure.met for figure in figures if figure.met is not None]
    return len(goals), sum(goals)


def is_noisy(noise: Mapping[str, float]) -> bool:
    """Whether equal pieces of work differed so much that other programs must have run."""
    return noise.get("slowest", 1.0) > QUIET


def number(value: Number) -> str:
    """The value with about three digits and thousands separators; a dash for None."""
    if value is None:
        return "-"
    size = abs(value)
    if value == int(value) or size >= 100:  # noqa: PLR2004 - three digits
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.3g}" if size >= 0.001 else f"{value:.1g}"  # noqa: PLR2004


# --- as text ----------------------------------------------------------------------------------------------------------


def cells(figure: Figure) -> tuple[str, ...]:
    """Name, value, goal, verdict, baseline and ratio of a figure."""
    value = f"{number(figure.value)} {figure.unit}".strip()
    against = f"{number(figure.baseline)} ({figure.against})" if figure.against else ""
    ratio = number(figure.ratio) if figure.ratio is not None else ""
    met = {None: "", True: "met", False: "not met"}[figure.met]
    return figure.name, value, figure.goal, met, against, ratio


def markdown(run: Mapping[str, Any]) -> str:
    """The table of figures of a `bench.json`, for a page of documentation."""
    lines = [f"{run['machine']['text']}; {run['at']}; commit {run['commit']}.", ""]
    lines += ["| # | Figure | Value | Goal | | Baseline | Ratio |", "|---|---|---|---|---|---|---|"]
    for part in map(from_json, run["parts"]):
        for place, figure in enumerate(part.figures):
            lines.append(f"| {' | '.join((part.name.upper() if place == 0 else '', *cells(figure)))} |")
    return "\n".join(lines) + "\n"
