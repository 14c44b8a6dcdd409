"""`python -m tests.chaos --seed N`: break everything while people buy, mend it, and look whether the money is right.

Two services and two bridges, a RabbitMQ, a PostgreSQL and the sandbox, all real processes of this run's own, with links
between them that can be cut. Buyers buy while faults happen; both are drawn from the seed. Then everything is healed,
and the database, Stripe's ledger, the queues and what clients were told are held against each other (`invariants`).
A seed repeats the buyers and the faults; how they meet is up to the machine.
The result is printed and kept in `.chaos/`. Exit status 1 if anything was violated, 2 if the run itself failed.
"""

import argparse
import asyncio
import json
import logging
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import uvloop
from rich.console import Console

from deploy.local.processes import LocalError
from service.adapters.store.database import POOL_SIZE
from tests.chaos import facts, faults, invariants, logs, page, report
from tests.chaos.facts import Facts, Leaks, Sampler
from tests.chaos.faults import Window
from tests.chaos.load import Buyers
from tests.chaos.plan import Plan, draw
from tests.chaos.system import System

FOLDER = Path(__file__).parents[2] / ".chaos"
WAIT_SECONDS = 100.0
"""Longer than the time to pay: until then the settler has work."""
LATE_SECONDS = 60.0
"""How long clients that are still repeating may go on after the last fault."""
PIPE_WIDTH = 130
FAILED, INTERRUPTED = 2, 130


async def chaos(plan: Plan, arguments: argparse.Namespace, folder: Path, console: Console) -> dict[str, Any]:
    """The whole run; its figures."""
    say = console.print
    system = System(folder, say)
    say(f"seed {plan.seed}: {len(plan.buyers)} buyers and {len(plan.faults)} faults in {plan.seconds:.0f} s")
    async with system.running():
        await facts.bind_audit(system)
        before = await facts.size(system)
        say(f"everything is up: {', '.join(f'{name} {count}' for name, count in before.items())}")
        started = time.monotonic()
        buyers = Buyers(
            bridges=[bridge.base for bridge in system.bridges],
            sandbox=system.sandbox,
            amqp_url=system.amqp_url,
            started=started,
        )
        sampler, windows = Sampler(system), list[Window]()
        psutil.cpu_percent(None)
        sampling = asyncio.create_task(sampler.run(), name="sampler")
        buying = asyncio.create_task(buyers.play(plan.buyers, at_once=arguments.buyers, until=plan.seconds))
        used = _own_seconds()
        await faults.play(system, plan.faults, started=started, tell=say, windows=windows)
        await asyncio.sleep(max(0.0, started + plan.seconds - time.monotonic()))
        busy, used = psutil.cpu_percent(None), _own_seconds() - used
        seconds = buyers.now()
        say(f"{seconds:6.1f} s  everything is healed; {buyers.under_way} buyers are still at it")
        await system.heal()
        async with asyncio.timeout(LATE_SECONDS):
            done = await buying
        gathered, waited = await _settle(system, buyers, arguments.wait)
        after, limits = await facts.size(system), facts.allowed(system, before)
        gathered.leaks = Leaks(
            database_sessions=(sampler.most_sessions, POOL_SIZE * len(system.services)),
            idle_in_transaction_seconds=(round(sampler.longest_idle_seconds, 1), 5.0),
            consumers=await facts.consumers(system),
            growth={name: (count, limits[name]) for name, count in after.items() if name in limits},
        )
        sampling.cancel()
        violations = invariants.check(gathered)
        figures = report.summed_up(
            operations=buyers.operations, windows=windows, violations=violations, seconds=seconds
        )
        served = (
            f"{done} of {len(plan.buyers)} buyers served; processors {busy:.0f} % busy,"
            f" the tool itself {used / seconds:.0%} of one"
        )
        return figures | {
            "seed": plan.seed,
            "command": f"python -m tests.chaos --seed {plan.seed} --minutes {arguments.minutes:g}"
            f" --operations {len(plan.buyers)} --kills {arguments.kills:g}",
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
            "per_minute": round(len(buyers.operations) / seconds * 60),
            "limits": served,
            "waited_seconds": waited,
            "open": invariants.still_open(gathered),
            "measured": {
                **{f"{name} (at most {allowed:g})": count for name, (count, allowed) in gathered.leaks.growth.items()},
                "most database sessions of the services": sampler.most_sessions,
                "payments": len(gathered.payments),
                "sessions at Stripe": len(gathered.sessions),
                "events delivered": len(gathered.delivered),
                "events delivered again": len(gathered.delivered) - len({each for each, _ in gathered.delivered}),
            },
            "deaths": {name: member.deaths for name, member in system.members.items() if member.deaths},
            "logged": logs.counted(folder / "logs", "ERROR", "CRITICAL"),
            "warned": logs.counted(folder / "logs", "WARNING"),
            "violations": [vars(each) for each in violations],
        }


async def _settle(system: System, buyers: Buyers, wait_seconds: float) -> tuple[Facts, float]:
    """Look again and again until nothing is left to do, or the wait is over; the last facts."""
    began = time.monotonic()
    gathered = Facts(operations=buyers.operations, commands=buyers.commands)
    while True:
        gathered.payments, gathered.journal, gathered.unsent = await facts.tables(system.database_url)
        gathered.sessions, gathered.most_payable = await system.ledger(), await system.most_payable()
        await facts.drain_audit(system, gathered.delivered)
        gathered.dead, gathered.delayed = await facts.parked(system)
        waited = time.monotonic() - began
        pending = any(payment["status"] == "PENDING" for payment in gathered.payments)
        unfinished = pending or gathered.unsent or any(each.invariant != "I11" for each in invariants.check(gathered))
        if waited > wait_seconds or not unfinished:
            return gathered, waited
        await asyncio.sleep(2)


def _own_seconds() -> float:
    times = psutil.Process().cpu_times()
    return float(times.user + times.system)


def main() -> int:
    arguments = _arguments()
    plan = draw(
        arguments.seed,
        seconds=arguments.minutes * 60,
        operations=arguments.operations,
        kills_per_minute=arguments.kills,
    )
    for library in ("aio_pika", "aiormq"):  # that the broker is down is no news here
        logging.getLogger(library).setLevel(logging.CRITICAL)
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    folder = Path(tempfile.mkdtemp(prefix="bookticket-chaos-"))
    try:
        figures = _until_interrupted(plan, arguments, folder, console)
    except asyncio.CancelledError:
        console.print("interrupted; everything was ended")
        return INTERRUPTED
    except (LocalError, TimeoutError) as error:
        console.print(f"the run failed: {type(error).__name__}: {error}", markup=False)
        return FAILED
    finally:
        if arguments.keep:
            console.print(f"logs and data are kept in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    FOLDER.mkdir(exist_ok=True)
    kept = FOLDER / f"chaos-{plan.seed}"
    kept.with_suffix(".json").write_text(json.dumps(figures, indent=2) + "\n")
    kept.with_suffix(".html").write_text(page.render(figures))
    report.tell(figures, console)
    console.print(f"\nkept in {FOLDER.name}/{kept.name}.json and .html; repeat with: {figures['command']}")
    return 1 if figures["violations"] else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1, help="the same seed is the same buyers and faults")
    parser.add_argument("--minutes", type=float, default=2.0, help="how long people buy and things break")
    parser.add_argument("--operations", type=int, help="buyers, spread evenly over the time (300 a minute)")
    parser.add_argument("--kills", type=float, default=10, help="processes killed a minute, besides all other faults")
    parser.add_argument("--buyers", type=int, default=60, help="buyers at once; the others wait until one is done")
    parser.add_argument("--wait", type=float, default=WAIT_SECONDS, help="seconds to wait at most for what is open")
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder with every log")
    arguments = parser.parse_args()
    arguments.operations = arguments.operations or max(1, round(300 * arguments.minutes))
    return arguments


def _until_interrupted(plan: Plan, arguments: argparse.Namespace, folder: Path, console: Console) -> dict[str, Any]:
    """Runs it; Ctrl-C and SIGTERM cancel it once, and a second one does not disturb the ending."""

    async def cancellable() -> dict[str, Any]:
        task = asyncio.ensure_future(chaos(plan, arguments, folder, console))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, _cancel_once, task)
        return await task

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(cancellable())


def _cancel_once(task: asyncio.Task[Any]) -> None:
    if not task.cancelling():
        task.cancel()


if __name__ == "__main__":
    sys.exit(main())
