"""P7: thousands of long polls: verifies that wait until the outcome is known."""

import asyncio
import random
from collections import Counter
from datetime import datetime
from typing import Any

import asyncpg

from tools.bench.bench_system import AS_SHIPPED, LATENCY_MS, STRIPE_LIMITS, UNPACED, Bench, System, sessions_of
from tools.bench.figures import Figure, Part, percentiles
from tools.bench.load_generator import OK, Answer, Http, Latencies, bookings, http, ticks

WAITING, PAID = 5_000, 200
PAY_RATE = 20.0
ASK_RATE = 400.0
WAIT_SECONDS = 60
PATIENCE_SECONDS = 15.0
"""How long to wait for answers after the last payment."""


async def long_polls(bench: Bench) -> Part:
    """P7."""
    waiting, paid = (500, 40) if bench.quick else (WAITING, PAID)
    system = await bench.system(UNPACED, new=True)
    async with http(system.bridges[0]) as client, http(system.where["sandbox"]) as stripe:
        sessions = await sessions_of([client], waiting, bookings)
        await system.stripe(latency_ms=LATENCY_MS, rate_limits=STRIPE_LIMITS)
        await system.scale(settings=AS_SHIPPED)
    async with http(system.bridges[0]) as client, http(system.where["sandbox"]) as stripe:
        await sessions_of([client], 1, bookings)  # loads everything before memory is measured
        await asyncio.sleep(2)
        before = system.resident_mb()
        polls = await _start(client, sessions)
        await asyncio.sleep(2)
        after = system.resident_mb()
        pending = sum(not task.done() for task in polls.values())
        bench.say(
            f"{pending} of {waiting} long polls are pending, {sum(after.values()) - sum(before.values()):.0f} MB more"
        )
        chosen = random.Random(7).sample(sessions, paid)  # noqa: S311 - the same ones in each run
        await _pay(client, stripe, chosen)
        await asyncio.wait([polls[session] for session in chosen], timeout=PATIENCE_SECONDS)
        answers = {session: polls[session].result() for session in chosen if polls[session].done()}
        early = Counter(
            _summary(task.result()) for session, task in polls.items() if session not in answers and task.done()
        )
        for task in polls.values():
            task.cancel()
        await asyncio.gather(*polls.values(), return_exceptions=True)
    latencies, completed = await _latencies(system, answers)
    more = sum(after.values()) - sum(before.values())
    return Part(
        name="p7",
        title="Long polls",
        how=f"{waiting:,} verifies with Prefer: wait={WAIT_SECONDS}, each of another unpaid payment; then {paid} of "
        f"the payments are paid, {PAY_RATE:.0f} a second, each followed by one plain verify, as a payer comes back. "
        "Counted from payments.updated_at to the last byte of the long poll's answer.",
        figures=[
            Figure("concurrent long polls", pending, at_least=waiting),
            Figure("memory more, service and bridge", round(more, 1), "MB", at_most=100),
            Figure("memory per long poll", round(more * 1024 / max(pending, 1), 1), "KiB"),
            Figure("long polls answered COMPLETED, of those paid", completed, at_least=paid),
            *(
                Figure(f"stored → answered, {name}", latencies.ms(percentile), "ms", at_most=250 if goal else None)
                for name, percentile, goal in (("p50", 50, False), ("p99", 99, True), ("worst", 100, True))
            ),
            Figure("answers of unpaid payments that did not wait", early.total(), at_most=0),
        ],
        plots=[percentiles("From stored to answered", {"long polls": latencies.curve()}, goal=250)],
        notes=[
            f"Service and bridge as shipped; Stripe takes {LATENCY_MS} ms and limits to 25 calls a second per endpoint."
        ],
        details={
            "did_not_wait": dict(early),
            "paid": dict(Counter(map(_summary, answers.values()))),
            "before_mb": before,
            "after_mb": after,
            "stored_to_answered_ms": latencies.curve(),
        },
    )


def _summary(answer: Answer) -> str:
    return f"{answer.status} {answer.body['paymentStatus']}" if answer.content else f"{answer.status}"


async def _start(client: Http, sessions: list[str]) -> dict[str, "asyncio.Task[Answer]"]:
    polls = {}
    async for number, _ in ticks(len(sessions), rate=ASK_RATE):
        long_poll = client.verify(sessions[number], prefer=f"wait={WAIT_SECONDS}")
        polls[sessions[number]] = asyncio.create_task(long_poll)
    return polls


async def _pay(client: Http, stripe: Http, sessions: list[str]) -> None:
    async def one(session: str) -> None:
        await stripe.pay(session)
        await client.verify(session)

    async with asyncio.TaskGroup() as group:
        async for number, _ in ticks(len(sessions), rate=PAY_RATE):
            group.create_task(one(sessions[number]))


async def _latencies(system: System, answers: dict[str, Answer]) -> tuple[Latencies, int]:
    """The durations from storing the outcome to its answer, and the number of answers with the outcome."""
    completed = {
        session: answer
        for session, answer in answers.items()
        if answer.status == OK and answer.body["paymentStatus"] == "COMPLETED"
    }
    connection: Any = await asyncpg.connect(system.where["database"])
    try:
        rows = await connection.fetch(
            "SELECT session_id, updated_at FROM payments WHERE session_id = ANY($1)", list(completed)
        )
    finally:
        await connection.close()
    stored: dict[str, datetime] = {row["session_id"]: row["updated_at"] for row in rows}
    latencies = Latencies()
    for session, answer in completed.items():
        latencies.record(answer.at - stored[session].timestamp())
    return latencies, len(completed)
