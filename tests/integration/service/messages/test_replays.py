"""S24: a dead letter that is replayed again and again takes effect once, and each replay is journaled."""

import json
from uuid import uuid4

from contracts import topology
from tests.integration.service.dead_letters.conftest import dead_letters_command, properties
from tests.integration.service.messages.rig import CREATE, Rig, a_create

TIMES = 10


async def test_the_same_letter_ten_times_is_one_payment_and_ten_lines_with_who_did_it(rig: Rig, amqp_url: str) -> None:
    body, message_id = a_create(), str(uuid4())
    queue = topology.COMMAND_QUEUES[CREATE].name
    for number in range(TIMES):
        letter = properties(message_id=message_id, headers={"x-reason": "exhausted"})
        await rig.channel.basic_publish(
            json.dumps(body).encode(), exchange=topology.DEAD_LETTERS.name, routing_key=queue, properties=letter
        )
        words = ("replay", message_id, "--actor", f"operator-{number}")
        assert await dead_letters_command(*words, amqp_url=amqp_url, database_url=rig.database_url) == 0
        await rig.queue_empty(CREATE)

    await rig.until_rows(1, "SELECT 1 FROM payments WHERE booking_id = $1 AND session_id <> ''", body["bookingId"])
    assert rig.service is not None
    await rig.service.application.checkout.openings.drain()
    [payment] = await rig.payments_of(body["bookingId"])
    assert len(await rig.sessions_of(body["bookingId"])) == 1
    lines = await rig.sql("SELECT kind FROM journal WHERE payment_id = $1 ORDER BY id", payment["id"])
    assert [line["kind"] for line in lines] == ["created", "opened"]
    assert len({each.properties.message_id for each in await rig.told(payment["id"], events=1)}) == 1
    assert await rig.dead_letters(CREATE) == []
    audit = await rig.sql("SELECT kind, actor FROM operator_journal WHERE message_id = $1 ORDER BY id", message_id)
    assert [tuple(line) for line in audit] == [("dead-letter-replayed", f"operator-{n}") for n in range(TIMES)]
