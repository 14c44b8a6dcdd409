"""`kill -9` at every line of the relay: what it had in hand is sent by the next one, with the same id and bytes.

Each fail point kills `--crash-runs` times (1 unless told otherwise), at a service's first event and
at its second in turn: `pytest tests/integration/service/crash --crash-runs 50`.
"""

import signal

import pytest

from contracts import envelope
from service.failpoints import FailPoint
from tests.integration.service.crash.conftest import Expected
from tests.integration.service.crash.evidence import ExpectedEvents, nothing_left, replies_of
from tests.integration.service.crash.programs import Programs
from tests.integration.service.messages.rig import CREATE, Rig, a_create, until

BURST = 20
CLAIMED = "SELECT payment_id FROM outbox WHERE claimed_until IS NOT NULL AND sent_at IS NULL"


@pytest.mark.parametrize(
    "point", [FailPoint.EVENT_NOT_PUBLISHED, FailPoint.EVENT_NOT_CONFIRMED, FailPoint.EVENT_NOT_MARKED]
)
async def test_an_event_survives_the_crash_of_its_relay(
    rig: Rig, programs: Programs, told: Expected, runs: int, point: FailPoint
) -> None:
    """F31-F32 Crash in the relay: no event lost, sent within 30 s, a second copy has the same id and bytes."""
    for number in range(runs):
        known = {row["id"] for row in await rig.sql("SELECT id FROM payments")}
        earlier = number % 2
        relay = await programs.service(f"{point}:{earlier + 1}")
        for _ in range(earlier):
            made = await rig.created()
            await rig.told((await rig.payment(made["sessionId"]))["id"], events=1)
        bodies = [a_create() for _ in range(BURST)]
        marks = [await rig.send(CREATE, body, reply_to=envelope.DIRECT_REPLY_TO) for body in bodies]
        assert await relay.ended() == -signal.SIGKILL

        claimed = [row["payment_id"] for row in await rig.sql(CLAIMED) if row["payment_id"] not in known]
        assert claimed
        sent = []
        if point is not FailPoint.EVENT_NOT_PUBLISHED:
            sent = await until(lambda claimed=claimed: [each for each in claimed if rig.events_of(each)])
        told |= {payment_id: ExpectedEvents(statuses=("PENDING",), copies=2) for payment_id in sent}

        successor = await programs.service()
        for mark, body in zip(marks, bodies, strict=True):
            [reply, *_] = await replies_of(rig, mark)
            [payment] = await rig.payments_of(body["bookingId"])
            [session] = await rig.sessions_of(body["bookingId"])
            assert reply.document["sessionId"] == payment["session_id"] == session["id"]
            told.setdefault(payment["id"], ExpectedEvents(statuses=("PENDING",)))
        # The next run must not meet events of this one. F31 waits for the end of the dead relay's lease.
        if point is not FailPoint.EVENT_NOT_PUBLISHED:
            await rig.sql("UPDATE outbox SET claimed_until = now() WHERE sent_at IS NULL")
        await rig.all_sent()
        await nothing_left(rig, successor, CREATE)
