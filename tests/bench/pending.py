"""P6: what Stripe is asked, and what it costs us, when more and more payments are pending and polled every 2 s."""

from typing import Any

from tests.bench.figures import Figure, Part, Plot
from tests.bench.load import Outcome, bookings, http, open_loop
from tests.bench.system import LATENCY_MS, UNPACED, Bench, Meter, System, sessions_of

PENDING = (100, 1_000, 10_000)
POLL_SECONDS = 2.0
SECONDS = 12.0
SETTLE_SECONDS = 6.0
AT_ONCE = 256
"""Polls under way at once: beyond what the machine can serve, more of them would only wait."""
SETTINGS: dict[str, str] = {}
"""The service as it is shipped: 20 calls a second per endpoint."""
FLAT, LINEAR = 1.5, 1.25
"""How much more than in proportion is still taken for noise."""


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
        await system.scale(settings=SETTINGS)
        await system.stripe(latency_ms=LATENCY_MS, rate_limits={"default": 25, "global": 100})
        rows.append(await _polled(system, sessions, 5.0 if bench.quick else SECONDS))
        bench.say(f"{count} pending: {rows[-1]}")
    return _part(rows)


async def _polled(system: System, sessions: list[str], seconds: float) -> dict[str, Any]:
    rate = len(sessions) / POLL_SECONDS
    async with http(system.bridges[0]) as client:

        async def poll(number: int) -> int:
            return (await client.verify(sessions[number % len(sessions)])).status

        await open_loop(poll, rate=rate, seconds=SETTLE_SECONDS, at_most=AT_ONCE)
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
        label = f"{row['pending']:,} pending"
        figures += [
            Figure(
                name=f"calls to Stripe, {label}",
                value=row["calls_per_second"],
                unit="/s",
                baseline=row["due_per_second"],
                against="one for each poll",
            ),
            Figure(
                name=f"polls served, {label}",
                value=row["served_per_second"],
                unit="/s",
                baseline=row["due_per_second"],
                against="due",
            ),
            Figure(name=f"our cores, {label}", value=row["our_cores"]),
        ]
    unserved = [f"{row['pending']:,}" for row in rows if row["missed"]]
    words = f"More polls were due than this machine can serve with {' and '.join(unserved)} pending"
    return Part(
        name="p6",
        title="Many pending payments, all of them polled",
        how=f"Every payment is verified every {POLL_SECONDS:.0f} s, open loop, while Stripe takes {LATENCY_MS} ms; the "
        "service as it is shipped (20 calls a second per endpoint).",
        figures=[
            *figures,
            Figure(
                name="calls to Stripe with the most, of those with the fewest",
                value=_ratio(most["calls_per_second"], least["calls_per_second"]),
                at_most=FLAT,
            ),
            *(
                Figure(
                    name=f"processor per served poll, {row['pending']:,} of {before['pending']:,}",
                    value=_ratio(row["cpu_ms_each"], before["cpu_ms_each"]),
                    at_most=LINEAR,
                )
                for before, row in ((least, middle), (middle, most))
            ),
            Figure(name="429s at Stripe", value=sum(row["limited"] for row in rows), at_most=0),
            Figure(name="errors to polls", value=sum(row["errors"] for row in rows), at_most=0),
        ],
        plots=[
            Plot(
                title="Calls to Stripe, by endpoint",
                x=[f"{row['pending']:,}" for row in rows],
                series={
                    name: [row["calls"].get(name, 0.0) for row in rows]
                    for name in sorted({name for row in rows for name in row["calls"]})
                },
                xlabel="payments pending",
                ylabel="per second",
                kind="stacked",
            ),
            Plot(
                title="Processor per served poll",
                x=[f"{row['pending']:,}" for row in rows],
                series={"bridge, service, RabbitMQ, PostgreSQL": [row["cpu_ms_each"] for row in rows]},
                xlabel="payments pending",
                ylabel="ms",
                kind="bars",
            ),
        ],
        notes=[f"{words}: the figures are of those that were served, {AT_ONCE} at a time."] if unserved else [],
        details={"rows": rows},
    )


def _ratio(value: float | None, of: float | None) -> float | None:
    return round(value / of, 2) if value is not None and of else None
