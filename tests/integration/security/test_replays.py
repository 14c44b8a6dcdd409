"""S24: a dead letter that is replayed again and again does what it says once, and each replay is written down."""

import argparse
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import uuid4

import pytest
import pytest_asyncio
from pamqp.commands import Basic

from contracts import topology
from service import dead_letters
from service.settings import OperatorSettings
from tests.integration.service.messages.rig import CREATE, Rig, a_create, running, until

pytestmark = pytest.mark.asyncio(loop_scope="module")
TIMES = 10


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(amqp_url: str, migrated_url: str) -> AsyncIterator[Rig]:
    async with running(amqp_url, migrated_url) as rig:
        yield rig


async def replay(rig: Rig, message_id: str, actor: str) -> int:
    parser = argparse.ArgumentParser()
    dead_letters.add_parser(parser.add_subparsers())
    arguments = parser.parse_args(["dead-letters", "replay", message_id, "--actor", actor])
    urls = {"amqp_url": rig.settings.amqp_url, "database_url": rig.settings.database_url}
    return await dead_letters.run(arguments, OperatorSettings(**urls))


async def test_the_same_letter_ten_times_is_one_payment_and_ten_lines_with_who_did_it(rig: Rig) -> None:
    body, message_id = a_create(), str(uuid4())
    queue = topology.COMMAND_QUEUES[CREATE].name
    for number in range(TIMES):
        properties = Basic.Properties(
            message_id=message_id,
            correlation_id=message_id,
            content_type="application/json",
            message_type=CREATE.value,
            timestamp=datetime.now(UTC).replace(microsecond=0),
            delivery_mode=2,
            headers={"x-reason": "exhausted"},
        )
        await rig.channel.basic_publish(
            json.dumps(body).encode(), exchange=topology.DEAD_LETTERS.name, routing_key=queue, properties=properties
        )
        assert await replay(rig, message_id, f"operator-{number}") == 0
        await rig.queue_empty(CREATE)

    async def opened() -> bool:
        rows = await rig.payments_of(body["bookingId"])
        return bool(rows) and rows[0]["session_id"] is not None

    await until(opened)
    assert rig.service is not None
    await rig.service.steps.drain()
    [payment] = await rig.payments_of(body["bookingId"])
    assert len(await rig.sessions_of(body["bookingId"])) == 1
    lines = await rig.sql("SELECT kind FROM journal WHERE payment_id = $1 ORDER BY id", payment["id"])
    assert [line["kind"] for line in lines] == ["created", "opened"]
    assert len({each.properties.message_id for each in await rig.told(payment["id"], events=1)}) == 1
    assert await rig.dead_letters(CREATE) == []
    audit = await rig.sql("SELECT kind, actor FROM operator_journal WHERE message_id = $1 ORDER BY id", message_id)
    assert [tuple(line) for line in audit] == [("dead-letter-replayed", f"operator-{n}") for n in range(TIMES)]
