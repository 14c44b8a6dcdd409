"""A binding that should not be there brings a command to two queues: its sender hears the right one's answer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from contracts import envelope, topology
from contracts.faults import DeadLetterReason
from tests.integration.service.messages.rig import CREATE, VERIFY, Rig, a_create, serving, until


@asynccontextmanager
async def bound_wrongly(rig: Rig) -> AsyncIterator[None]:
    """The queue of verifies, to which creates come, too."""
    queue, exchange = topology.COMMAND_QUEUES[VERIFY], topology.COMMANDS.name
    await rig.looking.queue_bind(queue.name, exchange, routing_key=CREATE)
    try:
        yield
    finally:
        await rig.looking.queue_unbind(queue.name, exchange, routing_key=CREATE)


async def test_a_create_that_comes_to_the_queue_of_verifies_too_is_answered_once_and_rightly(rig: Rig) -> None:
    async with serving(rig.settings) as rig.service:
        await until(rig.is_ready)
        async with bound_wrongly(rig):
            marks = [await rig.ask_later(CREATE, a_create()) for _ in range(5)]
            for mark in marks:
                assert (await rig.reply_to(mark)).type == "checkout.create.reply"

            dead = [await rig.parked(VERIFY, mark) for mark in marks]
    assert {each.headers[envelope.REASON] for each in dead} == {DeadLetterReason.MISROUTED}
    assert [each.type for each in rig.replies if each.properties.correlation_id in marks] == [f"{CREATE}.reply"] * len(
        marks
    )
