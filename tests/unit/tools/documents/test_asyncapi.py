"""`contracts/asyncapi.yaml` is complete, and its examples match its schemas."""

import json
from typing import Any

import pytest
from faststream.specification.asyncapi import AsyncAPI

from contracts import body, envelope, topology
from contracts.commands import CommandType
from contracts.events import EventKey
from contracts.faults import DeadLetterReason, FaultCode
from service.application import translation
from service.domain.payment import PaymentStatus
from service.domain.status import Change, ChangeKind
from service.entrypoints import broker, consumers
from tests.kit.service import a_payment
from tests.unit.tools.documents.validation import problems
from tools.documents import asyncapi_descriptions
from tools.documents.files import FOLDER, parsed

DOCUMENT = parsed((FOLDER / "asyncapi.yaml").read_text())
MESSAGES = DOCUMENT["components"]["messages"]
CHANNELS = DOCUMENT["channels"]
OPERATIONS = DOCUMENT["operations"]
PROPERTIES = set(
    "message_id correlation_id content_type type timestamp expiration reply_to delivery_mode user_id".split()
)


def names(references: list[Any]) -> list[str]:
    return [reference["$ref"].rpartition("/")[2] for reference in references]


def queues() -> dict[str, Any]:
    """Every queue of the document by its name."""
    found = {}
    for channel in CHANNELS.values():
        binding = channel.get("bindings", {}).get("amqp", {})
        for queue in filter(None, (binding.get("queue"), binding.get("x-queue"))):
            for delay, milliseconds in binding.get("x-message-ttl", {"": None}).items():
                ttl = {} if milliseconds is None else {"x-message-ttl": milliseconds}
                found[queue["name"].replace("{delay}", delay)] = queue["x-arguments"] | ttl
    return found


@pytest.mark.parametrize("name", MESSAGES)
def test_every_message_has_examples_that_are_what_its_schemas_say(name: str) -> None:
    message = MESSAGES[name]
    assert message["examples"]
    for example in message["examples"]:
        assert problems(DOCUMENT, message["payload"], example["payload"]) == []
        assert problems(DOCUMENT, message["headers"], example["headers"]) == []
        assert set(example["headers"]) <= set(message["headers"]["properties"])


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_without_what_it_requires_is_none(name: str) -> None:
    message = MESSAGES[name]
    example = message["examples"][0]["headers"]
    for required in message["headers"]["required"]:
        assert problems(DOCUMENT, message["headers"], {key: example[key] for key in example if key != required})


def test_every_queue_and_exchange_is_the_one_that_the_service_declares() -> None:
    assert queues() == {queue.name: queue.arguments for queue in topology.QUEUES}
    exchanges = {
        (exchange["name"], exchange["type"])
        for channel in CHANNELS.values()
        for name in ("exchange", "x-exchange")
        if (exchange := channel.get("bindings", {}).get("amqp", {}).get(name))
    }
    assert exchanges == {(exchange.name, exchange.type) for exchange in topology.EXCHANGES}


@pytest.mark.parametrize("command", CommandType)
def test_every_command_is_answered_by_its_reply_or_by_a_fault(command: CommandType) -> None:
    operation = OPERATIONS[asyncapi_descriptions.COMMANDS[command].operation]
    assert operation["action"] == "receive"
    assert names(operation["messages"]) == [command.value]
    assert names(operation["reply"]["messages"]) == [f"{command.value}.reply", "fault"]
    assert operation["reply"]["address"]["location"] == "$message.header#/reply_to"
    for name in (command.value, f"{command.value}.reply", "fault"):
        assert MESSAGES[name]["correlationId"] == {"location": "$message.header#/correlation_id"}


def test_every_event_has_its_channel_operation_and_type() -> None:
    sent = {names(o["messages"])[0]: o for o in OPERATIONS.values() if {"name": "events"} in o["tags"]}
    assert set(sent) == {key.value for key in EventKey}
    for key in EventKey:
        assert CHANNELS[key.value]["address"] == key.value
        assert MESSAGES[key.value]["contentType"] == "application/cloudevents+json"
        [example] = MESSAGES[key.value]["examples"]
        assert example["payload"]["type"] == key.event_type == example["headers"]["type"]
        assert set(example["payload"]["data"]) == set(DOCUMENT["components"]["schemas"]["PaymentSnapshot"]["required"])


@pytest.mark.parametrize("kind", sorted(set(ChangeKind) - {ChangeKind.CREATED, ChangeKind.ADOPTED, ChangeKind.RENEWED}))
def test_every_change_of_a_payment_is_told_as_the_document_says(kind: ChangeKind) -> None:
    status = {ChangeKind.COMPLETED: PaymentStatus.COMPLETED, ChangeKind.FAILED: PaymentStatus.FAILED}
    payment = a_payment(status=status.get(kind, PaymentStatus.PENDING))
    key, event = translation.event(Change(kind=kind, payment=payment))
    assert problems(DOCUMENT, MESSAGES[key.value]["payload"], json.loads(body.write(event))) == []


def test_every_channel_is_used_by_an_operation() -> None:
    used = {o["channel"]["$ref"] for o in OPERATIONS.values()}
    used |= {o["reply"]["channel"]["$ref"] for o in OPERATIONS.values() if "reply" in o}
    assert used == {f"#/channels/{name}" for name in CHANNELS}


def test_every_header_of_the_envelope_is_described() -> None:
    described = {name for message in MESSAGES.values() for name in message["headers"]["properties"]}
    headers = {
        value
        for name, value in vars(envelope).items()
        if isinstance(value, str) and name.isupper() and value.islower() and value.startswith(("x-", "trace", "idemp"))
    }
    assert headers >= {"x-request-id", "traceparent", "idempotency-key", "x-caller", "x-reason", "x-fault-code"}
    assert described == PROPERTIES | headers | {"x-death"}


def test_every_code_and_reason_is_named() -> None:
    parked = MESSAGES["dead-letter"]["headers"]["properties"]
    assert set(parked["x-reason"]["enum"]) == {reason.value for reason in DeadLetterReason}
    assert all(f"`{reason.value}`:" in parked["x-reason"]["description"] for reason in DeadLetterReason)
    assert set(DOCUMENT["components"]["schemas"]["FaultCode"]["enum"]) == {code.value for code in FaultCode}


def test_it_agrees_with_what_faststream_knows_of_the_consumers() -> None:
    consuming = broker.CommandBroker("amqp://localhost")
    parts: Any = dict.fromkeys(("store", "gateway", "policy", "clock", "checkout", "status_lookup"))
    consumers.register(consuming, **parts)  # nothing is consumed
    known = AsyncAPI(consuming).to_specification().to_jsonable()
    assert len(known["channels"]) == len(CommandType)
    for channel in known["channels"].values():
        ours = CHANNELS[channel["address"]]
        theirs = channel["bindings"]["amqp"]["queue"]
        queue = ours["bindings"]["amqp"]["x-queue"]
        assert {name: queue[name] for name in queue if name in theirs} == {
            name: theirs[name] for name in theirs if name in queue
        }
        [message] = channel["messages"].values()
        payload = known["components"]["messages"][message["$ref"].rpartition("/")[2]]["payload"]
        assert payload == MESSAGES[channel["address"]]["payload"]
        name = payload["$ref"].rpartition("/")[2]
        members = known["components"]["schemas"][name]["properties"]
        assert members == DOCUMENT["components"]["schemas"][name]["properties"]
