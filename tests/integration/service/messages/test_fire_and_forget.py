"""Commands that nobody waits for: the outcome is an event, failures are retried or dead-lettered."""

from datetime import datetime
from typing import Any
from uuid import uuid4

from contracts import topology
from contracts.commands import CommandType
from tests.integration.service.messages.rig import CREATE, VERIFY, Rig, a_create, until


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


async def test_a_permanent_failure_is_dead_lettered_with_its_code(rig: Rig) -> None:
    async def refused(command: CommandType, body: Any, code: str) -> None:
        headers = (await rig.parked(command, await rig.send(command, body))).headers
        assert (headers["x-reason"], headers["x-fault-code"], headers["x-attempts"]) == ("refused", code, 1)

    async with rig.nothing_done():
        await refused(CREATE, a_create(amount=0.01), "VALIDATION_ERROR")
        await refused(CREATE, a_create(currency="xxx"), "VALIDATION_ERROR")
        await refused(VERIFY, {"sessionId": "cs_test_stranger"}, "NOT_FOUND")
    paid = await rig.created()
    await rig.sandbox.pay(paid["sessionId"])
    await rig.verified(paid["sessionId"])
    await refused(CREATE, a_create(bookingId=paid["bookingId"]), "ALREADY_PAID")


async def test_what_needs_a_person_is_dead_lettered_and_not_repeated(rig: Rig) -> None:
    """M6 A command that only a person can let through is told to one at once."""
    created = await rig.created()
    settled = {"outcome": "paid", "amount_total": 1}
    await rig.sandbox.control(f"sessions/{created['sessionId']}/settle", settled)
    verified = await rig.ask(VERIFY, {"sessionId": created["sessionId"]})
    assert verified.headers["x-payment-attention"] == "paid_differently"
    mark = await rig.send(CREATE, a_create(bookingId=created["bookingId"]))
    letter = await rig.parked(CREATE, mark)
    assert letter.headers.items() >= {"x-reason": "refused", "x-fault-code": "NEEDS_ATTENTION"}.items()


async def test_each_transient_failure_waits_longer_and_the_last_one_is_dead_lettered(rig: Rig) -> None:
    command, message_id = a_create(), str(uuid4())
    attempts: dict[str, Any] = {}
    async with rig.stripe_with(error_rate=1):
        # The first delay is left out: its queue gives the message back before one can look.
        for delay in range(1, len(topology.RETRY_DELAYS_SECONDS)):
            attempts["x-attempts"] = delay
            headers = {**attempts, "x-caller": "booking-service", "idempotency-key": message_id}
            mark = await rig.send(CREATE, command, message_id=message_id, headers=headers)
            again = await rig.retried(CREATE, mark, delay=delay)
            first = attempts.setdefault("x-first-failed-at", again.headers["x-first-failed-at"])
            failed = {"x-attempts": delay + 1, "x-fault-code": "GATEWAY_ERROR", "x-first-failed-at": first}
            assert again.headers.items() >= (headers | failed).items()
            assert datetime.fromisoformat(again.headers["x-last-failed-at"]).tzinfo is not None
            # All that makes it the same command when it comes back.
            properties = again.properties
            assert (again.document, again.type, properties.delivery_mode) == (command, "checkout.create", 2)
            assert (properties.message_id, properties.correlation_id) == (message_id, mark)
            assert properties.content_type == "application/json"
        mark = await rig.send(CREATE, command, message_id=message_id, headers=attempts | {"x-attempts": 5})
        letter = await rig.parked(CREATE, mark)
    failed = {"x-reason": "exhausted", "x-fault-code": "GATEWAY_ERROR", "x-attempts": 6}
    assert letter.headers.items() >= failed.items()
    assert len(await rig.payments_of(command["bookingId"])) == 1


async def test_a_deadline_outlives_a_retry(rig: Rig) -> None:
    """T10 The property is gone when the message comes back from its retry queue; the sender's time is not."""
    command = a_create()
    async with rig.stripe_with(error_rate=1):
        mark = await rig.send(CREATE, command, expiration="5000")
        letter = await rig.parked(CREATE, mark)
    # It was tried at once, and the retry 1 s later found a sender who waits no more, or failed and was the last.
    assert (letter.headers["x-reason"], letter.headers["x-expiration"]) == ("expired", 5000)


async def test_a_copy_goes_nowhere_but_where_the_service_sends_it(rig: Rig) -> None:
    """T10 A sender's `CC` would have RabbitMQ deliver our copies, with our rights, to queues of his choice."""
    await rig.channel.queue_declare(queue := f"strangers-{uuid4()}", exclusive=True)
    routing = {"CC": [queue], "BCC": [queue], "x-delay": 1}
    bad = await rig.send(CREATE, b"{", headers=routing)
    assert not (await rig.parked(CREATE, bad)).headers.keys() & routing.keys()
    async with rig.stripe_with(error_rate=1):
        failed = await rig.send(CREATE, a_create(), headers={**routing, "x-attempts": 1})
        assert not (await rig.retried(CREATE, failed, delay=1)).headers.keys() & routing.keys()
    # It is bound to no exchange that its sender may publish to; by the default one our copies would have reached it.
    assert await rig.ready_in(queue) == 0
    await rig.channel.queue_delete(queue)
