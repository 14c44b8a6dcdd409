"""A run on the cluster: faults in random order, one at a time, each followed by a wait until all is healthy again."""

import argparse
import asyncio
import os
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tools.chaos import facts, invariants
from tools.chaos.clients import Buyers
from tools.chaos.cluster.cluster_faults import ClusterFault, all_faults
from tools.chaos.cluster.cluster_system import ClusterSystem
from tools.chaos.cluster.outages import KINDS, Probes
from tools.chaos.facts import Facts
from tools.chaos.plan import draw
from tools.devstack.processes import LocalError

CALM_SECONDS = 5.0
QUEUES_SETTLE_SECONDS = 25.0
"""RabbitMQ 3.10 may lose the leader of a quorum queue that is younger than this."""
AFTER_SECONDS = 15.0
"""How long after its cause has gone a fault is watched, at least."""
OPERATIONS_A_MINUTE = 60
LONGEST_MINUTES = 120.0
LOST, TWICE = ("I1", "I4", "I8"), ("I2", "I3", "I6")
WAIT_SECONDS = 150.0


async def chaos(arguments: argparse.Namespace, folder: Path, console: Console) -> dict[str, Any]:
    """The whole run; its figures."""
    say: Callable[[str], None] = console.print
    system = ClusterSystem(folder, say)
    faults = chosen(arguments.seed, arguments.only, arguments.repeat)
    async with system.running():
        began = time.monotonic()
        await facts.bind_audit(system)
        probes = Probes(system=system)
        plan = draw(
            arguments.seed,
            seconds=LONGEST_MINUTES * 60,
            operations=int(LONGEST_MINUTES * OPERATIONS_A_MINUTE),
            kills_per_minute=0,
        )
        buyers = Buyers(
            bridges=system.bridges,
            sandbox=system.sandbox,
            amqp_url=system.amqp_url,
            operate=system.operate,
            started=began,
        )
        probing = asyncio.create_task(probes.run(), name="probes")
        buying = asyncio.create_task(
            buyers.play(plan.buyers, at_once=arguments.buyers, until=LONGEST_MINUTES * 60), name="buyers"
        )
        await asyncio.sleep(QUEUES_SETTLE_SECONDS)
        rows, problem = list[dict[str, Any]](), ""
        try:
            for fault in faults:
                rows.append(await _one(system, fault, probes, say))
        except LocalError as error:
            problem = str(error)
            say(problem)
        buying.cancel()
        await asyncio.wait([buying])
        gathered = await _gather(system, buyers, probes, probing)
        violations = invariants.check(gathered)
        return {
            "seed": arguments.seed,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
            "seconds": round(time.monotonic() - began),
            "problem": problem,
            "faults": rows,
            "creates": len(probes.served["creates"]),
            "operations": len(buyers.operations),
            "payments": len(gathered.payments),
            "events": len(gathered.delivered),
            "lost": sum(each.invariant in LOST for each in violations),
            "twice": sum(each.invariant in TWICE for each in violations),
            "violations": [vars(each) for each in violations],
        }


def chosen(seed: int, only: str | None, repeat: int) -> list[ClusterFault]:
    """Every fault `repeat` times in the seed's order; if `only` is given, those whose name has one of its words."""
    faults = all_faults() * repeat
    Random(seed).shuffle(faults)  # noqa: S311 - repeatable, not secret
    words = only.split(",") if only else [""]
    return [fault for fault in faults if any(word in fault.name for word in words)]


async def _one(
    system: ClusterSystem, fault: ClusterFault, probes: Probes, say: Callable[[str], None]
) -> dict[str, Any]:
    await system.wait_until_healthy()
    await asyncio.sleep(CALM_SECONDS)
    began = time.monotonic()
    hit = await fault.run(system)
    await asyncio.sleep(AFTER_SECONDS)
    await system.wait_until_healthy()
    ended = time.monotonic()
    gaps = {kind: round(probes.gap(kind, began, ended), 2) for kind in probes.served}
    say(f"{fault.name} ({hit}): without " + ", ".join(f"{kind} {gap} s" for kind, gap in gaps.items()))
    return {"name": fault.name, "hit": hit, "healthy": round(ended - began, 1), **gaps}


async def _gather(system: ClusterSystem, buyers: Buyers, probes: Probes, probing: asyncio.Task[None]) -> Facts:
    """The facts once nothing is left to do, or the wait is over."""
    probing.cancel()
    await asyncio.wait([probing])
    gathered = Facts(operations=buyers.operations, commands=buyers.commands, delivered=probes.delivered)
    gathered.operations.extend(probes.operations)
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        gathered.payments, gathered.journal, gathered.unsent = await facts.tables(system.database_url)
        gathered.sessions, gathered.most_payable = await system.ledger(), await system.most_payable()
        await facts.drain_audit(system, gathered.delivered)
        gathered.dead, gathered.delayed = await facts.undelivered(system)
        gathered.leaks.consumers = await facts.consumers(system)
        pending = any(each["status"] == "PENDING" and not each["attention"] for each in gathered.payments)
        unfinished = gathered.unsent or pending
        if time.monotonic() > deadline or not (unfinished or invariants.check(gathered)):
            return gathered
        await asyncio.sleep(2)


def show(figures: dict[str, Any], console: Console) -> None:
    """Prints a row for each kind of fault, and the verdict."""
    table = Table(title="seconds without, median / worst", header_style="bold", box=SIMPLE_HEAD)
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
