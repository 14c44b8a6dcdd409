"""`kill -9` at every line of a verify: a real service dies there, the next one finishes it, once.

Each fail point kills `--crash-runs` times (2 unless told otherwise), at a service's first verify and
at its second in turn: `pytest tests/integration/service/crash --crash-runs 50`.
"""

import pytest

from service.failpoints import FailPoint
from tests.integration.service.crash.conftest import Expected
from tests.integration.service.crash.evidence import Calls, Told, calls, died, journal, nothing_left, replies_of
from tests.integration.service.crash.points import ASKED_AGAIN, ONCE, Crash, named
from tests.integration.service.crash.programs import Programs
from tests.integration.service.messages.rig import VERIFY, Rig

pytestmark = pytest.mark.asyncio(loop_scope="module")


@named(
    Crash(row="F29", point=FailPoint.GATEWAY_NOT_CALLED, asked=0, calls=ONCE),
    Crash(row="F29", point=FailPoint.ANSWER_LOST, calls=ASKED_AGAIN),
    Crash(row="F29", point=FailPoint.OUTCOME_NOT_STORED, calls=ASKED_AGAIN),
    Crash(row="F30", point=FailPoint.NOT_REPLIED, stored=True, calls=ONCE),
    Crash(row="F30", point=FailPoint.NOT_ACKED, stored=True, calls=ONCE, replies=2),
)
async def test_a_verify_survives_a_crash(rig: Rig, programs: Programs, told: Expected, runs: int, crash: Crash) -> None:
    """F29-F30 Crash in a verify: one transition, one event; an answer from the final row costs no call to Stripe."""
    sessions = await _paid(rig, programs, sum(1 + number % 2 for number in range(runs)))
    for number in range(runs):
        ours = [sessions.pop() for _ in range(1 + number % 2)]
        before = await calls(rig)
        marks = await died(rig, programs, crash.point, VERIFY, [{"sessionId": session} for session in ours])

        payment = await rig.payment(ours[-1])
        assert (payment["status"], payment["version"]) == (("COMPLETED", 2) if crash.stored else ("PENDING", 1))
        assert (await calls(rig) - before).calls == len(ours) - 1 + crash.asked

        successor = await programs.service()
        replies = await replies_of(rig, marks[-1], crash.replies)
        await nothing_left(rig, successor, VERIFY)
        assert await calls(rig) - before == crash.calls + Calls(calls=len(ours) - 1)
        for session in ours:
            payment = await rig.payment(session)
            assert (payment["status"], payment["version"]) == ("COMPLETED", 2)
            assert await journal(rig, payment["id"]) == ["created", "opened", "completed"]
            told[payment["id"]] = Told(statuses=("PENDING", "COMPLETED"))
        assert {(reply.type, reply.document["paymentStatus"]) for reply in replies} == {
            ("checkout.verify.reply", "COMPLETED")
        }
        assert len({reply.body for reply in replies}) == 1


async def _paid(rig: Rig, programs: Programs, count: int) -> list[str]:
    """Sessions that were paid at Stripe, and nobody has verified."""
    service = await programs.service()
    sessions = [(await rig.created())["sessionId"] for _ in range(count)]
    await service.stopped()
    for session in sessions:
        await rig.sandbox.pay(session)
    return sessions
