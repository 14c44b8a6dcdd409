"""The result on a terminal, and as one HTML page that loads nothing."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tools.bench.figures import Part, Plot, cells, from_json, is_noisy, verdict
from tools.html_report import BAD, GRID, page, printed, svg

COLOURS = ("#2f6db3", "#d08a1d", "#7a59b5", "#2a9d8f", "#c8527a", "#8a94a0", "#5d8a3a")
MOST_LABELS = 12
TONES = {None: "", True: "green", False: "bold red"}


def render(run: Mapping[str, Any]) -> str:
    """The page of a `bench.json`."""
    sections = [printed(partial(show_head, run))]
    for part in map(from_json, run["parts"]):
        sections += [printed(partial(show_part, part)), *map(draw, part.plots)]
    return page(_title(run), *sections)


def show(run: Mapping[str, Any], console: Console) -> None:
    """Prints all results of a `bench.json`."""
    for part in map(from_json, run["parts"]):
        show_part(part, console)
        console.print()
    show_head(run, console)


def show_head(run: Mapping[str, Any], console: Console) -> None:
    """Prints the verdict, the machine, and the parts that failed."""
    minutes = sum(part["seconds"] for part in run["parts"]) / 60
    quick = ", a quick run with less of everything" if run["quick"] else ""
    console.print(_title(run), style="bold")
    console.print(run["machine"]["text"], markup=False)
    console.print(f"{run['at']}, commit {run['commit'] or 'unknown'}, {minutes:.0f} minutes{quick}", markup=False)
    for name, reason in run["failed"].items():
        console.print(f"{name.upper()} could not be measured: {reason}", style="red", markup=False)


def show_part(part: Part, console: Console) -> None:
    """Prints the figures of a part, how they were measured, and on how busy a machine."""
    console.print(f"{part.name.upper()}  {part.title}", style="bold", markup=False)
    console.print(part.how, style="dim", markup=False)
    table = Table("Figure", "Value", "Goal", "", "Baseline", "Ratio", box=None, header_style="dim")
    for figure in part.figures:
        name, value, goal, met, *compared = cells(figure)
        table.add_row(Text(name), Text(value, "bold"), goal, Text(met, TONES[figure.met]), *map(Text, compared))
    console.print(table)
    for note in part.notes:
        console.print(f"note: {note}", style="dim", markup=False)
    if noise := part.noise:
        took = f"Took {part.seconds:.0f} s. Just before, one piece of work, done again and again, took"
        console.print(
            f"{took} {noise['work_ms']:g} ms, at worst {noise['slowest']:g} times as long; "
            f"load average {noise['load']:g}, {noise['steal']:g} % stolen.",
            style="dim",
        )
    if is_noisy(part.noise):
        console.print("Other programs used this machine: the figures mean little.", style="bold red")


def _title(run: Mapping[str, Any]) -> str:
    goals, met = verdict(figure for part in map(from_json, run["parts"]) for figure in part.figures)
    return f"Benchmarks: {met} of {goals} goals met"


# --- plots ------------------------------------------------------------------------------------------------------------


def draw(plot: Plot) -> str:
    """The plot as SVG."""
    from cycler import cycler  # noqa: PLC0415 - comes with matplotlib, which only the last step needs

    def drawn(plt: Any) -> Any:
        figure, axes = plt.subplots(figsize=(5.2, 3.0), layout="constrained")
        (_draw_lines if plot.kind == "lines" else _draw_bars)(axes, plot)
        if plot.goal is not None:
            axes.axhline(float(plot.goal), color=BAD, linewidth=1, linestyle=":", label=plot.goal_name)
        axes.set(xlabel=plot.xlabel, ylabel=plot.ylabel)
        if plot.log:
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axes.yaxis.set_minor_formatter(lambda value, _: f"{value:,g}" if plot.log and _begins(value, "25") else "")
        axes.grid(axis="y", color=GRID)
        axes.set_axisbelow(True)
        axes.legend(frameon=False, fontsize=8.5, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
        return figure

    return svg(plot.title, drawn, {"font.size": 9.5, "axes.prop_cycle": cycler(color=COLOURS)})


def _begins(value: float, digits: str) -> bool:
    """Enough labels on an axis of few decades, and not too many."""
    return f"{value:e}"[0] in digits


def _draw_lines(axes: Any, plot: Plot) -> None:
    named = any(isinstance(value, str) for value in plot.x)
    places = range(len(plot.x)) if named else plot.x
    for name, values in plot.series.items():
        marker = "o" if len(values) <= MOST_LABELS else ""
        axes.plot(
            places, np.array(values, float), label=name, linewidth=1.6, marker=marker, markersize=4
        )  # None: a gap
    if named or len(plot.x) <= MOST_LABELS:
        axes.set_xticks(list(places), [str(value) for value in plot.x])


def _draw_bars(axes: Any, plot: Plot) -> None:
    """Stacked, or side by side."""
    places = np.arange(len(plot.x))
    stacked = plot.kind == "stacked"
    width = 0.6 if stacked else 0.8 / len(plot.series)
    bottom = np.zeros(len(places))
    for order, (name, values) in enumerate(plot.series.items()):
        heights = np.nan_to_num(np.array(values, float))
        shift = 0.0 if stacked else (order - (len(plot.series) - 1) / 2) * width
        axes.bar(places + shift, heights, width=width, bottom=bottom, label=name)
        if stacked:
            bottom = bottom + heights
    axes.set_xticks(places, [str(value) for value in plot.x])
