"""P2, P4, P5: creates through the bridge while Stripe takes 300 ms, compared with the bare SDK; and memory."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from tools.bench.bare_sdk import BareSdk, bare_sdk
from tools.bench.bench_system import LATENCY_MS, UNPACED, Bench, Meter, System
from tools.bench.figures import Figure, Part, Plot, compared, percentiles, stacked
from tools.bench.load_generator import Call, Outcome, bookings, closed_loop, creates_of, http, open_loop

CALLERS = (10, 50, 200, 400)
SLICE_SECONDS = 6.0
WARM_UP_SECONDS = 1.5
RATE = 20.0
RATE_SECONDS = 25.0
STARTS = 3
_PARTS = ("bridge", "service", "rabbitmq", "postgres", "sandbox", "load")


async def throughput(bench: Bench) -> Part:
    """P2."""
    system = await bench.system(UNPACED)
    await system.stripe(latency_ms=LATENCY_MS, rate_limits={})
    seconds = 2.0 if bench.quick else SLICE_SECONDS
    rows = []
    async with AsyncExitStack() as stack:
        create = creates_of(await stack.enter_async_context(http(system.bridges[0])))
        alone = _alone(await stack.enter_async_context(bare_sdk(system.where["sandbox"])))
        for callers in CALLERS:
            baseline, _ = await _loaded(system, alone, callers, seconds)
            outcome, meter = await _loaded(system, create, callers, seconds)
            rows.append(_row(callers, baseline, outcome, meter))
            bench.say(f"{callers} callers: {outcome.per_second}/s, bare SDK {baseline.per_second}/s")
    full = rows[-1]
    return Part(
        name="p2",
        title="Creates per second",
        how=f"Callers that each send their next create when the last one is answered, for {seconds:.0f} s, while "
        f"Stripe takes {LATENCY_MS} ms and has no limit; everything, the load and the sandbox too, on this machine.",
        figures=[
            *(_rate(row) for row in rows[:-1]),
            _rate(full, at_least=320),
            Figure("errors", sum(row["errors"] for row in rows), at_most=0),
            Figure(
                "processor per create: bridge, service, RabbitMQ, PostgreSQL", full["cpu_ms_each"], "ms", at_most=4.5
            ),
        ],
        plots=_plots(rows),
        notes=["A closed loop measures throughput; for latency see the open loop of P4."],
        details={"rows": rows},
    )


async def added_latency(bench: Bench) -> Part:
    """P4."""
    system = await bench.system(UNPACED)
    await system.stripe(latency_ms=LATENCY_MS, rate_limits={})
    seconds = 5.0 if bench.quick else RATE_SECONDS
    async with http(system.bridges[0]) as client, bare_sdk(system.where["sandbox"]) as stripe:
        await closed_loop(creates_of(client), callers=20, seconds=WARM_UP_SECONDS)
        await closed_loop(_alone(stripe), callers=20, seconds=WARM_UP_SECONDS)
        async with Meter(system=system) as meter:
            ours, alone = await asyncio.gather(
                open_loop(creates_of(client), rate=RATE, seconds=seconds),
                open_loop(_alone(stripe), rate=RATE, seconds=seconds),
            )
    added = {p: _minus(ours.latencies.ms(p), alone.latencies.ms(p)) for p in (50.0, 90.0, 99.0)}
    curve, baseline = ours.latencies.curve(), alone.latencies.curve()
    return Part(
        name="p4",
        title="What we add to a create",
        how=f"{RATE:.0f} creates a second for {seconds:.0f} s through everything, and beside them as many by the SDK "
        f"at the same sandbox ({LATENCY_MS} ms), both in an open loop; added is the difference of the same percentile.",
        figures=[
            Figure("added, p50", added[50.0], "ms", at_most=10),
            Figure("added, p90", added[90.0], "ms"),
            Figure("added, p99", added[99.0], "ms", at_most=30),
            *(
                compared(f"a create, p{percentile}", curve[percentile], baseline[percentile], "bare SDK", unit="ms")
                for percentile in ("50", "99")
            ),
            Figure("errors, or due and not sent", ours.errors + ours.missed, at_most=0),
        ],
        plots=[percentiles(f"A create at {RATE:.0f}/s", {"ours": curve, "bare SDK": baseline})],
        details={"ours_ms": curve, "bare_ms": baseline, "cores": meter.cores},
    )


async def footprint(bench: Bench) -> Part:
    """P5."""
    system = await bench.system(UNPACED)
    await system.stripe(latency_ms=LATENCY_MS, rate_limits={})
    async with http(system.bridges[0]) as client:
        await closed_loop(creates_of(client), callers=max(CALLERS), seconds=2.0 if bench.quick else SLICE_SECONDS)
    memory = system.resident_mb()
    ready: dict[str, list[float]] = {}
    for name in ("service", "bridge"):
        ready[name] = [await system.start_another(name) for _ in range(STARTS)]
    return Part(
        name="p5",
        title="Memory, and from start to ready",
        how=f"Resident memory after creates by {max(CALLERS)} callers; the median of {STARTS} starts beside the stack, "
        "from the start of the process until its readiness page says so.",
        figures=[
            Figure("memory of service and bridge", round(sum(memory.values()), 1), "MB", at_most=200),
            *(Figure(f"memory of the {name}", value, "MB") for name, value in memory.items()),
            *(
                Figure(f"start to ready, {name}", sorted(values)[STARTS // 2], "s", at_most=2)
                for name, values in ready.items()
            ),
        ],
        details={"memory_mb": memory, "ready_seconds": ready},
    )


def _alone(stripe: BareSdk) -> Call:
    async def call(_: int) -> int:
        return (await stripe.create(next(bookings)))[0]

    return call


async def _loaded(system: System, call: Call, callers: int, seconds: float) -> tuple[Outcome, Meter]:
    await closed_loop(call, callers=callers, seconds=WARM_UP_SECONDS)
    async with Meter(system=system) as meter:
        outcome = await closed_loop(call, callers=callers, seconds=seconds)
    return outcome, meter


def _row(callers: int, baseline: Outcome, outcome: Outcome, meter: Meter) -> dict[str, Any]:
    return {
        "callers": callers,
        "ceiling_per_second": round(callers * 1000 / LATENCY_MS, 1),
        "bare_per_second": baseline.per_second,
        "per_second": outcome.per_second,
        "errors": outcome.errors,
        "latency_ms": outcome.latencies.curve(),
        "cores": meter.cores,
        "cpu_ms_each": meter.ms_each(outcome.served),
    }


def _rate(row: dict[str, Any], **goal: float) -> Figure:
    name = f"creates/s, {row['callers']} callers"
    return compared(name, row["per_second"], row["bare_per_second"], "bare SDK", unit="/s", **goal)


def _plots(rows: list[dict[str, Any]]) -> list[Plot]:
    callers = [row["callers"] for row in rows]
    cores = [{name: row["cores"].get(name, 0.0) for name in _PARTS} for row in rows]
    return [
        Plot(
            f"Creates while Stripe takes {LATENCY_MS} ms",
            callers,
            {
                "through everything": [row["per_second"] for row in rows],
                "bare SDK": [row["bare_per_second"] for row in rows],
                "callers / 300 ms": [row["ceiling_per_second"] for row in rows],
            },
            "callers",
            "per second",
        ),
        stacked("Who uses the processor", [*map(str, callers)], cores, "callers", "cores"),
    ]


def _minus(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or theirs is None else round(ours - theirs, 2)
