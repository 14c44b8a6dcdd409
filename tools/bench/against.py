"""`make bench ARGS="--against COMMIT"`: the same parts on two commits in alternation, and how their figures compare.

Service and bridge of the commit run from a worktree of their own; load and sandbox are this tree's. Each round measures
both, in changing order, so that what the machine does meanwhile meets both alike.
"""

import asyncio
import statistics
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tools.bench.bench_system import Bench
from tools.bench.figures import Figure, Part, number
from tools.devstack import processes
from tools.devstack.stack_settings import CHECKOUT

ROUNDS: Final = 3
Measure = Callable[[Bench], Awaitable[Part]]
Pair = tuple[Part, Part]
"""A part of this tree, and the same of the commit."""


@asynccontextmanager
async def tree_of(commit: str) -> AsyncIterator[Path]:
    """A worktree of the commit with its own dependencies; removed at the end."""
    with tempfile.TemporaryDirectory(prefix="bookticket-against-") as folder:
        tree = Path(folder) / "tree"
        await _run("git", "-C", str(CHECKOUT), "worktree", "add", "--detach", str(tree), commit)
        try:
            await _run("make", "-C", str(tree), ".venv/.installed")
            yield tree
        finally:
            await _run("git", "-C", str(CHECKOUT), "worktree", "remove", "--force", str(tree))


async def _run(*command: str) -> None:
    status, output = await processes.run(list(command))
    if status:
        raise processes.LocalError(f"{' '.join(command)} failed with status {status}:\n{output}")


async def rounds(
    ours: Bench, theirs: Bench, parts: Iterable[Measure], *, count: int = ROUNDS, pause_seconds: float = 1.0
) -> list[list[Pair]]:
    """For each part, what each round found."""
    measured = []
    for part in parts:
        pairs = []
        for turn in range(count):
            order = (ours, theirs) if turn % 2 == 0 else (theirs, ours)
            found = {}
            for bench in order:
                found[bench is ours] = await part(bench)
                await asyncio.sleep(pause_seconds)
            pairs.append((found[True], found[False]))
        measured.append(pairs)
        for bench in (ours, theirs):
            await bench.close()
    return measured


def compared(pairs: list[Pair]) -> list[dict[str, Any]]:
    """Each figure that both have: the medians, and the ratios of the rounds, this tree's ÷ the commit's."""
    rows = []
    for figure in pairs[0][0].figures:
        both = [(_value(part, figure), _value(other, figure)) for part, other in pairs]
        values = [(ours, theirs) for ours, theirs in both if ours is not None and theirs]
        if not values:
            continue
        ratios = sorted(ours / theirs for ours, theirs in values)
        rows.append(
            {
                "name": figure.name,
                "unit": figure.unit,
                "value": statistics.median(ours for ours, _ in values),
                "against": statistics.median(theirs for _, theirs in values),
                "ratio": round(statistics.median(ratios), 3),
                "least": round(ratios[0], 3),
                "most": round(ratios[-1], 3),
                "rounds": len(values),
            }
        )
    return rows


def _value(part: Part, figure: Figure) -> float | int | None:
    return next((each.value for each in part.figures if each.name == figure.name), None)


def show(run: Mapping[str, Any], console: Console) -> None:
    """Prints the figures of both, and the ratios."""
    for part in run["parts"]:
        console.print(f"{part['name'].upper()}  {part['title']}", style="bold", markup=False)
        table = Table("Figure", "Here", run["against"], "Ratio", "Range", "Rounds", box=None, header_style="dim")
        for row in part["figures"]:
            ours, theirs = (f"{number(row[name])} {row['unit']}".strip() for name in ("value", "against"))
            between = f"{row['least']:g} to {row['most']:g}"
            table.add_row(row["name"], ours, theirs, Text(f"{row['ratio']:g}", "bold"), between, str(row["rounds"]))
        console.print(table)
    console.print(f"{run['at']}, commit {run['commit']} against {run['against']}; medians of the rounds", markup=False)
