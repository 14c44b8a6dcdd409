"""Messages and their schemas, out of `contracts`: commands, answers, events, what waits and what is parked."""

from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from contracts import envelope, events
from contracts.commands import COMMANDS, CommandType
from contracts.events import EventKey, PaymentEvent
from contracts.faults import Fault
from contracts.replies import CheckoutSession, PaymentState
from deploy.documents import examples, headers, words
from deploy.documents.channels import Part, ref

REPLIES: Final[dict[CommandType, type[BaseModel]]] = {
    CommandType.CREATE_CHECKOUT: CheckoutSession,
    CommandType.VERIFY_CHECKOUT: PaymentState,
    CommandType.PAYMENT_STATUS: PaymentState,
}


def messages() -> Part:
    """By name, which is the `type` property where there is one."""
    found: Part = {}
    for command, model in COMMANDS.items():
        said = words.COMMANDS[command]
        schema, payload, example = headers.command(command), _schema(model.__name__), examples.COMMANDS[command]
        alone = frozenset({"reply_to", "expiration"})
        found[command.value] = _message(
            command.value,
            said.title,
            schema,
            payload,
            _example("with an answer", headers=examples.headers(schema), payload=example),
            _example("fire-and-forget", headers=examples.headers(schema, without=alone), payload=example),
        )
        retried = headers.retried(command)
        found[f"{command.value}.retry"] = _message(
            f"{command.value}.retry",
            "Waits for its next try",
            retried,
            payload,
            _example("after a failure", headers=examples.headers(retried), payload=example),
        )
        answered, name = headers.reply(command), envelope.reply_type(command.value)
        found[name] = _message(
            name,
            f"The answer to {command.value}",
            answered,
            _schema(REPLIES[command].__name__),
            _example("done", headers=examples.headers(answered), payload=examples.REPLIES[command]),
        )
    fault = headers.fault()
    found[envelope.FAULT_TYPE] = _message(
        envelope.FAULT_TYPE,
        "Why a command was not done",
        fault,
        _schema(Fault.__name__),
        _example("already paid", headers=examples.headers(fault), payload=examples.fault()),
    )
    for key in EventKey:
        told = headers.event(key)
        found[key.value] = _message(
            key.value,
            words.EVENTS[key],
            told,
            _schema(event_schema(key)),
            _example(key.value, headers=examples.headers(told), payload=examples.event(key)),
        ) | {"contentType": events.CONTENT_TYPE}
    parked, command = headers.dead_letter(), CommandType.CREATE_CHECKOUT
    found["dead-letter"] = _message(
        "dead-letter",
        "A command that could not be done, as it came",
        parked,
        {"description": "Whatever was sent: a command's body, or what is none."},
        _example("tried in vain", headers=examples.headers(parked), payload=examples.COMMANDS[command]),
    )
    return found


def schemas() -> Part:
    """By name. Commands as they are accepted, everything else as it is written."""
    # A fault leaves out what is not known, so that its optional members are optional for whoever reads it.
    modes: dict[type[BaseModel], JsonSchemaMode] = {Fault: "validation", PaymentEvent: "serialization"}
    for command in CommandType:
        modes[COMMANDS[command]], modes[REPLIES[command]] = "validation", "serialization"
    _, definitions = models_json_schema([*modes.items()], ref_template="#/components/schemas/{model}")
    found: Part = definitions["$defs"]
    for name, schema in found.items():
        if name not in {model.__name__ for model in COMMANDS.values()}:
            schema.pop("additionalProperties", None)  # we are strict with commands; others shall be lenient with us
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


def _example(name: str, **parts: Any) -> Part:
    return {"name": name, **parts}


def _schema(name: str) -> Part:
    return ref("components/schemas", name)
