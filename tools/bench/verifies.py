"""P9: verifies while Stripe takes 300 ms, over few and over very many unpaid payments."""

import random
import statistics
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import asyncpg

from tools.bench.bare_sdk import bare_sdk
from tools.bench.bench_system import LATENCY_MS, UNPACED, Bench, Meter, System, sessions_of
from tools.bench.figures import Figure, Part, compared, slices
from tools.bench.load_generator import Answer, Call, Latencies, Outcome, bookings, closed_loop, http

CALLERS = 200
FEW, MANY = 2_000, 200_000
SLICES = 3
SLICE_SECONDS = 5.0
SAME = 0.9
"""The least ratio of the two rates that counts as noise."""


async def verifies(bench: Bench) -> Part:
    """P9."""
    few, many = (200, 20_000) if bench.quick else (FEW, MANY)
    system = await bench.system(UNPACED, new=True)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(http(system.bridges[0]))
        stripe = await stack.enter_async_context(bare_sdk(system.where["sandbox"]))
        sessions = await sessions_of([client], few, bookings)
        await system.stripe(latency_ms=LATENCY_MS, rate_limits={})
        verify, retrieve = _drawn(client.verify, sessions), _drawn(stripe.verify, sessions)
        [alone] = await _slices(retrieve, 1)
        over_few, few_calls, few_cpu = await _measured(system, verify)
        bench.say(f"{few} payments: {[each.per_second for each in over_few]}/s; now {many} ...")
        await add_unpaid(system.where["database"], many - few)
        over_many, many_calls, many_cpu = await _measured(system, verify)
        bench.say(f"{many} payments: {[each.per_second for each in over_many]}/s")
    slow, fast = (statistics.median(each.per_second for each in measured) for measured in (over_many, over_few))
    outcomes, latencies = [*over_few, *over_many], _together(over_few)
    return Part(
        name="p9",
        title="Verifies over many payments",
        how=f"{CALLERS} callers, closed loop, verify payments drawn from {few:,} unpaid ones, Stripe takes "
        f"{LATENCY_MS} ms, without limit; the median of {SLICES} slices of {SLICE_SECONDS:.0f} s. Then the same "
        f"payments with {many - few:,} other unpaid ones in the database.",
        figures=[
            *(
                compared(f"verifies/s, {n:,} unpaid", rate, alone.per_second, "bare SDK", unit="/s", at_least=530)
                for n, rate in ((few, fast), (many, slow))
            ),
            Figure("many, of few", round(slow / fast, 2) if fast else None, at_least=SAME),
            *(
                compared(f"a verify, p{p}", latencies.ms(p), alone.latencies.ms(p), "bare SDK", unit="ms")
                for p in (50, 99)
            ),
            Figure("calls to Stripe per verify, few", few_calls, baseline=1.0, against="bare SDK"),
            Figure("calls to Stripe per verify, many", many_calls, baseline=1.0, against="bare SDK"),
            Figure("our processor per verify, few", few_cpu, "ms"),
            Figure("our processor per verify, many", many_cpu, "ms"),
            Figure("errors", sum(each.errors for each in outcomes), at_most=0),
        ],
        plots=[
            slices(
                {
                    f"{n:,} unpaid": [each.per_second for each in outcomes]
                    for n, outcomes in ((few, over_few), (many, over_many))
                },
                "verifies per second",
                goal=530,
            )
        ],
        notes=["The added payments are copies of a row, with sessions that the sandbox does not know."],
    )


async def _slices(call: Call, count: int) -> list[Outcome]:
    return [await closed_loop(call, callers=CALLERS, seconds=SLICE_SECONDS) for _ in range(count)]


async def _measured(system: System, call: Call) -> tuple[list[Outcome], float, float | None]:
    """The slices, calls to Stripe per verify, and milliseconds of our processor per verify."""
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


def _drawn(verify: Callable[[str], Awaitable[Answer | tuple[int, bool]]], sessions: list[str]) -> Call:
    rng = random.Random(9)  # noqa: S311 - the same order in each run

    async def call(_: int) -> int:
        answer = await verify(rng.choice(sessions))
        return answer.status if isinstance(answer, Answer) else answer[0]

    return call


async def add_unpaid(database: str, count: int) -> None:
    """Adds copies of the newest payment, each with its own booking, reference and session."""
    connection: Any = await asyncpg.connect(database)
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
        # Without the triggers, which let nobody insert a payment that has a session already.
        await connection.execute("SET session_replication_role = replica")
        await connection.execute(
            f"INSERT INTO payments ({', '.join(columns)}) SELECT {values} FROM generate_series(1, {count}) AS n,"  # noqa: S608
            " (SELECT * FROM payments WHERE session_id IS NOT NULL ORDER BY id DESC LIMIT 1) AS original",
            timeout=300,
        )
        await connection.execute("VACUUM ANALYZE payments", timeout=300)
    finally:
        await connection.close()
