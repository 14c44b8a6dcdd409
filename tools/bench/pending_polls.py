"""P6: calls to Stripe and our own cost while more and more pending payments are polled every 2 s."""

from typing import Any

from tools.bench.bench_system import AS_SHIPPED, LATENCY_MS, STRIPE_LIMITS, UNPACED, Bench, Meter, System, sessions_of
from tools.bench.figures import Figure, Part, bars, compared, stacked
from tools.bench.load_generator import Outcome, bookings, http, open_loop

PENDING = (100, 1_000, 10_000)
POLL_SECONDS = 2.0
SECONDS = 12.0
WARM_UP_SECONDS = 60.0
"""By then each payment was polled once, even if the machine cannot serve all polls in time."""
MOST_CALLS = 6.0
"""A second: four reads of the event feed, one session that it covers, and those for which a read came too late."""
_PENDING = "payments pending"
AT_ONCE = 256
"""Concurrent polls: more than the machine can serve would only wait."""
LINEAR = 1.25
"""The ratio up to which growth counts as noise."""


async def pending(bench: Bench) -> Part:
    """P6."""
    counts = (50, 200, 800) if bench.quick else PENDING
    system = await bench.system(UNPACED, new=True)
    sessions: list[str] = []
    rows = []
    for count in counts:
        await system.scale(settings=UNPACED)
        await system.stripe(latency_ms=0, rate_limits={})
        async with http(system.bridges[0]) as client:
            sessions += await sessions_of([client], count - len(sessions), bookings)
        await system.scale(settings=AS_SHIPPED)
        await system.stripe(latency_ms=LATENCY_MS, rate_limits=STRIPE_LIMITS)
        rows.append(await _polled(system, sessions, quick=bench.quick))
        bench.say(f"{count} pending: {rows[-1]}")
    return _part(rows)


async def _polled(system: System, sessions: list[str], *, quick: bool) -> dict[str, Any]:
    rate = len(sessions) / POLL_SECONDS
    warm_up, seconds = (6.0, 5.0) if quick else (WARM_UP_SECONDS, SECONDS)
    async with http(system.bridges[0]) as client:

        async def poll(number: int) -> int:
            return (await client.verify(sessions[number % len(sessions)])).status

        await open_loop(poll, rate=rate, seconds=warm_up, at_most=AT_ONCE)
        async with Meter(system=system) as meter:
            outcome: Outcome = await open_loop(poll, rate=rate, seconds=seconds, at_most=AT_ONCE)
    calls = {name: round(count / meter.seconds, 2) for name, count in meter.calls.items() if count}
    return {
        "pending": len(sessions),
        "due_per_second": rate,
        "served_per_second": outcome.per_second,
        "errors": outcome.errors,
        "missed": outcome.missed,
        "calls_per_second": round(sum(calls.values()), 2),
        "calls": calls,
        "limited": meter.limited,
        "p50_ms": outcome.latencies.ms(50),
        "p99_ms": outcome.latencies.ms(99),
        "our_cores": round(meter.ours, 3),
        "cpu_ms_each": meter.ms_each(outcome.served),
        "cores": meter.cores,
    }


def _part(rows: list[dict[str, Any]]) -> Part:
    least, middle, most = rows
    figures = []
    for row in rows:
        label, due = f"{row['pending']:,} pending", row["due_per_second"]
        figures += [
            compared(
                f"calls to Stripe, {label}",
                row["calls_per_second"],
                due,
                "one for each poll",
                unit="/s",
                at_most=MOST_CALLS,
            ),
            compared(f"polls served, {label}", row["served_per_second"], due, "due", unit="/s"),
            Figure(f"our cores, {label}", row["our_cores"]),
        ]
    labels = [f"{row['pending']:,}" for row in rows]
    unserved = [f"{row['pending']:,}" for row in rows if row["missed"]]
    words = f"More polls were due than this machine can serve with {' and '.join(unserved)} pending"
    return Part(
        name="p6",
        title="Many pending payments, all of them polled",
        how=f"Every payment is verified every {POLL_SECONDS:.0f} s, open loop, from a minute on; Stripe "
        f"takes {LATENCY_MS} ms, the service is as it is shipped (20 calls a second per endpoint).",
        figures=[
            *figures,
            *(
                Figure(
                    f"processor per served poll, {row['pending']:,} of {before['pending']:,}",
                    _ratio(row["cpu_ms_each"], before["cpu_ms_each"]),
                    at_most=LINEAR,
                )
                for before, row in ((least, middle), (middle, most))
            ),
            Figure("429s at Stripe", sum(row["limited"] for row in rows), at_most=0),
            Figure("errors to polls", sum(row["errors"] for row in rows), at_most=0),
        ],
        plots=[
            stacked("Calls to Stripe, by endpoint", labels, [row["calls"] for row in rows], _PENDING, "per second"),
            bars(
                "Processor per served poll", {f"{row['pending']:,}": row["cpu_ms_each"] for row in rows}, _PENDING, "ms"
            ),
        ],
        notes=[f"{words}: the figures are of those that were served, {AT_ONCE} at a time."] if unserved else [],
        details={"rows": rows},
    )


def _ratio(value: float | None, of: float | None) -> float | None:
    return round(value / of, 2) if value is not None and of else None
