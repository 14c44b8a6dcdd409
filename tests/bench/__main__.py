"""`make bench`: measures, prints, and keeps the figures as JSON and a page of plots in `.bench/` (ignored by git)."""

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

from deploy.local.settings import commit
from tests.bench import creates, held, machine, page, pending, replicas, rush, status, verifies
from tests.bench.figures import Part, as_json, markdown, text
from tests.bench.system import Bench

FOLDER = Path(__file__).parents[2] / ".bench"
# Those that share a system stand beside each other.
PARTS: dict[str, Callable[[Bench], Awaitable[Part]]] = {
    "p2": creates.throughput,
    "p4": creates.added_latency,
    "p5": creates.footprint,
    "p3": status.status_reads,
    "p9": verifies.verifies,
    "p8": replicas.replicas,
    "p6": pending.pending,
    "p7": held.held,
    "p1": rush.rush,
    "p1b": rush.rush_with_early_polls,
}
_QUIET_SECONDS = 1.0


async def measure(folder: Path, names: list[str], *, quick: bool) -> dict[str, Any]:
    """The parts of these names, in the order in which they share their systems. One that fails is said and left out."""
    bench = Bench(folder=folder, quick=quick)
    parts, failed = [], {}
    try:
        for name in (each for each in PARTS if each in names):
            await asyncio.sleep(_QUIET_SECONDS)
            quiet, began = machine.noise(), time.perf_counter()
            sys.stderr.write(f"\n{name.upper()} ...\n")
            try:
                part = await PARTS[name](bench)
            except Exception as error:  # noqa: BLE001 - the other parts' figures are wanted all the same
                failed[name] = f"{type(error).__name__}: {error}"
                bench.say(f"failed: {failed[name]}")
                await bench.close()
            else:
                parts.append(replace(part, noise=quiet, seconds=round(time.perf_counter() - began, 1)))
    finally:
        await bench.close()
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit()[:12],
        "quick": quick,
        "machine": machine.describe(),
        "parts": sorted(map(as_json, parts), key=lambda part: str(part["name"])),
        "failed": failed,
    }


def main() -> int:
    """0 if every part could be measured, whatever the verdicts."""
    arguments = _arguments()
    if arguments.markdown:
        sys.stdout.write(markdown(json.loads((FOLDER / "bench.json").read_text())))
        return 0
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # for us and what we start: thousands of connections
    with tempfile.TemporaryDirectory(prefix="bookticket-bench-") as folder:
        run = uvloop.run(measure(Path(folder), arguments.only, quick=arguments.quick))
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "bench.json").write_text(json.dumps(run, indent=2) + "\n")
    (FOLDER / "bench.html").write_text(page.render(run))
    sys.stdout.write(text(run))
    sys.stdout.write(f"\nkept in {FOLDER.name}/bench.json and {FOLDER.name}/bench.html\n")
    for name, reason in run["failed"].items():
        sys.stdout.write(f"{name} could not be measured: {reason}\n")
    return 1 if run["failed"] else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description="Measures what the documentation promises.")
    parser.add_argument("--only", type=_names, default=list(PARTS), help="parts, separated by commas: p1,p7")
    parser.add_argument("--quick", action="store_true", help="less of everything, to see that it works")
    parser.add_argument("--markdown", action="store_true", help="print the figures of the last run as a table")
    return parser.parse_args()


def _names(words: str) -> list[str]:
    names = [word.strip().lower() for word in words.split(",")]
    if unknown := [name for name in names if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}; there are {', '.join(sorted(PARTS))}")
    return names


if __name__ == "__main__":
    sys.exit(main())
