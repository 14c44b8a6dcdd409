"""P8: several services and bridges on one database and broker: the rate limit, the invariants and the throughput."""

import asyncio
import itertools
from contextlib import AsyncExitStack
from typing import Any

from tools.bench.bench_system import AS_SHIPPED, LATENCY_MS, STRIPE_LIMITS, UNPACED, Bench, Meter, System
from tools.bench.figures import Figure, Part, bars, compared, stacked
from tools.bench.load_generator import OK, Http, bookings, closed_loop, creates_of, http, open_loop, ticks

SERVICES, BRIDGES = (1, 2, 3), (1, 2)
OFFERED = 60.0
SECONDS, FULL_SECONDS = 8.0, 5.0
CALLERS = 200
PAIRS = 15
_COUNTED = "services and bridges"


async def replicas(bench: Bench) -> Part:
    """P8."""
    system = await bench.system(UNPACED, new=True)
    counts = [(2, 2)] if bench.quick else list(itertools.product(SERVICES, BRIDGES))
    rows = []
    for services, bridges in counts:
        row = {"services": services, "bridges": bridges}
        row |= await limited(system, services, bridges)
        row |= await unlimited(system, services, bridges)
        rows.append(row)
        bench.say(f"{services} services, {bridges} bridges: {row}")
    return _part(rows)


async def limited(system: System, services: int, bridges: int) -> dict[str, Any]:
    """More creates than Stripe allows, and concurrent pairs of creates of one booking through different bridges."""
    await system.reset_stripe()
    await system.stripe(latency_ms=LATENCY_MS, rate_limits=STRIPE_LIMITS)
    await system.scale(services=services, bridges=bridges, settings=AS_SHIPPED)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(http(base)) for base in system.bridges]
        async with Meter(system=system) as meter:
            outcome, pairs = await asyncio.gather(
                open_loop(creates_of(*clients), rate=OFFERED, seconds=SECONDS), _pairs(clients)
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


async def unlimited(system: System, services: int, bridges: int) -> dict[str, Any]:
    """As many creates as the machine can serve."""
    await system.stripe(latency_ms=LATENCY_MS, rate_limits={})
    await system.scale(services=services, bridges=bridges, settings=UNPACED)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(http(base)) for base in system.bridges]
        create = creates_of(*clients)
        await closed_loop(create, callers=CALLERS, seconds=1.5)
        async with Meter(system=system) as meter:
            outcome = await closed_loop(create, callers=CALLERS, seconds=FULL_SECONDS)
    return {
        "creates_per_second": outcome.per_second,
        "errors": outcome.errors,
        "cpu_ms_each": meter.ms_each(outcome.served),
        "cores": meter.cores,
    }


async def _pairs(clients: list[Http]) -> list[set[str]]:
    """The sessions that the two creates of each booking received; a refused create received none."""

    async def pair(booking: int) -> set[str]:
        answers = await asyncio.gather(*(client.create(booking) for client in (clients[0], clients[-1])))
        return {answer.body["sessionId"] for answer in answers if answer.status == OK}

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(pair(next(bookings))) async for _ in ticks(PAIRS, rate=PAIRS / SECONDS)]
    return [task.result() for task in tasks]


def _part(rows: list[dict[str, Any]]) -> Part:
    names = [f"{row['services']} and {row['bridges']}" for row in rows]
    creates = {name: row["creates_per_second"] for name, row in zip(names, rows, strict=True)}
    return Part(
        name="p8",
        title="Several services and bridges",
        how=f"For {SECONDS:.0f} s {OFFERED:.0f} creates a second are offered where Stripe serves 25 and we allow "
        f"ourselves 20 in all, and {PAIRS} bookings are created twice at once. Then without limits, {CALLERS} callers "
        f"for {FULL_SECONDS:.0f} s. Everything on the same machine.",
        figures=[
            Figure("calls beyond Stripe's limit", sum(row["overruns"] for row in rows), at_most=0),
            Figure("most payable sessions of one booking", max(row["most_payable"] for row in rows), at_most=1),
            Figure(
                "bookings whose two creates got different sessions",
                sum(row["different_answers"] for row in rows),
                at_most=0,
            ),
            Figure("creates that failed otherwise than by 503", sum(row["failed"] for row in rows), at_most=0),
            *(
                compared(
                    f"creates/s within the rate limit, {name}", row["paced_per_second"], 25, "Stripe's limit", unit="/s"
                )
                for name, row in zip(names, rows, strict=True)
            ),
            *(
                compared(f"creates/s without limits, {name}", rate, creates[names[0]], names[0], unit="/s")
                for name, rate in creates.items()
            ),
        ],
        plots=[
            bars("Creates without limits", creates, _COUNTED, "creates per second"),
            stacked("Who uses the processor meanwhile", names, [row["cores"] for row in rows], _COUNTED, "cores"),
        ],
        details={"rows": rows},
    )
