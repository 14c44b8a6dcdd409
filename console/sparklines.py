"""Small plots as SVG, without a script: the last hour, a bar for each minute."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from service.application.ports.overview import Minute
from service.domain.status import ChangeKind

MINUTES: Final = 60
WIDTH: Final = 240
HEIGHT: Final = 48
SERIES: Final[Mapping[str, str]] = {
    ChangeKind.CREATED: "Begun",
    ChangeKind.COMPLETED: "Paid",
    ChangeKind.FAILED: "Failed",
    ChangeKind.ATTENTION: "Attention",
}


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A minute of a plot, in its units."""

    x: float
    y: float
    height: float
    width: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Sparkline:
    """A plot of one kind of change. `latest` is of the last whole minute."""

    kind: str
    title: str
    latest: int
    total: int
    most: int
    bars: Sequence[Bar]


def sparklines(minutes: Sequence[Minute], now: datetime) -> list[Sparkline]:
    """A plot for each kind in `SERIES`."""
    first = now.replace(second=0, microsecond=0) - timedelta(minutes=MINUTES - 1)
    counts = {(each.kind, each.at): each.number for each in minutes}
    times = [first + timedelta(minutes=number) for number in range(MINUTES)]
    return [
        _sparkline(kind, title, times, [counts.get((kind, at), 0) for at in times]) for kind, title in SERIES.items()
    ]


def _sparkline(kind: str, title: str, times: Sequence[datetime], numbers: Sequence[int]) -> Sparkline:
    most, step = max(numbers), WIDTH / MINUTES
    bars = [
        Bar(
            x=round(place * step + 0.4, 2),
            y=round(HEIGHT - HEIGHT * number / most, 2),
            height=round(HEIGHT * number / most, 2),
            width=round(step - 0.8, 2),
            text=f"{at:%H:%M}: {number}",
        )
        for place, (at, number) in enumerate(zip(times, numbers, strict=True))
        if number
    ]
    return Sparkline(kind=kind, title=title, latest=numbers[-2], total=sum(numbers), most=most, bars=bars)
