"""Commands that nobody waits for: the outcome is an event, a passing failure comes again, a lasting one is parked."""

from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest

from contracts import topology
from tests.integration.service.messages.rig import CREATE, MARK, VERIFY, Message, Rig, a_create, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def failing(rig: Rig, *, fails: bool = True) -> None:
    await rig.sandbox.control("config", {"error_rate": int(fails)})


async def delayed(rig: Rig, mark: str, *, delay: int) -> Message:
    async def found() -> list[Message]:
        return [each for each in await rig.delayed(CREATE, delay=delay) if each.headers.get(MARK) == mark]

    [message] = await until(found)
    return message


async def test_the_outcome_is_an_event_and_no_reply(rig: Rig) -> None:
    command = a_create()
    with rig.replies_since() as replies:
        await rig.send(CREATE, command, headers={"x-request-id": "r-1"})
        [payment] = await until(lambda: rig.payments_of(command["bookingId"]))
        [pending] = await rig.told(payment["id"], events=1)
        assert pending.headers["x-request-id"] == "r-1"
        await rig.sandbox.pay(pending.document["data"]["transactionId"])
        await rig.send(VERIFY, {"sessionId": pending.document["data"]["transactionId"]})
        _, completed = await rig.told(payment["id"], events=2)
        assert completed.document["data"]["status"] == "COMPLETED"
        assert replies() == []


@pytest.mark.parametrize(
    ("members", "code"), [({"amount": 0.01}, "VALIDATION_ERROR"), ({"currency": "xxx"}, "VALIDATION_ERROR")]
)
async def test_a_lasting_failure_is_parked_with_its_code(rig: Rig, members: dict[str, Any], code: str) -> None:
    async with rig.nothing_done():
        letter = await rig.parked(CREATE, await rig.send(CREATE, a_create(**members)))
    assert letter.headers["x-reason"] == "refused"
    assert letter.headers["x-fault-code"] == code
    assert letter.headers["x-attempts"] == 1


async def test_a_booking_that_is_paid_is_parked_as_refused(rig: Rig) -> None:
    created = await rig.created()
    await rig.sandbox.pay(created["sessionId"])
    await rig.verified(created["sessionId"])
    mark = await rig.send(CREATE, a_create(bookingId=created["bookingId"]))
    letter = await rig.parked(CREATE, mark)
    assert (letter.headers["x-reason"], letter.headers["x-fault-code"]) == ("refused", "ALREADY_PAID")


async def test_an_unknown_session_is_parked_as_refused(rig: Rig) -> None:
    async with rig.nothing_done():
        letter = await rig.parked(VERIFY, await rig.send(VERIFY, {"sessionId": "cs_test_stranger"}))
    assert (letter.headers["x-reason"], letter.headers["x-fault-code"]) == ("refused", "NOT_FOUND")


async def test_a_passing_failure_comes_back_by_itself_after_a_second(rig: Rig) -> None:
    command = a_create()
    await failing(rig)
    mark = await rig.send(CREATE, command)

    async def put_off() -> bool:
        declared = await rig.looking.queue_declare(topology.DELAY_QUEUES[CREATE][0].name, passive=True)
        return bool(declared.message_count)

    await until(put_off)
    await failing(rig, fails=False)
    [payment] = await rig.payments_of(command["bookingId"])
    assert payment["session_id"] is None
    await rig.told(payment["id"], events=1)
    await rig.queue_empty(CREATE)
    assert len(await rig.sessions_of(command["bookingId"])) == 1
    assert [each for each in await rig.dead_letters(CREATE) if each.headers.get(MARK) == mark] == []


async def test_each_passing_failure_waits_longer_and_the_last_one_is_parked(rig: Rig) -> None:
    command, message_id = a_create(), str(uuid4())
    await failing(rig)
    attempts: dict[str, Any] = {}
    try:
        # The first delay is left out: its queue gives the message back before one can look.
        for delay in range(1, len(topology.RETRY_DELAYS_SECONDS)):
            attempts["x-attempts"] = delay
            headers = {**attempts, "x-caller": "booking-service", "idempotency-key": message_id}
            mark = await rig.send(CREATE, command, message_id=message_id, headers=headers)
            again = await delayed(rig, mark, delay=delay)
            assert again.headers["x-attempts"] == delay + 1
            assert again.headers["x-fault-code"] == "GATEWAY_ERROR"
            assert datetime.fromisoformat(again.headers["x-last-failed-at"]).tzinfo is not None
            first = attempts.setdefault("x-first-failed-at", again.headers["x-first-failed-at"])
            assert again.headers["x-first-failed-at"] == first
            # All that makes it the same command when it comes back.
            assert (again.document, again.type) == (command, "checkout.create")
            assert again.properties.message_id == message_id
            assert again.properties.correlation_id == mark
            assert again.properties.content_type == "application/json"
            assert again.properties.delivery_mode == 2
            assert again.headers["idempotency-key"] == message_id
        mark = await rig.send(CREATE, command, message_id=message_id, headers=attempts | {"x-attempts": 5})
        letter = await rig.parked(CREATE, mark)
    finally:
        await failing(rig, fails=False)
    assert letter.headers["x-reason"] == "exhausted"
    assert letter.headers["x-fault-code"] == "GATEWAY_ERROR"
    assert letter.headers["x-attempts"] == 6
    assert len(await rig.payments_of(command["bookingId"])) == 1


async def test_the_delay_queues_give_their_commands_back_to_the_commands_queue(rig: Rig) -> None:
    """RabbitMQ refuses a declaration with other arguments: these are the ones in force."""
    for command, queues in topology.DELAY_QUEUES.items():
        for queue, seconds in zip(queues, (1, 5, 30, 120, 600), strict=True):
            arguments: Any = {
                "x-queue-type": "quorum",
                "x-message-ttl": seconds * 1000,
                "x-dead-letter-exchange": "payments.commands",
                "x-dead-letter-routing-key": command.value,
                "x-dead-letter-strategy": "at-least-once",
                "x-overflow": "reject-publish",
            }
            await rig.looking.queue_declare(queue.name, durable=True, arguments=arguments)
