"""P8: several services and bridges on one database and one broker: the budget, the invariants, and what each adds."""

import asyncio
import itertools
from contextlib import AsyncExitStack
from typing import Any

from tests.bench.figures import Figure, Part, Plot
from tests.bench.load import OK, Call, Http, bookings, closed_loop, http, open_loop, ticks
from tests.bench.system import LATENCY_MS, UNPACED, Bench, Meter, System

SERVICES, BRIDGES = (1, 2, 3), (1, 2)
LIMITS = {"default": 25, "global": 100}
PACED: dict[str, str] = {}
"""As shipped: 20 calls a second for each endpoint, for all services together."""
OFFERED = 60.0
SECONDS, FULL_SECONDS = 8.0, 5.0
CALLERS = 200
PAIRS = 15


async def replicas(bench: Bench) -> Part:
    """P8."""
    system = await bench.system(UNPACED, new=True)
    counts = [(2, 2)] if bench.quick else list(itertools.product(SERVICES, BRIDGES))
    rows = []
    for services, bridges in counts:
        row = {"services": services, "bridges": bridges}
        row |= await _limited(system, services, bridges)
        row |= await _unlimited(system, services, bridges)
        rows.append(row)
        bench.say(f"{services} services, {bridges} bridges: {row}")
    return _part(rows)


async def _limited(system: System, services: int, bridges: int) -> dict[str, Any]:
    """More creates than Stripe allows, and pairs of creates of one booking at once, by different bridges."""
    await system.reset_stripe()
    await system.stripe(latency_ms=LATENCY_MS, rate_limits=LIMITS)
    await system.scale(services=services, bridges=bridges, settings=PACED)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(http(base)) for base in system.bridges]
        async with Meter(system=system) as meter:
            outcome, pairs = await asyncio.gather(
                open_loop(_creates(clients), rate=OFFERED, seconds=SECONDS), _pairs(clients)
            )
    stats = await system.stats()
    return {
        "overruns": meter.limited,
        "calls_per_second": {name: round(count / meter.seconds, 2) for name, count in meter.calls.items() if count},
        "paced_per_second": outcome.per_second,
        "refused": outcome.statuses[503],
        "failed": outcome.errors - outcome.statuses[503],
        "most_payable": stats["max_payable_per_booking"],
        "different_answers": sum(len(sessions) > 1 for sessions in pairs),
        "pairs": len(pairs),
    }


async def _unlimited(system: System, services: int, bridges: int) -> dict[str, Any]:
    await system.stripe(latency_ms=LATENCY_MS, rate_limits={})
    await system.scale(services=services, bridges=bridges, settings=UNPACED)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(http(base)) for base in system.bridges]
        create = _creates(clients)
        await closed_loop(create, callers=CALLERS, seconds=1.5)
        async with Meter(system=system) as meter:
            outcome = await closed_loop(create, callers=CALLERS, seconds=FULL_SECONDS)
    return {
        "creates_per_second": outcome.per_second,
        "errors": outcome.errors,
        "cpu_ms_each": meter.ms_each(outcome.served),
        "cores": meter.cores,
    }


def _creates(clients: list[Http]) -> Call:
    async def call(number: int) -> int:
        return (await clients[number % len(clients)].create(next(bookings))).status

    return call


async def _pairs(clients: list[Http]) -> list[set[str]]:
    """The sessions that both creates of each booking were told; a refused one is told none."""

    async def pair(booking: int) -> set[str]:
        answers = await asyncio.gather(*(client.create(booking) for client in (clients[0], clients[-1])))
        return {answer.body["sessionId"] for answer in answers if answer.status == OK}

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(pair(next(bookings))) async for _ in ticks(PAIRS, rate=PAIRS / SECONDS)]
    return [task.result() for task in tasks]


def _part(rows: list[dict[str, Any]]) -> Part:
    alone = rows[0]["creates_per_second"]
    names = [f"{row['services']} and {row['bridges']}" for row in rows]
    cores = sorted({name for row in rows for name in row["cores"]})
    return Part(
        name="p8",
        title="Several services and bridges",
        how=f"For {SECONDS:.0f} s {OFFERED:.0f} creates a second are offered where Stripe serves 25 and we allow "
        f"ourselves 20 in all, and {PAIRS} bookings are created twice at once. Then without limits, {CALLERS} callers "
        f"for {FULL_SECONDS:.0f} s. Everything on the same machine.",
        figures=[
            Figure(name="calls beyond Stripe's limit", value=sum(row["overruns"] for row in rows), at_most=0),
            Figure(
                name="most payable sessions of one booking", value=max(row["most_payable"] for row in rows), at_most=1
            ),
            Figure(
                name="bookings whose two creates got different sessions",
                value=sum(row["different_answers"] for row in rows),
                at_most=0,
            ),
            Figure(
                name="creates that failed otherwise than by 503", value=sum(row["failed"] for row in rows), at_most=0
            ),
            *(
                Figure(
                    name=f"creates/s within the budget, {name}",
                    value=row["paced_per_second"],
                    unit="/s",
                    baseline=25,
                    against="Stripe's limit",
                )
                for name, row in zip(names, rows, strict=True)
            ),
            *(
                Figure(
                    name=f"creates/s without limits, {name}",
                    value=row["creates_per_second"],
                    unit="/s",
                    baseline=alone,
                    against=names[0],
                )
                for name, row in zip(names, rows, strict=True)
            ),
        ],
        plots=[
            Plot(
                title="Creates without limits",
                x=names,
                series={"creates per second": [row["creates_per_second"] for row in rows]},
                xlabel="services and bridges",
                ylabel="per second",
                kind="bars",
            ),
            Plot(
                title="Who uses the processor meanwhile",
                x=names,
                series={name: [row["cores"].get(name, 0.0) for row in rows] for name in cores},
                xlabel="services and bridges",
                ylabel="cores",
                kind="stacked",
            ),
        ],
        details={"rows": rows},
    )
