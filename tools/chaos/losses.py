"""Seconds from each loss to service: of one thing at a time, on the single stack, many times over.

What counts is the first success of what was begun after the lost part was back or, where nothing goes away for a while,
after the loss.
"""

import argparse
import asyncio
import os
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from tools.chaos import facts, outage_figures
from tools.chaos.chaos_system import System
from tools.chaos.facts import Facts
from tools.chaos.fault_injection import ACTIONS
from tools.chaos.outages import KINDS, Probes
from tools.chaos.plan import Fault
from tools.devstack.processes import LocalError

EVERY_SECONDS = 0.15
CALM_SECONDS = 1.0
"""Between a loss that is over and the next."""
AWAY_SECONDS = 5.0
SILENT_SECONDS = 10.0
"""A black hole's: longer than it takes each side to give its connections up."""
LONGEST_SECONDS = 60.0
"""What is not served by then counts as that long."""


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Faults that happen at once, while the members `stopped` are away."""

    name: str
    faults: tuple[Fault, ...]
    stopped: tuple[str, ...] = ()


def _fault(kind: str, target: str = "", seconds: float = 0.0) -> Fault:
    return Fault(number=0, kind=kind, target=target, at=0.0, seconds=seconds, value=0.0)


def _broker(kind: str, seconds: float = 0.0) -> tuple[Fault, ...]:
    return tuple(_fault(kind, link, seconds) for link in ("bridges-broker", "services-broker"))


LOSSES = (
    Loss(name="RabbitMQ killed and started again", faults=(_fault("broker killed"),)),
    Loss(name="RabbitMQ's connections cut", faults=_broker("link reset")),
    Loss(name="RabbitMQ silent for 10 s", faults=_broker("link black hole", SILENT_SECONDS)),
    Loss(name="PostgreSQL killed and started again", faults=(_fault("database killed"),)),
    Loss(name="PostgreSQL's sessions ended", faults=(_fault("database sessions ended"),)),
    Loss(name="PostgreSQL's connections cut", faults=(_fault("link reset", "services-database"),)),
    Loss(name="PostgreSQL silent for 10 s", faults=(_fault("link black hole", "services-database", SILENT_SECONDS),)),
    Loss(name="service killed, another lives", faults=(_fault("service killed", "service-1"),)),
    Loss(name="the only service killed", faults=(_fault("service killed", "service-1"),), stopped=("service-2",)),
    Loss(name="bridge killed, another lives", faults=(_fault("bridge killed", "bridge-1"),)),
    Loss(name="Stripe down for 5 s", faults=(_fault("Stripe down", seconds=AWAY_SECONDS),)),
    Loss(name="Stripe's connections cut", faults=(_fault("link reset", "services-stripe"),)),
)


async def chaos(arguments: argparse.Namespace, folder: Path, console: Console) -> dict[str, Any]:
    """The whole run; its figures."""
    say: Callable[[str], None] = console.print
    system = System(folder, say)
    losses = outage_figures.chosen(LOSSES, arguments)
    async with system.running():
        began = time.monotonic()
        await facts.bind_audit(system)
        probes = Probes(
            bridges=[bridge.base for bridge in system.bridges],
            sandbox=system.stripe.url,
            database_url=system.database_url,
            amqp_url=lambda: system.amqp_url,
            every_seconds=EVERY_SECONDS,
        )
        rows, problem = list[dict[str, Any]](), ""
        async with probes.running():
            try:
                for loss in losses:
                    rows.append(await _one(system, loss, probes, say))
            except LocalError as error:
                problem = str(error)
                say(problem)
        gathered = Facts()
        await outage_figures.gather(system, probes, gathered)
        loads = [row["load"] for row in rows]
        return outage_figures.figures_of(gathered, rows, problem, began) | {
            "seed": arguments.seed,
            "load": [min(loads, default=0.0), max(loads, default=0.0)],
        }


async def _one(system: System, loss: Loss, probes: Probes, say: Callable[[str], None]) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        for name in loss.stopped:
            await stack.enter_async_context(system.members[name].stopped())
        await asyncio.sleep(CALM_SECONDS)
        lost = time.monotonic()
        await asyncio.gather(*(ACTIONS[fault.kind](system, fault) for fault in loss.faults))
        back = time.monotonic()
        seconds = await served(probes, back=back)
    for member in system.members.values():
        await system.ready(member)
    say(f"{loss.name}: " + ", ".join(f"{kind} {each} s" for kind, each in seconds.items()))
    return {"name": loss.name, "away": round(back - lost, 2), "load": round(os.getloadavg()[0], 1), **seconds}


async def served(probes: Probes, *, back: float) -> dict[str, float]:
    """The seconds by kind, once each kind was served."""
    while True:
        firsts = {kind: probes.first(kind, back) for kind in KINDS}
        if None not in firsts.values() or time.monotonic() > back + LONGEST_SECONDS:
            return {kind: round(LONGEST_SECONDS if each is None else each, 2) for kind, each in firsts.items()}
        await asyncio.sleep(EVERY_SECONDS)
