"""The figures of a run: computed once, then printed, kept as JSON and shown on a page."""

import statistics
from collections import Counter
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tools.chaos.fault_injection import Window
from tools.chaos.invariants import INVARIANTS, Violation
from tools.chaos.wishes import Attempt, Operation

EXAMPLES = 5
LOSSES = {"I1", "I4", "I8", "I9"}
DUPLICATES = {"I2", "I3", "I6"}
KINDS = ("times", "attempts", "acknowledged", "failed", "recovered", "lost", "duplicated", "median", "longest")
TITLES = {"median": "recovery median s", "longest": "longest s"}
OPERATIONS = ("operations", "attempts", "acknowledged", "refused", "failed", "recovered", "deserted")


def figures_of(
    *, operations: list[Operation], windows: list[Window], violations: list[Violation], seconds: float
) -> dict[str, Any]:
    """Totals, a row for each fault kind, the timeline and the invariants, ready for JSON."""
    creates = sorted(each.ended for each in operations if each.kind == "create" and each.acknowledged)
    faults = [_fault(window, creates) for window in windows]
    attempts = [attempt for each in operations for attempt in each.attempts]
    return {
        "totals": {"kills": sum(window.fault.kind.endswith("killed") for window in windows)}
        | _counts(operations, violations),
        "operations": {
            kind: _counts([each for each in operations if each.kind == kind], [])
            for kind in sorted({each.kind for each in operations})
        },
        "answers": dict(Counter(str(each.status or each.error) for each in attempts).most_common()),
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
        "timeline": _timeline(attempts, int(seconds)),
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
    """`failed`: the client gave up without an answer. `refused`: the answer was 4xx."""
    bookings = {each.booking for each in operations}
    watched = [each for each in operations if not each.deserted]
    return {
        "operations": len(operations),
        "attempts": sum(len(each.attempts) for each in operations),
        "acknowledged": sum(each.acknowledged for each in operations),
        "refused": sum(each.refused for each in watched),
        "failed": sum(not each.acknowledged and not each.refused for each in watched),
        "recovered": sum(each.recovered for each in watched),
        "deserted": sum(each.deserted for each in operations),
        "lost": sum(each.invariant in LOSSES and each.booking in bookings for each in violations),
        "duplicated": sum(each.invariant in DUPLICATES and each.booking in bookings for each in violations),
    }


def _kinds(
    faults: list[dict[str, Any]], operations: list[Operation], violations: list[Violation]
) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for kind in sorted({fault["kind"] for fault in faults}):
        those = [fault for fault in faults if fault["kind"] == kind]
        inside = [each for each in operations if any(_overlaps(each, fault) for fault in those)]
        recoveries = [fault["recovery"] for fault in those if fault["recovery"] is not None]
        rows[kind] = {
            "times": len(those),
            **_counts(inside, violations),
            "median": round(statistics.median(recoveries), 2) if recoveries else None,
            "longest": max(recoveries, default=None),
        }
    return rows


def _overlaps(operation: Operation, fault: dict[str, Any]) -> bool:
    until: float = max(fault["felt"], fault["ended"] + (fault["recovery"] or 0.0))
    since: float = fault["began"]
    return operation.began <= until and operation.ended >= since


def _timeline(attempts: list[Attempt], seconds: int) -> dict[str, list[float | None]]:
    """One value for each second; latencies of acknowledged attempts, in milliseconds."""
    acknowledged, errors = [0] * (seconds + 1), [0] * (seconds + 1)
    latencies: list[list[float]] = [[] for _ in range(seconds + 1)]
    for attempt in attempts:
        second = min(int(attempt.at + attempt.seconds), seconds)
        if attempt.acknowledged:
            acknowledged[second] += 1
            latencies[second].append(attempt.seconds * 1000)
        elif not attempt.refused and attempt.error != "left":
            errors[second] += 1
    return {
        "acknowledged": [*acknowledged],
        "errors": [*errors],
        "p50": [round(statistics.median(some), 1) if some else None for some in latencies],
        "worst": [round(max(some), 1) if some else None for some in latencies],
    }


def verdict(figures: dict[str, Any]) -> str:
    """The result in one line."""
    broken = {name: each["count"] for name, each in figures["invariants"].items() if each["count"]}
    words = (
        f"{sum(broken.values())} violations: {', '.join(broken)}" if broken else "nothing lost, nobody charged twice"
    )
    return f"Chaos run, seed {figures['seed']}: {words}"


def show(figures: dict[str, Any], console: Console) -> None:
    """Prints the result."""
    console.print()
    _show_table(console, "fault, and what clients saw while it lasted", KINDS, figures["kinds"])
    _show_table(console, "operation", OPERATIONS, figures["operations"])
    console.print("totals: " + ", ".join(f"{value} {name}" for name, value in figures["totals"].items()))
    console.print("answers: " + ", ".join(f"{count} x {name}" for name, count in figures["answers"].items()))
    console.print(f"{figures['per_minute']} operations a minute, {figures['limits']}\n")
    for name, invariant in figures["invariants"].items():
        mark = "[green]ok[/]" if not invariant["count"] else f"[bold red]{invariant['count']}[/]"
        console.print(f"  {name:<4} {invariant['text']:<52} {mark}")
        for example in invariant["examples"]:
            console.print(f"         {example}", style="red", markup=False)
    _show_counts(console, f"after {figures['waited_seconds']:.0f} s of waiting", figures["open"] | figures["measured"])
    for name, ends in figures["deaths"].items():
        console.print(f"  {name} ended by itself {len(ends)} times; its last lines:\n{ends[-1]}", markup=False)
    _show_counts(console, "errors in the logs", figures["logged"])
    console.print(f"\n{verdict(figures)}", style="bold")
    console.print(f"{figures['at']}, {figures['machine']}; repeat with: {figures['command']}", markup=False)


def _show_table(console: Console, title: str, columns: tuple[str, ...], rows: dict[str, Any]) -> None:
    table = Table(title, header_style="bold", box=SIMPLE_HEAD)
    for column in columns:
        table.add_column(TITLES.get(column, column), justify="right")
    for name, row in rows.items():
        table.add_row(name, *("-" if row[column] is None else str(row[column]) for column in columns))
    console.print(table)


def _show_counts(console: Console, title: str, counts: dict[str, int]) -> None:
    if counts:
        console.print(f"\n{title}:")
    for text, count in counts.items():
        console.print(f"  {count:>5}  {text}", markup=False)
