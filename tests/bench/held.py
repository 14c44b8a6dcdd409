"""P7: thousands of verifies whose answers are held until the outcome is known."""

import asyncio
import random
from collections import Counter
from datetime import datetime
from typing import Any

import asyncpg

from tests.bench.figures import Figure, Part, Plot
from tests.bench.load import OK, Answer, Http, Latencies, bookings, http, ticks
from tests.bench.system import LATENCY_MS, UNPACED, Bench, System, sessions_of

SETTINGS: dict[str, str] = {}
WAITING, PAID = 5_000, 200
PAY_RATE = 20.0
ASK_RATE = 400.0
WAIT_SECONDS = 60
PATIENCE_SECONDS = 15.0
"""For the answers after the last payment."""


async def held(bench: Bench) -> Part:
    """P7."""
    waiting, paid = (500, 40) if bench.quick else (WAITING, PAID)
    system = await bench.system(UNPACED, new=True)
    async with http(system.bridges[0]) as client, http(system.where["sandbox"]) as stripe:
        sessions = await sessions_of([client], waiting, bookings)
        await system.stripe(latency_ms=LATENCY_MS, rate_limits={"default": 25, "global": 100})
        await system.scale(settings=SETTINGS)
    async with http(system.bridges[0]) as client, http(system.where["sandbox"]) as stripe:
        await sessions_of([client], 1, bookings)  # so that everything is loaded before memory is looked at
        await asyncio.sleep(2)
        before = system.resident_mb()
        asked = await _ask(client, sessions)
        await asyncio.sleep(2)
        after = system.resident_mb()
        holding = sum(not task.done() for task in asked.values())
        bench.say(f"{holding} of {waiting} answers are held, {sum(after.values()) - sum(before.values()):.0f} MB more")
        chosen = random.Random(7).sample(sessions, paid)  # noqa: S311 - the same ones in each run
        await _pay(client, stripe, chosen)
        await asyncio.wait([asked[session] for session in chosen], timeout=PATIENCE_SECONDS)
        answers = {session: asked[session].result() for session in chosen if asked[session].done()}
        early = Counter(
            _said(task.result()) for session, task in asked.items() if session not in answers and task.done()
        )
        for task in asked.values():
            task.cancel()
        await asyncio.gather(*asked.values(), return_exceptions=True)
    latencies, completed = await _latencies(system, answers)
    more = sum(after.values()) - sum(before.values())
    return Part(
        name="p7",
        title="Held answers",
        how=f"{waiting:,} verifies with Prefer: wait={WAIT_SECONDS}, each of another unpaid payment; then {paid} of "
        f"the payments are paid, {PAY_RATE:.0f} a second, each followed by one plain verify, as a payer comes back. "
        "Counted from payments.updated_at to the last byte of the held answer.",
        figures=[
            Figure(name="answers held at once", value=holding, at_least=waiting),
            Figure(name="memory more, service and bridge", value=round(more, 1), unit="MB", at_most=100),
            Figure(name="memory per held answer", value=round(more * 1024 / max(holding, 1), 1), unit="KiB"),
            Figure(name="held answers that said COMPLETED, of those paid", value=completed, at_least=paid),
            *(
                Figure(
                    name=f"stored → answered, {name}",
                    value=latencies.ms(percentile),
                    unit="ms",
                    at_most=250 if goal else None,
                )
                for name, percentile, goal in (("p50", 50, False), ("p99", 99, True), ("worst", 100, True))
            ),
            Figure(name="answers of unpaid payments that did not wait", value=early.total(), at_most=0),
        ],
        plots=[
            Plot(
                title="From stored to answered",
                x=list(latencies.curve()),
                series={"held answers": list(latencies.curve().values())},
                xlabel="percentile",
                ylabel="ms",
                goal=250,
            )
        ],
        notes=[
            f"Service and bridge as shipped; Stripe takes {LATENCY_MS} ms and limits to 25 calls a second per endpoint."
        ],
        details={
            "did_not_wait": dict(early),
            "paid": dict(Counter(map(_said, answers.values()))),
            "before_mb": before,
            "after_mb": after,
            "stored_to_answered_ms": latencies.curve(),
        },
    )


def _said(answer: Answer) -> str:
    return f"{answer.status} {answer.body['paymentStatus']}" if answer.content else f"{answer.status}"


async def _ask(client: Http, sessions: list[str]) -> dict[str, "asyncio.Task[Answer]"]:
    asked = {}
    async for number, _ in ticks(len(sessions), rate=ASK_RATE):
        held_one = client.verify(sessions[number], prefer=f"wait={WAIT_SECONDS}")
        asked[sessions[number]] = asyncio.create_task(held_one)
    return asked


async def _pay(client: Http, stripe: Http, sessions: list[str]) -> None:
    async def one(session: str) -> None:
        await stripe.post(f"/_sandbox/sessions/{session}/pay", {"card": "4242 4242 4242 4242"}, "")
        await client.verify(session)

    async with asyncio.TaskGroup() as group:
        async for number, _ in ticks(len(sessions), rate=PAY_RATE):
            group.create_task(one(sessions[number]))


async def _latencies(system: System, answers: dict[str, Answer]) -> tuple[Latencies, int]:
    """From when the outcome was stored until its answer was there, and how many answers told the outcome."""
    told = {
        session: answer
        for session, answer in answers.items()
        if answer.status == OK and answer.body["paymentStatus"] == "COMPLETED"
    }
    connection: Any = await asyncpg.connect(system.where["database"])
    try:
        rows = await connection.fetch(
            "SELECT session_id, updated_at FROM payments WHERE session_id = ANY($1)", list(told)
        )
    finally:
        await connection.close()
    stored: dict[str, datetime] = {row["session_id"]: row["updated_at"] for row in rows}
    latencies = Latencies()
    for session, answer in told.items():
        latencies.record(answer.at - stored[session].timestamp())
    return latencies, len(told)
