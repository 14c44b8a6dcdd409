"""What is measured, as data: figures with their goals and baselines, plots, and the parts that they belong to."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

Number = float | int | None
QUIET = 1.3
"""How much longer than the median the slowest of some equal pieces of work takes on a quiet machine, at most."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number. `baseline` is the same of `against`, measured in the same run."""

    name: str
    value: Number
    unit: str = ""
    at_most: Number = None
    at_least: Number = None
    baseline: Number = None
    against: str = ""

    @property
    def goal(self) -> str:
        if self.at_most == 0:
            return "0"
        bounds = [f"≤ {self.at_most:g}"] if self.at_most is not None else []
        bounds += [f"≥ {self.at_least:g}"] if self.at_least is not None else []
        return " and ".join(bounds) and f"{' and '.join(bounds)} {self.unit}".strip()

    @property
    def met(self) -> bool | None:
        """None without a goal. What could not be measured does not meet its own."""
        if self.at_most is None and self.at_least is None:
            return None
        if self.value is None:
            return False
        low = self.at_least is None or self.value >= self.at_least
        return low and (self.at_most is None or self.value <= self.at_most)

    @property
    def ratio(self) -> float | None:
        """The figure in units of its baseline."""
        return round(self.value / self.baseline, 3) if self.value is not None and self.baseline else None


@dataclass(frozen=True, kw_only=True)
class Plot:
    """`series` are values over `x`: lines, or bars side by side, or stacked."""

    title: str
    x: list[Any]
    series: Mapping[str, Sequence[Number]]
    xlabel: str
    ylabel: str
    kind: str = "lines"
    log: bool = False
    goal: Number = None
    goal_name: str = "goal"
    """A line across, and its name."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Everything about one of the questions; `how` is a sentence on what was done, `notes` on what to know."""

    name: str
    title: str
    how: str
    figures: list[Figure]
    plots: list[Plot] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    noise: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


def as_json(part: Part) -> dict[str, Any]:
    """With the verdicts and ratios, for readers that are not ours."""
    derived = [{"goal": each.goal, "met": each.met, "ratio": each.ratio} for each in part.figures]
    own = asdict(part)
    return own | {"figures": [figure | more for figure, more in zip(own["figures"], derived, strict=True)]}


def from_json(part: Mapping[str, Any]) -> Part:
    """What `as_json` made."""
    derived = {"goal", "met", "ratio"}
    figures = [Figure(**{name: each[name] for name in each if name not in derived}) for each in part["figures"]]
    return Part(**{**part, "figures": figures, "plots": [Plot(**plot) for plot in part["plots"]]})


def verdict(figures: Iterable[Figure]) -> tuple[int, int]:
    """How many goals there are, and how many of them are met."""
    goals = [figure.met for figure in figures if figure.met is not None]
    return len(goals), sum(goals)


def is_noisy(noise: Mapping[str, float]) -> bool:
    """Whether the same work took so differently long that something else must have run meanwhile."""
    return noise.get("slowest", 1.0) > QUIET


def number(value: Number) -> str:
    """To about three digits, thousands apart; a dash for nothing."""
    if value is None:
        return "-"
    size = abs(value)
    if value == int(value) or size >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.3g}" if size >= 0.001 else f"{value:.1g}"


def said(met: bool | None) -> str:  # noqa: FBT001 - a verdict is what it says
    return {None: "", True: "met", False: "not met"}[met]


# --- as text ----------------------------------------------------------------------------------------------------------


def markdown(run: Mapping[str, Any]) -> str:
    """The table of figures of a `bench.json`, for a page of documentation."""
    return "\n".join(_markdown(run)) + "\n"


def _markdown(run: Mapping[str, Any]) -> Iterator[str]:
    yield f"{run['machine']['text']}; {run['at']}; commit {run['commit']}."
    yield from ("", "| # | Figure | Value | Goal | | Baseline | Ratio |", "|---|---|---|---|---|---|---|")
    for part in map(from_json, run["parts"]):
        label = part.name.upper()
        for figure in part.figures:
            value = f"{number(figure.value)} {figure.unit}".strip()
            against = f"{number(figure.baseline)} ({figure.against})" if figure.against else ""
            cells = (label, figure.name, value, figure.goal, said(figure.met), against)
            yield f"| {' | '.join(cells)} | {number(figure.ratio) if figure.ratio is not None else ''} |"
            label = ""


def text(run: Mapping[str, Any]) -> str:
    """The same for a terminal."""
    return "\n".join(_text(run)) + "\n"


def _text(run: Mapping[str, Any]) -> Iterator[str]:
    yield from ("", run["machine"]["text"])
    for part in map(from_json, run["parts"]):
        yield from ("", f"{part.name.upper()}  {part.title}   ({part.seconds:.0f} s)")
        for figure in part.figures:
            value = f"{number(figure.value)} {figure.unit}".strip()
            against = f"{figure.against} {number(figure.baseline)}" if figure.against else ""
            ratio = "" if figure.ratio is None else f"ratio {number(figure.ratio)}"
            goal = figure.goal and f"goal {figure.goal}"
            words = "   ".join(filter(None, (goal, said(figure.met), against, ratio)))
            yield f"  {figure.name:<58}{value:>14}   {words}".rstrip()
        yield from (f"  note: {note}" for note in part.notes)
        if is_noisy(part.noise):
            yield "  note: others used this machine, the figures tell little"
