"""`kill -9` at every point of a create and a verify: a real service dies there, the next one finishes it, once.

Each fail point kills `--crash-runs` times (2 unless told otherwise), at a service's first command and
at its second in turn: `pytest tests/integration/service/crash --crash-runs 50`.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

from contracts.commands import CommandType
from service.failpoints import FailPoint
from tests.integration.service.crash.conftest import Expected
from tests.integration.service.crash.evidence import ExpectedEvents, calls, died, journal, nothing_left, replies_of
from tests.integration.service.crash.programs import Programs
from tests.integration.service.messages.rig import CREATE, VERIFY, Rig, a_create

ONCE, REPEATED, ASKED_AGAIN = Counter(calls=1), Counter(calls=2, replays=1), Counter(calls=2)


@dataclass(frozen=True, kw_only=True)
class Crash:
    """The point, what is true while the service is dead, and what the command has cost at the end."""

    row: str
    command: CommandType
    point: FailPoint
    has_row: bool = True
    stored: bool = False
    asked: int = 1
    """Calls to Stripe before the death."""
    calls: Counter[str]
    replies: int = 1


CRASHES = [
    Crash(row="F23", command=CREATE, point=FailPoint.ROW_NOT_COMMITTED, has_row=False, asked=0, calls=ONCE),
    Crash(row="F24", command=CREATE, point=FailPoint.GATEWAY_NOT_CALLED, asked=0, calls=ONCE),
    Crash(row="F25", command=CREATE, point=FailPoint.ANSWER_LOST, calls=REPEATED),
    Crash(row="F26", command=CREATE, point=FailPoint.OUTCOME_NOT_STORED, calls=REPEATED),
    Crash(row="F27", command=CREATE, point=FailPoint.NOT_REPLIED, stored=True, calls=ONCE),
    Crash(row="F28", command=CREATE, point=FailPoint.NOT_ACKED, stored=True, calls=ONCE, replies=2),
    Crash(row="F29", command=VERIFY, point=FailPoint.GATEWAY_NOT_CALLED, asked=0, calls=ONCE),
    Crash(row="F29", command=VERIFY, point=FailPoint.ANSWER_LOST, calls=ASKED_AGAIN),
    Crash(row="F29", command=VERIFY, point=FailPoint.OUTCOME_NOT_STORED, calls=ASKED_AGAIN),
    Crash(row="F30", command=VERIFY, point=FailPoint.NOT_REPLIED, stored=True, calls=ONCE),
    Crash(row="F30", command=VERIFY, point=FailPoint.NOT_ACKED, stored=True, calls=ONCE, replies=2),
]


@pytest.mark.parametrize("crash", CRASHES, ids=lambda crash: f"{crash.row}-{crash.point}")
async def test_a_command_survives_a_crash(
    rig: Rig, programs: Programs, told: Expected, runs: int, crash: Crash
) -> None:
    """F23-F30: one row, one session under one key, one transition, one answer, one event for each status."""
    counts = [1 + number % 2 for number in range(runs)]
    bodies = [a_create() for _ in range(sum(counts))]
    if crash.command is VERIFY:
        bodies = await _paid(rig, programs, bodies)
    for count in counts:
        ours = [bodies.pop() for _ in range(count)]
        before = await calls(rig)
        marks = await died(rig, programs, crash.point, crash.command, ours)

        rows = await _payments(rig, ours[-1])
        assert len(rows) == crash.has_row
        done = ("COMPLETED", 2) if crash.command is VERIFY else ("PENDING", 1)
        undone = ("PENDING", done[1] - 1)
        assert [(row["status"], row["version"]) for row in rows] == [done if crash.stored else undone] * len(rows)
        assert (await calls(rig) - before)["calls"] == count - 1 + crash.asked
        if crash.command is CREATE:
            assert len(await rig.sessions_of(ours[-1]["bookingId"])) == crash.asked

        successor = await programs.service()
        replies = await replies_of(rig, marks[-1], crash.replies)
        await nothing_left(rig, successor, crash.command)
        assert await calls(rig) - before == crash.calls + Counter(calls=count - 1)
        for body in ours:
            [payment] = await _payments(rig, body)
            [session] = await rig.sessions_of(payment["booking_id"])
            assert (payment["session_id"], payment["status"], payment["version"]) == (session["id"], *done)
            assert payment["amount_minor"] == session["amount_total"] == 44997
            assert await journal(rig, payment["id"]) == ["created", "opened", "completed"][: 1 + done[1]]
            told[payment["id"]] = ExpectedEvents(statuses=("PENDING", "COMPLETED")[: done[1]])
        assert {reply.type for reply in replies} == {f"{crash.command}.reply"}
        [content] = {reply.body for reply in replies}
        assert payment["session_id"].encode() in content
        assert (b'"COMPLETED"' in content) is (crash.command is VERIFY)


async def _payments(rig: Rig, body: dict[str, Any]) -> list[Any]:
    """Those that the body of a create or a verify is about."""
    if "sessionId" in body:
        return [await rig.payment(body["sessionId"])]
    return await rig.payments_of(body["bookingId"])


async def _paid(rig: Rig, programs: Programs, creates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Verifies of sessions that were paid at Stripe, and that nobody has verified."""
    service = await programs.service()
    sessions = [(await rig.created(**body))["sessionId"] for body in creates]
    await service.stopped()
    for session in sessions:
        await rig.sandbox.pay(session)
    return [{"sessionId": session} for session in sessions]
