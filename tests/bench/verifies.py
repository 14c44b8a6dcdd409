"""P9: verifies while Stripe takes 300 ms, over few and over very many unpaid payments."""

import random
import statistics
from contextlib import AsyncExitStack
from typing import Any

import asyncpg

from tests.bench.bare import Bare, bare
from tests.bench.figures import Figure, Part, Plot
from tests.bench.load import Call, Http, Latencies, Outcome, bookings, closed_loop, http
from tests.bench.system import LATENCY_MS, UNPACED, Bench, Meter, System, sessions_of

CALLERS = 200
FEW, MANY = 2_000, 200_000
SLICES = 3
SLICE_SECONDS = 5.0
SAME = 0.9
"""What is left of the rate over few payments, if the rest is noise."""


async def verifies(bench: Bench) -> Part:
    """P9."""
    few, many = (200, 20_000) if bench.quick else (FEW, MANY)
    system = await bench.system(UNPACED, new=True)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(http(system.bridges[0]))
        stripe = await stack.enter_async_context(bare(system.where["sandbox"]))
        sessions = await sessions_of([client], few, bookings)
        await system.stripe(latency_ms=LATENCY_MS, rate_limits={})
        verify, retrieve = _through(client, sessions), _alone(stripe, sessions)
        alone = await _slices(retrieve, 1)
        over_few, few_calls, few_cpu = await _measured(system, verify)
        bench.say(f"{few} payments: {[each.per_second for each in over_few]}/s; now {many} ...")
        await add_unpaid(system, many - few)
        over_many, many_calls, many_cpu = await _measured(system, verify)
        bench.say(f"{many} payments: {[each.per_second for each in over_many]}/s")
    slow, fast = (statistics.median(each.per_second for each in slices) for slices in (over_many, over_few))
    outcomes, latencies = [*over_few, *over_many], _together(over_few)
    return Part(
        name="p9",
        title="Verifies over many payments",
        how=f"{CALLERS} callers, closed loop, verify payments drawn from {few:,} unpaid ones, Stripe takes "
        f"{LATENCY_MS} ms, without limit; the median of {SLICES} slices of {SLICE_SECONDS:.0f} s. Then the same "
        f"payments with {many - few:,} other unpaid ones in the database.",
        figures=[
            _rate(f"verifies/s, {few:,} unpaid", fast, alone[0].per_second, at_least=530),
            _rate(f"verifies/s, {many:,} unpaid", slow, alone[0].per_second, at_least=530),
            Figure(name="many, of few", value=round(slow / fast, 2) if fast else None, at_least=SAME),
            *(
                Figure(
                    name=f"a verify, p{percentile}",
                    value=latencies.ms(percentile),
                    unit="ms",
                    baseline=alone[0].latencies.ms(percentile),
                    against="bare SDK",
                )
                for percentile in (50, 99)
            ),
            Figure(name="calls to Stripe per verify, few", value=few_calls, baseline=1.0, against="bare SDK"),
            Figure(name="calls to Stripe per verify, many", value=many_calls, baseline=1.0, against="bare SDK"),
            Figure(name="our processor per verify, few", value=few_cpu, unit="ms"),
            Figure(name="our processor per verify, many", value=many_cpu, unit="ms"),
            Figure(name="errors", value=sum(each.errors for each in outcomes), at_most=0),
        ],
        plots=[
            Plot(
                title="Each slice",
                x=list(range(1, SLICES + 1)),
                series={
                    f"{few:,} unpaid": [each.per_second for each in over_few],
                    f"{many:,} unpaid": [each.per_second for each in over_many],
                },
                xlabel="slice",
                ylabel="verifies per second",
                goal=530,
            )
        ],
        notes=["What is added are copies of a row, with sessions that the sandbox does not know."],
    )


def _rate(name: str, value: float, baseline: float, *, at_least: float) -> Figure:
    return Figure(name=name, value=value, unit="/s", baseline=baseline, against="bare SDK", at_least=at_least)


async def _slices(call: Call, count: int) -> list[Outcome]:
    return [await closed_loop(call, callers=CALLERS, seconds=SLICE_SECONDS) for _ in range(count)]


async def _measured(system: System, call: Call) -> tuple[list[Outcome], float, float | None]:
    """The slices, Stripe calls per verify, and milliseconds of our processor per verify."""
    await closed_loop(call, callers=CALLERS, seconds=2.0)
    async with Meter(system=system) as meter:
        outcomes = await _slices(call, SLICES)
    served = sum(each.served for each in outcomes)
    return outcomes, round(sum(meter.calls.values()) / max(served, 1), 3), meter.ms_each(served)


def _together(outcomes: list[Outcome]) -> Latencies:
    every = Latencies()
    for outcome in outcomes:
        every.merge(outcome.latencies)
    return every


def _through(client: Http, sessions: list[str]) -> Call:
    rng = random.Random(9)  # noqa: S311 - the same order in each run

    async def call(_: int) -> int:
        return (await client.verify(rng.choice(sessions))).status

    return call


def _alone(stripe: Bare, sessions: list[str]) -> Call:
    rng = random.Random(9)  # noqa: S311

    async def call(_: int) -> int:
        return (await stripe.retrieve(rng.choice(sessions)))[0]

    return call


async def add_unpaid(system: System, count: int) -> None:
    """Copies of the newest payment, each with a booking, a reference and a session of its own."""
    connection: Any = await asyncpg.connect(system.where["database"])
    try:
        columns = [
            row["attname"]
            for row in await connection.fetch(
                "SELECT attname FROM pg_attribute WHERE attrelid = 'payments'::regclass AND attnum > 0"
                " AND attname <> 'id' AND NOT attisdropped"
            )
        ]
        own = {
            "booking_id": "1000000000000000 + n",
            "reference": "gen_random_uuid()::text",
            "session_id": "'cs_test_copy' || n",
        }
        values = ", ".join(own.get(name, f"original.{name}") for name in columns)
        await connection.execute(
            f"INSERT INTO payments ({', '.join(columns)}) SELECT {values} FROM generate_series(1, {count}) AS n,"  # noqa: S608
            " (SELECT * FROM payments WHERE session_id IS NOT NULL ORDER BY id DESC LIMIT 1) AS original",
            timeout=300,
        )
        await connection.execute("VACUUM ANALYZE payments", timeout=300)
    finally:
        await connection.close()
