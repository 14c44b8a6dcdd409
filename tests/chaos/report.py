"""What happened, as figures: summed up once, then told on the terminal, as JSON, and as one page with its pictures."""

import statistics
from collections import Counter, defaultdict
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.chaos.faults import Window
from tests.chaos.invariants import INVARIANTS, Violation
from tests.chaos.load import Operation

EXAMPLES = 5
LOSSES = {"I1", "I4", "I8", "I9"}
DUPLICATES = {"I2", "I3", "I6"}
COLUMNS = {
    "times": "times",
    "attempts": "attempts",
    "acknowledged": "acknow­ledged",
    "failed": "failed",
    "recovered": "recovered",
    "lost": "lost",
    "duplicated": "dupli­cated",
    "median": "recovery median s",
    "longest": "longest s",
}


def summed_up(
    *,
    operations: list[Operation],
    windows: list[Window],
    violations: list[Violation],
    seconds: float,
) -> dict[str, Any]:
    """Totals, a row per fault kind, the timeline and the invariants, ready for JSON."""
    creates = sorted(each.ended for each in operations if each.kind == "create" and each.acknowledged)
    faults = [_fault(window, creates) for window in windows]
    return {
        "totals": {"kills": sum(window.fault.kind.endswith("killed") for window in windows)}
        | _counts(operations, violations),
        "operations": _by_kind(operations),
        "answers": _answers(operations),
        "faults": faults,
        "kinds": _kinds(faults, operations, violations),
        "invariants": {
            name: {
                "text": text,
                "count": sum(each.invariant == name for each in violations),
                "examples": [_example(each) for each in violations if each.invariant == name][:EXAMPLES],
            }
            for name, text in INVARIANTS.items()
        },
        "timeline": _timeline(operations, int(seconds)),
        "seconds": round(seconds, 1),
    }


def _example(violation: Violation) -> str:
    return f"booking {violation.booking}: {violation.text}" if violation.booking else violation.text


def _fault(window: Window, creates: list[float]) -> dict[str, Any]:
    first = next((at for at in creates if at >= window.ended), None)
    return {
        "number": window.fault.number,
        "kind": window.fault.kind,
        "target": window.fault.target,
        "began": round(window.began, 2),
        "ended": round(window.ended, 2),
        "felt": round(max(window.ended, window.felt), 2),
        "recovery": None if first is None else round(first - window.ended, 2),
        "problem": window.problem,
    }


def _counts(operations: list[Operation], violations: list[Violation]) -> dict[str, int]:
    """`failed`: the client gave up without an answer. `refused`: it was answered no, for good (4xx)."""
    bookings = {each.booking for each in operations}
    told = [each for each in operations if not each.deserted]
    return {
        "operations": len(operations),
        "attempts": sum(len(each.attempts) for each in operations),
        "acknowledged": sum(each.acknowledged for each in operations),
        "refused": sum(400 <= each.status < 500 for each in told),
        "failed": sum(not each.acknowledged and not 400 <= each.status < 500 for each in told),
        "recovered": sum(each.recovered for each in told),
        "deserted": sum(each.deserted for each in operations),
        "lost": sum(each.invariant in LOSSES and each.booking in bookings for each in violations),
        "duplicated": sum(each.invariant in DUPLICATES and each.booking in bookings for each in violations),
    }


def _by_kind(operations: list[Operation]) -> dict[str, dict[str, int]]:
    kinds: dict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        kinds[operation.kind].append(operation)
    return {kind: _counts(several, []) for kind, several in sorted(kinds.items())}


def _answers(operations: list[Operation]) -> dict[str, int]:
    """How often each status, or what came instead of one."""
    attempts = (attempt for each in operations for attempt in each.attempts)
    return dict(Counter(str(attempt.status or attempt.error) for attempt in attempts).most_common())


def _kinds(
    faults: list[dict[str, Any]], operations: list[Operation], violations: list[Violation]
) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for kind in sorted({fault["kind"] for fault in faults}):
        those = [fault for fault in faults if fault["kind"] == kind]
        inside = [each for each in operations if any(_meets(each, fault) for fault in those)]
        recoveries = [fault["recovery"] for fault in those if fault["recovery"] is not None]
        rows[kind] = {
            "times": len(those),
            **_counts(inside, violations),
            "median": round(statistics.median(recoveries), 2) if recoveries else None,
            "longest": max(recoveries, default=None),
        }
    return rows


def _meets(operation: Operation, fault: dict[str, Any]) -> bool:
    return (
        operation.began <= max(fault["felt"], fault["ended"] + (fault["recovery"] or 0.0))
        and operation.ended >= fault["began"]
    )


def _timeline(operations: list[Operation], seconds: int) -> dict[str, list[float | None]]:
    """A value per second; latencies are of acknowledged attempts, in milliseconds."""
    acknowledged, errors = [0] * (seconds + 1), [0] * (seconds + 1)
    latencies: list[list[float]] = [[] for _ in range(seconds + 1)]
    for attempt in (attempt for each in operations for attempt in each.attempts):
        second = min(int(attempt.at + attempt.seconds), seconds)
        if 200 <= attempt.status < 300:
            acknowledged[second] += 1
            latencies[second].append(attempt.seconds * 1000)
        elif not 400 <= attempt.status < 500 and attempt.error != "left":
            errors[second] += 1
    return {
        "acknowledged": [*acknowledged],
        "errors": [*errors],
        "p50": [round(statistics.median(some), 1) if some else None for some in latencies],
        "worst": [round(max(some), 1) if some else None for some in latencies],
    }


def tell(figures: dict[str, Any], console: Console) -> None:
    """The result for a terminal."""
    console.print()
    table = Table(title="faults, and what clients saw while each lasted", title_justify="left", header_style="bold")
    table.add_column("fault")
    for title in COLUMNS.values():
        table.add_column(title.replace("\u00ad", ""), justify="right")
    for kind, row in figures["kinds"].items():
        table.add_row(kind, *("-" if row[name] is None else str(row[name]) for name in COLUMNS))
    console.print(table)
    console.print(", ".join(f"{value} {name}" for name, value in figures["totals"].items()))
    console.print("answers: " + ", ".join(f"{count} x {name}" for name, count in figures["answers"].items()))
    console.print(f"{figures['per_minute']} operations a minute, {figures['limits']}")
    console.print()
    for name, invariant in figures["invariants"].items():
        mark = "[green]ok[/]" if not invariant["count"] else f"[bold red]{invariant['count']}[/]"
        console.print(f"  {name:<4} {invariant['text']:<52} {mark}")
        for example in invariant["examples"]:
            console.print(f"         {example}", style="red", markup=False)
    console.print()
    console.print(f"after {figures['waited_seconds']:.0f} s of waiting:")
    for text, count in figures["open"].items():
        console.print(f"  {count:>5}  {text}")
    for name, ends in figures["deaths"].items():
        console.print(f"  {name} ended by itself {len(ends)} times; the last time it said:\n{ends[-1]}", markup=False)
    if figures["logged"]:
        console.print("errors in the logs:")
    for line, count in figures["logged"].items():
        console.print(f"  {count:>5}  {line}", markup=False)
