"""`kill -9` while the event feed stores outcomes: the next leader reads it again."""

import signal

from service.failpoints import FailPoint
from tests.integration.service.crash.conftest import Expected
from tests.integration.service.crash.evidence import ExpectedEvents, journal
from tests.integration.service.crash.programs import Programs
from tests.integration.service.messages.rig import Rig, until


async def test_what_a_dead_leader_had_read_is_read_again_and_published_once(
    rig: Rig, programs: Programs, told: Expected
) -> None:
    """The last of three outcomes is not stored, and how far was read is not either."""
    service = await programs.service()
    sessions = [(await rig.created())["sessionId"] for _ in range(3)]
    await service.stopped()
    for session in sessions:
        await rig.sandbox.pay(session)
    leader = await programs.service(f"{FailPoint.OUTCOME_NOT_STORED}:3")
    await rig.read_events()
    assert await leader.ended() == -signal.SIGKILL
    states = [(await rig.payment(session))["status"] for session in sessions]
    assert "PENDING" in states
    assert await rig.sql("SELECT 1 FROM feed WHERE read_until IS NULL")

    successor = await programs.service()

    async def completed() -> bool:
        return [(await rig.payment(session))["status"] for session in sessions] == ["COMPLETED"] * 3

    await until(completed)
    await successor.stopped()
    for session in sessions:
        payment = await rig.payment(session)
        assert await journal(rig, payment["id"]) == ["created", "opened", "completed"]
        told[payment["id"]] = ExpectedEvents(statuses=("PENDING", "COMPLETED"))
