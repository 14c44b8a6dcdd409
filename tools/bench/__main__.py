"""`make bench`: measures, prints, and writes the figures as JSON and as a page of plots to `.bench/`."""

import argparse
import asyncio
import json
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop

from tools.bench import (
    against,
    bench_page,
    creates,
    long_polls,
    machine,
    pending_polls,
    replicas,
    rush,
    status_reads,
    verifies,
)
from tools.bench.bench_system import Bench
from tools.bench.figures import Part, as_json, markdown
from tools.devstack.stack_settings import commit
from tools.html_report import terminal

FOLDER = Path(__file__).parents[2] / ".bench"
# Parts that share a system are neighbours.
PARTS: dict[str, Callable[[Bench], Awaitable[Part]]] = {
    "p2": creates.throughput,
    "p4": creates.added_latency,
    "p5": creates.footprint,
    "p3": status_reads.status_reads,
    "p9": verifies.verifies,
    "p8": replicas.replicas,
    "p6": pending_polls.pending,
    "p7": long_polls.long_polls,
    "p1": rush.rush,
    "p1b": rush.rush_with_early_polls,
}
_QUIET_SECONDS = 1.0


async def measure_against(folder: Path, names: list[str], *, commit_: str, rounds: int, quick: bool) -> dict[str, Any]:
    """Runs the named parts on this tree and on another commit, in alternation."""
    parts = [PARTS[name] for name in PARTS if name in names]
    async with against.tree_of(commit_) as tree:
        ours = Bench(folder=folder / "here", quick=quick)
        theirs = Bench(folder=folder / "there", quick=quick, tree=tree)
        try:
            measured = await against.rounds(ours, theirs, parts, count=rounds)
        finally:
            await ours.close()
            await theirs.close()
    described = [
        {"name": pairs[0][0].name, "title": pairs[0][0].title, "figures": against.compared(pairs)} for pairs in measured
    ]
    return _head() | {"against": commit_, "parts": described, "failed": {}}


def _head() -> dict[str, Any]:
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return {"at": at, "commit": commit()[:12], "machine": machine.describe()}


async def measure(folder: Path, names: list[str], *, quick: bool) -> dict[str, Any]:
    """Runs the named parts in the order of `PARTS`; a part that fails is reported and left out."""
    bench = Bench(folder=folder, quick=quick)
    parts, failed = [], {}
    try:
        for name in (each for each in PARTS if each in names):
            await asyncio.sleep(_QUIET_SECONDS)
            quiet, began = machine.noise(), time.perf_counter()
            sys.stderr.write(f"\n{name.upper()} ...\n")
            try:
                part = await PARTS[name](bench)
            except Exception as error:  # noqa: BLE001 - the other parts are still measured
                failed[name] = f"{type(error).__name__}: {error}"
                bench.say(f"failed: {failed[name]}")
                await bench.close()
            else:
                parts.append(replace(part, noise=quiet, seconds=round(time.perf_counter() - began, 1)))
    finally:
        await bench.close()
    return _head() | {
        "quick": quick,
        "parts": sorted(map(as_json, parts), key=lambda part: str(part["name"])),
        "failed": failed,
    }


def main() -> int:
    """0 if every part was measured, whatever the verdicts."""
    arguments = _arguments()
    if arguments.markdown:
        sys.stdout.write(markdown(json.loads((FOLDER / "bench.json").read_text())))
        return 0
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # also for our children: thousands of connections
    FOLDER.mkdir(exist_ok=True)
    console = terminal()
    with tempfile.TemporaryDirectory(prefix="bookticket-bench-") as folder:
        measured = Path(folder), arguments.only
        if arguments.against:
            options = {"commit_": arguments.against, "rounds": arguments.rounds, "quick": arguments.quick}
            run = uvloop.run(measure_against(*measured, **options))
            (FOLDER / "against.json").write_text(json.dumps(run, indent=2) + "\n")
            against.show(run, console)
            return 0
        run = uvloop.run(measure(*measured, quick=arguments.quick))
    (FOLDER / "bench.json").write_text(json.dumps(run, indent=2) + "\n")
    (FOLDER / "bench.html").write_text(bench_page.render(run))
    bench_page.show(run, console)
    console.print(f"kept in {FOLDER.name}/bench.json and {FOLDER.name}/bench.html")
    return 1 if run["failed"] else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description="Measures what the documentation promises.")
    parser.add_argument("--only", type=_names, default=list(PARTS), help="parts, separated by commas: p1,p7")
    parser.add_argument("--quick", action="store_true", help="less of everything, to see that it works")
    parser.add_argument("--against", metavar="COMMIT", help="compare with another commit, in alternation")
    parser.add_argument("--rounds", type=int, default=against.ROUNDS, help="how often each of the two is measured")
    parser.add_argument("--markdown", action="store_true", help="print the figures of the last run as a table")
    return parser.parse_args()


def _names(words: str) -> list[str]:
    names = [word.strip().lower() for word in words.split(",")]
    if unknown := [name for name in names if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}; there are {', '.join(sorted(PARTS))}")
    return names


if __name__ == "__main__":
    sys.exit(main())
