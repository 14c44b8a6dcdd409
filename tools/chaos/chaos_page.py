"""The result as one HTML page that loads nothing."""

import itertools
from functools import partial
from typing import Any

import numpy as np

from tools.chaos import report
from tools.html_report import BAD, GOOD, GRID, LINE, page, printed, svg

COLOURS = {
    "service": "#d1495b",
    "bridge": "#e8853d",
    "broker": "#8b5fbf",
    "database": "#3a6ea5",
    "link": "#2a9d8f",
    "Stripe": "#d4a017",
}
UNKNOWN, MEDIAN, WORST = "#8a94a0", "#3a6ea5", "#e8853d"


def render(figures: dict[str, Any]) -> str:
    """The page of a run's figures: what is printed, and a plot."""
    return page(report.verdict(figures), printed(partial(report.show, figures)), draw(figures))


def colour(kind: str) -> str:
    """The colour of a fault kind: that of the part that it affects."""
    return next((value for name, value in COLOURS.items() if kind.startswith((name, f"{name}s"))), UNKNOWN)


def draw(figures: dict[str, Any]) -> str:
    """Load, latency and faults over one time axis, as SVG."""
    lanes = _lanes(figures["faults"])
    height = 5.2 + 0.19 * len(lanes)

    def drawn(plt: Any) -> Any:
        figure, (load, latency, faults) = plt.subplots(
            3, 1, figsize=(13, height), sharex=True, height_ratios=[2.4, 2.0, height - 4.4], layout="constrained"
        )
        _draw_load(load, figures)
        _draw_latency(latency, figures)
        _draw_faults(faults, figures, lanes)
        for axes, fault in itertools.product((load, latency), figures["faults"]):
            until = max(fault["felt"], fault["began"] + 0.25)
            axes.axvspan(fault["began"], until, color=colour(fault["kind"]), alpha=0.13, linewidth=0)
        return figure

    return svg("Load, latency and faults", drawn, {"svg.fonttype": "none", "font.size": 9})


def _draw_load(axes: Any, figures: dict[str, Any]) -> None:
    timeline = figures["timeline"]
    at = range(len(timeline["acknowledged"]))
    shape: dict[str, Any] = {"width": 1.0, "align": "edge", "alpha": 0.85}
    axes.bar(at, timeline["acknowledged"], color=GOOD, label="acknowledged per second", **shape)
    axes.bar(at, [-count for count in timeline["errors"]], color=BAD, label="errors per second (downwards)", **shape)
    axes.axhline(0, color=LINE, linewidth=0.8)
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    axes.set_ylabel("attempts per second")
    axes.legend(loc="upper left", ncols=2, frameon=False, bbox_to_anchor=(0, 1.16))


def _draw_latency(axes: Any, figures: dict[str, Any]) -> None:
    timeline = figures["timeline"]
    at = [second + 0.5 for second in range(len(timeline["p50"]))]
    worst, median = (np.array(timeline[name], float) for name in ("worst", "p50"))  # None is a gap
    axes.plot(at, worst, color=WORST, linewidth=1.1, marker=".", markersize=3, label="slowest acknowledged, ms")
    axes.plot(at, median, color=MEDIAN, linewidth=1.6, label="median, ms")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_ylabel("latency")
    axes.grid(axis="y", color=GRID)
    axes.legend(loc="upper left", ncols=2, frameon=False, bbox_to_anchor=(0, 1.18))


def _draw_faults(axes: Any, figures: dict[str, Any], lanes: dict[str, int]) -> None:
    for fault in figures["faults"]:
        lane, tone = lanes[_lane(fault)], colour(fault["kind"])
        length = max(fault["felt"] - fault["began"], 0.003 * figures["seconds"])
        axes.barh(lane, length, left=fault["began"], height=0.62, color=tone)
        if fault["recovery"] is not None:
            after = fault["ended"] + fault["recovery"]
            axes.plot([fault["ended"], after], [lane, lane], color=tone, linewidth=1.2, linestyle=":")
            axes.plot(after, lane, marker="o", markersize=4, color="white", markeredgecolor=GOOD, markeredgewidth=1.4)
    axes.set_ylim(len(lanes) - 0.2, -0.8)
    axes.set_yticks([*lanes.values()], [*lanes], fontsize=7.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color=GRID)
    axes.set_axisbelow(True)
    axes.set_xlim(0, figures["seconds"])
    axes.set_xlabel("seconds from the start of the load   (ring: first checkout acknowledged after the fault)")
    axes.spines["left"].set_visible(False)


def _lanes(faults: list[dict[str, Any]]) -> dict[str, int]:
    """A row for each kind of fault and its target, so that the height does not grow with the number of faults."""
    return {name: place for place, name in enumerate(sorted({_lane(fault) for fault in faults}))}


def _lane(fault: dict[str, Any]) -> str:
    """The kind, with the target where the kind does not name it."""
    kind, target = fault["kind"], fault["target"]
    return kind if kind.lower().startswith(target) else f"{kind} · {target}"
