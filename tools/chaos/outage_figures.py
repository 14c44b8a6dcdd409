"""The figures of a run in which one thing happens at a time: seconds without service, and if the money is right."""

import argparse
import asyncio
import os
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any, Protocol, TypeVar

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tools.chaos import facts, invariants
from tools.chaos.chaos_system import System
from tools.chaos.cluster.cluster_system import ClusterSystem
from tools.chaos.facts import Facts
from tools.chaos.outages import KINDS, Probes

LOST, TWICE = ("I1", "I4", "I8"), ("I2", "I3", "I6")
WAIT_SECONDS = 150.0


class Named(Protocol):
    """What can happen."""

    @property
    def name(self) -> str: ...


Each = TypeVar("Each", bound=Named)


def chosen(every: Sequence[Each], arguments: argparse.Namespace) -> list[Each]:
    """Each `repeat` times in the seed's order; if `only` is given, those whose name has one of its words."""
    happen = list(every) * arguments.repeat
    Random(arguments.seed).shuffle(happen)  # noqa: S311 - repeatable, not secret
    words = arguments.only.split(",") if arguments.only else [""]
    return [each for each in happen if any(word in each.name for word in words)]


async def gather(system: System | ClusterSystem, probes: Probes, gathered: Facts) -> None:
    """Adds the facts once nothing is left to do, or the wait is over; the probes have ended."""
    gathered.operations.extend(probes.operations)
    gathered.delivered.extend(probes.delivered)
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        gathered.payments, gathered.journal, gathered.unsent = await facts.tables(system.database_url)
        gathered.sessions, gathered.most_payable = await system.stripe.ledger(), await system.stripe.most_payable()
        await facts.drain_audit(system, gathered.delivered)
        gathered.dead, gathered.delayed = await facts.undelivered(system)
        gathered.leaks.consumers = await facts.consumers(system)
        pending = any(each["status"] == "PENDING" and not each["attention"] for each in gathered.payments)
        unfinished = gathered.unsent or pending
        if time.monotonic() > deadline or not (unfinished or invariants.check(gathered)):
            return
        await asyncio.sleep(2)


def figures_of(gathered: Facts, rows: list[dict[str, Any]], problem: str, began: float) -> dict[str, Any]:
    """Ready for JSON. `rows`: what happened, with seconds by kind; `began`: when, on the monotonic clock."""
    violations = invariants.check(gathered)
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "seconds": round(time.monotonic() - began),
        "problem": problem,
        "faults": rows,
        "operations": len(gathered.operations),
        "payments": len(gathered.payments),
        "events": len(gathered.delivered),
        "lost": sum(each.invariant in LOST for each in violations),
        "twice": sum(each.invariant in TWICE for each in violations),
        "violations": [vars(each) for each in violations],
    }


def show(figures: dict[str, Any], console: Console) -> None:
    """Prints a row for each kind of fault, and the verdict."""
    table = Table(title="seconds, median / worst", header_style="bold", box=SIMPLE_HEAD)
    for column in ("fault", "N", *KINDS):
        table.add_column(column)
    for name, row in summary(figures["faults"]).items():
        table.add_row(name, str(row["N"]), *(f"{row[kind][0]} / {row[kind][1]}" for kind in KINDS))
    console.print(table)
    for each in figures["violations"][:20]:
        console.print(f"  {each['invariant']} booking {each['booking']}: {each['text']}", markup=False, style="red")
    console.print(
        f"{figures['payments']} payments, {figures['events']} events; lost {figures['lost']}, twice {figures['twice']},"
        f" {len(figures['violations'])} violations; {figures['at']}, {figures['machine']}, seed {figures['seed']}"
    )


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Median and worst of each kind of fault; members of the same kind are one, a role makes another."""
    kinds: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        kinds[_kind(row)].append(row)
    return {
        name: {"N": len(several)}
        | {
            kind: (
                round(statistics.median(row[kind] for row in several), 1),
                round(max(row[kind] for row in several), 1),
            )
            for kind in KINDS
        }
        for name, several in sorted(kinds.items())
    }


def _kind(row: dict[str, Any]) -> str:
    member, _, what = row["name"].partition(" ")
    kind, dash, number = member.rpartition("-")
    if not (dash and number.isdecimal()):
        return str(row["name"])
    name = "broker node" if kind == "rabbitmq" else kind
    return f"{name} {what}" + ("" if kind == "bridge" else f" ({row['hit']})")
