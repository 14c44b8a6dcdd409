"""What really is on the broker is what `contracts/asyncapi.yaml` says of it."""

from typing import Any

from contracts import envelope
from tests.integration.service.messages.rig import CREATE, MARK, STATUS, VERIFY, Message, Rig, a_create
from tests.unit.tools.documents.validation import problems
from tools.documents.files import FOLDER, parsed

DOCUMENT = parsed((FOLDER / "asyncapi.yaml").read_text())
PROPERTIES = ("message_id", "correlation_id", "content_type", "delivery_mode", "reply_to", "expiration", "user_id")


def assert_is(message: Message, name: str) -> None:
    """The message is what the document calls `name`, and carries nothing that the document does not know."""
    said = DOCUMENT["components"]["messages"][name]
    given: dict[str, Any] = {each: getattr(message.properties, each) for each in PROPERTIES}
    given["type"] = message.properties.message_type
    given["timestamp"] = int(message.properties.timestamp.timestamp()) if message.properties.timestamp else None
    headers = {each: value for each, value in given.items() if value is not None} | message.headers
    for name_of_another in (MARK, "x-delivery-count", "x-death"):  # the test's, and RabbitMQ's
        headers.pop(name_of_another, None)
    assert problems(DOCUMENT, said["headers"], headers) == []
    assert problems(DOCUMENT, said["payload"], message.document) == []
    if name != "dead-letter":
        assert set(headers) <= set(said["headers"]["properties"])
        assert set(message.document) <= set(_members(said["payload"]))


def _members(payload: dict[str, str]) -> dict[str, Any]:
    schema: dict[str, Any] = DOCUMENT["components"]["schemas"][payload["$ref"].rpartition("/")[2]]
    members: dict[str, Any] = schema["properties"]
    return members


async def test_answers_are_what_the_document_says(rig: Rig) -> None:
    created = await rig.ask(CREATE, a_create())
    assert_is(created, "checkout.create.reply")
    session = created.document["sessionId"]
    assert_is(await rig.ask(VERIFY, {"sessionId": session}), "checkout.verify.reply")
    assert_is(await rig.ask(STATUS, {"transactionId": session}), "payment.status.reply")
    assert_is(await rig.ask(STATUS, {"transactionId": "cs_test_stranger"}), "fault")
    assert_is(await rig.ask(CREATE, {"bookingId": None}), "fault")


async def test_events_are_what_the_document_says(rig: Rig) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    created = await rig.ask(CREATE, command := a_create(), headers={envelope.TRACE_PARENT: trace})
    [first] = await rig.payments_of(command["bookingId"])
    other = await rig.ask(CREATE, command | {"amount": 500})
    assert other.document["sessionId"] != created.document["sessionId"]
    for event, name in zip(await rig.told(first["id"], events=2), ("payment.pending", "payment.failed"), strict=True):
        assert (event.routing_key, event.document["id"]) == (name, event.properties.message_id)
        assert_is(event, name)
    await rig.sandbox.pay(other.document["sessionId"])
    await rig.verified(other.document["sessionId"])
    [_, second] = await rig.payments_of(command["bookingId"])
    _, completed = await rig.told(second["id"], events=2)
    assert_is(completed, "payment.completed")
    data = completed.document["data"]
    assert (data["paymentId"], data["bookingId"], data["userId"]) == (second["id"], command["bookingId"], 42)
    assert (data["transactionId"], data["amount"], data["amountMinor"]) == (other.document["sessionId"], 500, 50000)
    assert (data["sequence"], completed.document["time"]) == (2, data["occurredAt"])


async def test_retries_and_dead_letters_are_what_the_document_says(rig: Rig) -> None:
    async with rig.stripe_with(error_rate=1):
        assert_is(await rig.retried(CREATE, await rig.send(CREATE, a_create())), "checkout.create.retry")
    refused = await rig.parked(VERIFY, await rig.send(VERIFY, {"sessionId": "cs_test_stranger"}))
    assert_is(refused, "dead-letter")
    assert refused.headers[envelope.REASON] == "refused"
    invalid = await rig.parked(CREATE, await rig.send(CREATE, {"bookingId": 1}))
    assert_is(invalid, "dead-letter")


async def test_the_examples_of_commands_are_understood(rig: Rig) -> None:
    messages = DOCUMENT["components"]["messages"]
    for command in (CREATE, VERIFY, STATUS):
        [example, _] = messages[command.value]["examples"]
        headers = {name: value for name, value in example["headers"].items() if name in _HEADERS}
        answer = await rig.ask(command, example["payload"], headers=headers)
        # Nobody made the session of the example; what cannot be understood would be VALIDATION_ERROR.
        assert answer.type == "checkout.create.reply" or answer.document["code"] == "NOT_FOUND"


_HEADERS = (envelope.REQUEST_ID, envelope.TRACE_PARENT, envelope.CALLER, envelope.IDEMPOTENCY_KEY)
