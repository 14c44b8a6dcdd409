"""`kill -9` at every line of a create: a real service dies there, the next one finishes it, once.

Each fail point kills `--crash-runs` times (2 unless told otherwise), at a service's first create and
at its second in turn: `pytest tests/integration/service/crash --crash-runs 50`.
"""

import pytest

from service.failpoints import FailPoint
from tests.integration.service.crash.conftest import Expected
from tests.integration.service.crash.evidence import Calls, Told, calls, died, journal, nothing_left, replies_of
from tests.integration.service.crash.points import ONCE, REPEATED, Crash, named
from tests.integration.service.crash.programs import Programs
from tests.integration.service.messages.rig import CREATE, Rig, a_create

pytestmark = pytest.mark.asyncio(loop_scope="module")


@named(
    Crash(row="F23", point=FailPoint.ROW_NOT_COMMITTED, has_row=False, asked=0, calls=ONCE),
    Crash(row="F24", point=FailPoint.GATEWAY_NOT_CALLED, asked=0, calls=ONCE),
    Crash(row="F25", point=FailPoint.ANSWER_LOST, calls=REPEATED),
    Crash(row="F26", point=FailPoint.OUTCOME_NOT_STORED, calls=REPEATED),
    Crash(row="F27", point=FailPoint.NOT_REPLIED, stored=True, calls=ONCE),
    Crash(row="F28", point=FailPoint.NOT_ACKED, stored=True, calls=ONCE, replies=2),
)
async def test_a_create_survives_a_crash(rig: Rig, programs: Programs, told: Expected, runs: int, crash: Crash) -> None:
    """F23-F28 Crash in a create: one row, one session under one key, one answer, one event."""
    for number in range(runs):
        bodies = [a_create() for _ in range(1 + number % 2)]
        before = await calls(rig)
        marks = await died(rig, programs, crash.point, CREATE, bodies)

        booking: int = bodies[-1]["bookingId"]
        rows = await rig.payments_of(booking)
        assert [row["session_id"] is not None for row in rows] == [crash.stored] * crash.has_row
        assert (await calls(rig) - before).calls == len(bodies) - 1 + crash.asked
        assert len(await rig.sessions_of(booking)) == crash.asked

        successor = await programs.service()
        replies = await replies_of(rig, marks[-1], crash.replies)
        await nothing_left(rig, successor, CREATE)
        assert await calls(rig) - before == crash.calls + Calls(calls=len(bodies) - 1)
        for body in bodies:
            [payment] = await rig.payments_of(body["bookingId"])
            [session] = await rig.sessions_of(body["bookingId"])
            assert (payment["session_id"], payment["status"], payment["version"]) == (session["id"], "PENDING", 1)
            assert payment["amount_minor"] == session["amount_total"] == 44997
            assert await journal(rig, payment["id"]) == ["created", "opened"]
            told[payment["id"]] = Told(statuses=("PENDING",))
        assert {(reply.type, reply.document["sessionId"]) for reply in replies} == {
            ("checkout.create.reply", session["id"])
        }
        assert len({reply.body for reply in replies}) == 1
