"""`python -m tools.chaos --seed N`: break everything while people buy, repair it, and check that the money is right.

Two services, two bridges, RabbitMQ, PostgreSQL and the sandbox run as real processes, with proxied links between them.
Buyers buy while faults happen; the seed determines both, the machine how they coincide. Then every fault is reverted,
and the database, Stripe's ledger, the queues and the answers to clients are compared (`invariants`).
The result is printed and kept in `.chaos/`. The exit status is 1 after a violation and 2 if the run itself failed.
"""

import argparse
import asyncio
import json
import logging
import os
import platform
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import uvloop
from rich.console import Console

from service.adapters.postgres.database import POOL_SIZE
from tools.chaos import chaos_page, facts, fault_injection, invariants, log_counts, losses, outage_figures, report
from tools.chaos.chaos_system import System
from tools.chaos.clients import Buyers
from tools.chaos.cluster import cluster_run
from tools.chaos.facts import Facts, Leaks, Sampler
from tools.chaos.fault_injection import Window
from tools.chaos.plan import draw
from tools.devstack import interruption
from tools.devstack.processes import LocalError
from tools.html_report import terminal

FOLDER = Path(__file__).parents[2] / ".chaos"
WAIT_SECONDS = 100.0
"""Longer than the time to pay: until then the sweeper has work."""
LATE_SECONDS = 600.0
"""How long clients may still retry after the last fault."""
FAILED = 2


async def chaos(arguments: argparse.Namespace, folder: Path, console: Console) -> dict[str, Any]:
    """The whole run; its figures."""
    say = console.print
    plan = draw(
        arguments.seed,
        seconds=arguments.minutes * 60,
        operations=arguments.operations,
        kills_per_minute=arguments.kills,
    )
    system = System(folder, say)
    say(f"seed {plan.seed}: {len(plan.buyers)} buyers and {len(plan.faults)} faults in {plan.seconds:.0f} s")
    async with system.running():
        await facts.bind_audit(system)
        before = await facts.size(system)
        say(f"everything is up: {', '.join(f'{name} {count}' for name, count in before.items())}")
        started = time.monotonic()
        buyers = Buyers(
            bridges=[bridge.base for bridge in system.bridges],
            sandbox=system.stripe.url,
            amqp_url=system.amqp_url,
            operate=system.operate,
            started=started,
        )
        before_restore: list[tuple[str, bytes]] = []
        system.before_restore = lambda: facts.drain_audit_in_time(system, before_restore)
        sampler, windows = Sampler(system), list[Window]()
        psutil.cpu_percent(None)
        sampling = asyncio.create_task(sampler.run(), name="sampler")
        buying = asyncio.create_task(buyers.play(plan.buyers, at_once=arguments.buyers, until=plan.seconds))
        used = _own_seconds()
        await fault_injection.play(system, plan.faults, started=started, report=say, windows=windows)
        await asyncio.sleep(max(0.0, started + plan.seconds - time.monotonic()))
        busy, used = psutil.cpu_percent(None), _own_seconds() - used
        seconds = buyers.now()
        say(f"{seconds:6.1f} s  everything is healed; {buyers.under_way} buyers are still at it")
        await system.heal()
        async with asyncio.timeout(LATE_SECONDS):
            done = await buying
        gathered = Facts(operations=buyers.operations, commands=buyers.commands, delivered_before=before_restore)
        gathered.losses = [(copied - started, restored - started) for copied, restored in system.losses]
        waited = await _wait_for_completion(system, gathered, arguments.wait)
        gathered.differences = await facts.differences(system)
        after, limits = await facts.size(system), facts.allowed(system, before)
        gathered.leaks = Leaks(
            database_sessions=(sampler.most_sessions, POOL_SIZE * len(system.services)),
            idle_in_transaction_seconds=(round(sampler.longest_idle_seconds, 1), 5.0),
            consumers=await facts.consumers(system),
            growth={name: (count, limits[name]) for name, count in after.items() if name in limits},
        )
        sampling.cancel()
        violations = invariants.check(gathered)
        figures = report.figures_of(
            operations=buyers.operations, windows=windows, violations=violations, seconds=seconds
        )
        served = (
            f"{done} of {len(plan.buyers)} buyers served; processors {busy:.0f} % busy,"
            f" the tool itself {used / seconds:.0%} of one"
        )
        return figures | {
            "seed": plan.seed,
            "command": f"python -m tools.chaos --seed {plan.seed} --minutes {arguments.minutes:g}"
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
                "events delivered": len(gathered.all_delivered),
                "events delivered again": len(gathered.all_delivered) - len(dict(gathered.all_delivered)),
                "times that the database was put back": len(gathered.losses),
                "payments that were adopted": sum(line["kind"] == "adopted" for line in gathered.journal),
                "payments that need or needed a person": sum(bool(each["attention"]) for each in gathered.payments),
                "differences that reconcile tells": len(gathered.differences),
            },
            "deaths": {name: member.deaths for name, member in system.members.items() if member.deaths},
            "logged": log_counts.counted(folder / "logs", "ERROR", "CRITICAL"),
            "warned": log_counts.counted(folder / "logs", "WARNING"),
            "violations": [vars(each) for each in violations],
        }


async def _wait_for_completion(system: System, gathered: Facts, wait_seconds: float) -> float:
    """Collects the facts until no work is left or the wait is over; the seconds waited."""
    began = time.monotonic()
    while True:
        gathered.payments, gathered.journal, gathered.unsent = await facts.tables(system.database_url)
        gathered.sessions, gathered.most_payable = await system.stripe.ledger(), await system.stripe.most_payable()
        await facts.drain_audit(system, gathered.delivered)
        gathered.dead, gathered.delayed = await facts.undelivered(system)
        waited = time.monotonic() - began
        pending = any(each["status"] == "PENDING" and not each["attention"] for each in gathered.payments)
        unfinished = pending or gathered.unsent or any(each.invariant != "I11" for each in invariants.check(gathered))
        if waited > wait_seconds or not unfinished:
            return waited
        await asyncio.sleep(2)


def _own_seconds() -> float:
    times = psutil.Process().cpu_times()
    return float(times.user + times.system)


def main() -> int:
    """The exit status."""
    arguments = _arguments()
    for library in ("aio_pika", "aiormq"):  # the broker is expected to be down
        logging.getLogger(library).setLevel(logging.CRITICAL)
    console = terminal()
    folder = Path(tempfile.mkdtemp(prefix="bookticket-chaos-"))
    try:
        play = cluster_run.chaos if arguments.cluster else losses.chaos if arguments.losses else chaos
        figures = interruption.run(play(arguments, folder, console), loop_factory=uvloop.new_event_loop)
    except asyncio.CancelledError:
        console.print("interrupted; everything was ended")
        return interruption.STATUS
    except (LocalError, TimeoutError) as error:
        console.print(f"the run failed: {type(error).__name__}: {error}", markup=False)
        return FAILED
    finally:
        if arguments.keep:
            console.print(f"logs and data are kept in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    FOLDER.mkdir(exist_ok=True)
    what = "cluster" if arguments.cluster else "losses" if arguments.losses else "chaos"
    kept = FOLDER / f"{what}-{arguments.seed}"
    kept.with_suffix(".json").write_text(json.dumps(figures, indent=2) + "\n")
    if arguments.cluster or arguments.losses:
        outage_figures.show(figures, console)
        console.print(f"kept in {FOLDER.name}/{kept.name}.json")
        return 1 if figures["violations"] or figures["problem"] else 0
    kept.with_suffix(".html").write_text(chaos_page.render(figures))
    report.show(figures, console)
    console.print(f"kept in {FOLDER.name}/{kept.name}.json and .html")
    return 1 if figures["violations"] else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1, help="the same seed is the same buyers and faults")
    parser.add_argument("--minutes", type=float, default=2.0, help="how long people buy and things break")
    parser.add_argument("--operations", type=int, help="buyers, spread evenly over the time (300 a minute)")
    parser.add_argument("--kills", type=float, default=10, help="processes killed a minute, besides all other faults")
    parser.add_argument("--buyers", type=int, default=60, help="buyers at once; the others wait until one is done")
    parser.add_argument("--wait", type=float, default=WAIT_SECONDS, help="seconds to wait at most for what is open")
    parser.add_argument(
        "--cluster", action="store_true", help="the cluster: kill and freeze its members, one at a time"
    )
    parser.add_argument("--losses", action="store_true", help="one loss at a time: the seconds until all is served")
    parser.add_argument("--only", help="with these two: what has one of these words in its name, by commas")
    parser.add_argument("--repeat", type=int, default=1, help="with these two: how often each happens")
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder with every log")
    arguments = parser.parse_args()
    arguments.operations = arguments.operations or max(1, round(300 * arguments.minutes))
    return arguments


if __name__ == "__main__":
    sys.exit(main())
