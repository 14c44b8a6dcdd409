"""A run on the cluster: faults in random order, one at a time, each followed by a wait until all is healthy again."""

import argparse
import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from tools.chaos import facts, outage_figures
from tools.chaos.clients import Buyers
from tools.chaos.cluster.cluster_faults import ClusterFault, all_faults
from tools.chaos.cluster.cluster_system import ClusterSystem
from tools.chaos.facts import Facts
from tools.chaos.outages import Probes
from tools.chaos.plan import draw
from tools.devstack.processes import LocalError

CALM_SECONDS = 5.0
QUEUES_SETTLE_SECONDS = 25.0
"""RabbitMQ 3.10 may lose the leader of a quorum queue that is younger than this."""
AFTER_SECONDS = 15.0
"""How long after its cause has gone a fault is watched, at least."""
OPERATIONS_A_MINUTE = 60
LONGEST_MINUTES = 120.0


async def chaos(arguments: argparse.Namespace, folder: Path, console: Console) -> dict[str, Any]:
    """The whole run; its figures."""
    say: Callable[[str], None] = console.print
    system = ClusterSystem(folder, say)
    faults = outage_figures.chosen(all_faults(), arguments)
    async with system.running():
        began = time.monotonic()
        await facts.bind_audit(system)
        probes = Probes(
            bridges=system.bridges,
            sandbox=system.sandbox,
            database_url=system.database_url,
            amqp_url=lambda: system.amqp_url,
        )
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
        buying = asyncio.create_task(
            buyers.play(plan.buyers, at_once=arguments.buyers, until=LONGEST_MINUTES * 60), name="buyers"
        )
        rows, problem = list[dict[str, Any]](), ""
        async with probes.running():
            await asyncio.sleep(QUEUES_SETTLE_SECONDS)
            try:
                for fault in faults:
                    rows.append(await _one(system, fault, probes, say))
            except LocalError as error:
                problem = str(error)
                say(problem)
            buying.cancel()
            await asyncio.wait([buying])
        gathered = Facts(operations=buyers.operations, commands=buyers.commands)
        await outage_figures.gather(system, probes, gathered)
        return outage_figures.figures_of(gathered, rows, problem, began) | {"seed": arguments.seed}


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
