"""The messages and their schemas, from `contracts`: commands, replies, faults, events, retries and dead letters."""

from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from contracts import envelope, events
from contracts.commands import COMMANDS, CommandType
from contracts.events import EventKey, PaymentEvent
from contracts.faults import Fault
from contracts.replies import CheckoutSession, PaymentState
from tools.documents import asyncapi_descriptions, asyncapi_examples, asyncapi_headers
from tools.documents.asyncapi_channels import Part, ref

REPLIES: Final[dict[CommandType, type[BaseModel]]] = {
    CommandType.CREATE_CHECKOUT: CheckoutSession,
    CommandType.VERIFY_CHECKOUT: PaymentState,
    CommandType.PAYMENT_STATUS: PaymentState,
}


def messages() -> Part:
    """The messages by name, which is the `type` property where there is one."""
    found: Part = {}
    for command, model in COMMANDS.items():
        text = asyncapi_descriptions.COMMANDS[command]
        schema, payload = asyncapi_headers.command(command), _schema(model.__name__)
        example = asyncapi_examples.COMMANDS[command]
        alone = frozenset({"reply_to", "expiration"})
        found[command.value] = _message(
            command.value,
            text.title,
            schema,
            payload,
            _example("with an answer", schema, example),
            _example("fire-and-forget", schema, example, without=alone),
        )
        retried = asyncapi_headers.retried(command)
        found[f"{command.value}.retry"] = _message(
            f"{command.value}.retry",
            "Waits for its next try",
            retried,
            payload,
            _example("after a failure", retried, example),
        )
        answered, name = asyncapi_headers.reply(command), envelope.reply_type(command.value)
        found[name] = _message(
            name,
            f"The answer to {command.value}",
            answered,
            _schema(REPLIES[command].__name__),
            _example("done", answered, asyncapi_examples.REPLIES[command]),
        )
    fault = asyncapi_headers.fault()
    found[envelope.FAULT_TYPE] = _message(
        envelope.FAULT_TYPE,
        "Why a command was not done",
        fault,
        _schema(Fault.__name__),
        _example("already paid", fault, asyncapi_examples.fault()),
    )
    for key in EventKey:
        event_headers = asyncapi_headers.event(key)
        found[key.value] = _message(
            key.value,
            asyncapi_descriptions.EVENTS[key],
            event_headers,
            _schema(event_schema(key)),
            _example(key.value, event_headers, asyncapi_examples.event(key)),
        ) | {"contentType": events.CONTENT_TYPE}
    dead_letter, command = asyncapi_headers.dead_letter(), CommandType.CREATE_CHECKOUT
    found["dead-letter"] = _message(
        "dead-letter",
        "A command that could not be done, as it came",
        dead_letter,
        {"description": "Whatever was sent: a command's body, or what is none."},
        _example("tried in vain", dead_letter, asyncapi_examples.COMMANDS[command]),
    )
    return found


def schemas() -> Part:
    """The schemas by name: commands as they are accepted, all others as they are written."""
    # A fault omits unknown members, so its optional members are optional for the receiver too.
    modes: dict[type[BaseModel], JsonSchemaMode] = {Fault: "validation", PaymentEvent: "serialization"}
    for command in CommandType:
        modes[COMMANDS[command]], modes[REPLIES[command]] = "validation", "serialization"
    _, definitions = models_json_schema([*modes.items()], ref_template="#/components/schemas/{model}")
    found: Part = definitions["$defs"]
    for name, schema in found.items():
        if name not in {model.__name__ for model in COMMANDS.values()}:
            schema.pop("additionalProperties", None)  # only commands are strict: receivers must tolerate new members
    found["FaultCode"]["x-extensible"] = True
    members = found[Fault.__name__]["properties"]
    for name in members.keys() - set(found[Fault.__name__]["required"]):  # `anyOf` it or null: it is left out instead
        given, _ = members[name].pop("anyOf")
        members[name] = given | members[name]
    event = found.pop(PaymentEvent.__name__)
    for key in EventKey:
        members = event["properties"] | {"type": {"const": key.event_type}}
        found[event_schema(key)] = event | {"title": event_schema(key), "properties": members}
    return dict(sorted(found.items()))


def event_schema(key: EventKey) -> str:
    """The name of an event's schema, for example `PaymentCompleted`."""
    return "".join(part.capitalize() for part in key.value.split("."))


def _message(name: str, summary: str, header_schema: Part, payload: Part, *named_examples: Part) -> Part:
    members = header_schema["properties"]
    message: Part = {
        "name": name,
        "title": name,
        "summary": summary,
        "contentType": envelope.CONTENT_TYPE,
        "correlationId": {"location": "$message.header#/correlation_id"},
        "headers": header_schema,
        "payload": payload,
        "examples": list(named_examples),
    }
    if "correlation_id" not in members:
        del message["correlationId"]
    if "type" in members:
        message["bindings"] = {"amqp": {"messageType": members["type"]["const"], "bindingVersion": "0.3.0"}}
    return message


def _example(name: str, schema: Part, payload: Any, *, without: frozenset[str] = frozenset()) -> Part:
    return {"name": name, "headers": asyncapi_examples.headers(schema, without=without), "payload": payload}


def _schema(name: str) -> Part:
    return ref("components/schemas", name)
