"""The AsyncAPI document, built from `contracts`.

FastStream can generate one too, but knows only its subscriptions: no replies, exchanges, headers, events, dead letters
or examples. A test compares what it does know.
"""

from typing import Final

from contracts import VERSION, envelope
from contracts.commands import CommandType
from contracts.events import EventKey
from tools.documents import asyncapi_descriptions
from tools.documents.asyncapi_channels import BINDING_VERSION, Part, channels, ref
from tools.documents.asyncapi_messages import event_schema, messages, schemas

_USERS: Final = {
    "payment-bridge": "Sends commands and takes their answers: the bridge, and whoever else calls the service.",
    "payment-service": "The service itself: declares everything, takes commands, alone publishes events.",
    "payment-subscriber": "Reads events into queues of its own.",
    "payment-operator": "Reads and replays dead letters.",
}


def document() -> Part:
    """The whole document, from the service's point of view: it receives commands and sends events."""
    return {
        "asyncapi": "3.0.0",
        "id": "urn:bookticket:payment-service",
        "info": {
            "title": "BookTicket Payment Service",
            "version": VERSION,
            "description": asyncapi_descriptions.DESCRIPTION,
            "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        },
        "defaultContentType": envelope.CONTENT_TYPE,
        "servers": _servers(),
        "channels": channels(),
        "operations": _operations(),
        "components": {
            "messages": messages(),
            "schemas": schemas(),
            "securitySchemes": {
                name: {"type": "userPassword", "description": f"The RabbitMQ user `{name}`. {text}"}
                for name, text in _USERS.items()
            },
        },
    }


_TAGS: Final = {
    "commands": "What the service is asked, and what it answers.",
    "events": "What became of a payment.",
    "trouble": "What becomes of commands that could not be done.",
}


def _servers() -> Part:
    security = [ref("components/securitySchemes", name) for name in _USERS]
    common = {"pathname": "/{vhost}", "protocolVersion": "0-9-1", "security": security}
    variables = {
        "host": {"default": "localhost", "description": "Where RabbitMQ is."},
        "vhost": {"default": "payments", "description": "Its virtual host."},
    }
    ports = {
        "amqps": (5671, "RabbitMQ over TLS, one user per role."),
        "amqp": (5672, "RabbitMQ in plain text: on one machine, for development."),
    }
    return {
        protocol: {
            "host": f"{{host}}:{port}",
            "protocol": protocol,
            "description": description,
            "variables": variables,
            **common,
        }
        for protocol, (port, description) in ports.items()
    }


def _operations() -> Part:
    found: Part = {}
    for command in CommandType:
        text = asyncapi_descriptions.COMMANDS[command]
        answers = (envelope.reply_type(command.value), envelope.FAULT_TYPE)
        operation = _operation("receive", command.value, text.title, text.description, tag="commands")
        found[text.operation] = operation | {
            "security": [ref("components/securitySchemes", "payment-bridge")],
            "bindings": {"amqp": {"ack": True, "timestamp": True, "bindingVersion": BINDING_VERSION}},
            "reply": {
                "address": {
                    "location": "$message.header#/reply_to",
                    "description": "The command's `reply_to`; without it there is no answer.",
                },
                "channel": ref("channels", "replies"),
                "messages": [ref("channels/replies/messages", name) for name in answers],
            },
        }
    for key in EventKey:
        name = f"publish{event_schema(key)}"
        found[name] = _sending(
            key.value,
            key.value.replace(".", " ").capitalize(),
            asyncapi_descriptions.EVENTS[key],
            "events",
            "payment-subscriber",
        )
    for command in CommandType:
        name = asyncapi_descriptions.COMMANDS[command].operation
        name = name[0].upper() + name[1:]
        found[f"retry{name}"] = _sending(
            f"{command.value}.retry",
            f"Delay {command.value}",
            "After a passing failure of a fire-and-forget command. It comes back by itself.",
            "trouble",
            "payment-service",
        )
        found[f"park{name}"] = _sending(
            f"{command.value}.dead-letter",
            f"Park {command.value}",
            "It stays until an operator replays or drops it (`payment-service dead-letters`).",
            "trouble",
            "payment-operator",
        )
    return found


def _sending(channel: str, title: str, description: str, tag: str, reader: str) -> Part:
    """`reader`: the RabbitMQ user who consumes what we send."""
    amqp = {"deliveryMode": 2, "mandatory": tag != "events", "timestamp": True, "bindingVersion": BINDING_VERSION}
    return _operation("send", channel, title, description, tag=tag) | {
        "security": [ref("components/securitySchemes", reader)],
        "bindings": {"amqp": amqp},
    }


def _operation(action: str, channel: str, title: str, description: str, *, tag: str) -> Part:
    message = "dead-letter" if channel.endswith(".dead-letter") else channel
    return {
        "action": action,
        "channel": ref("channels", channel),
        "title": title,
        "description": description,
        "tags": [{"name": tag}],
        "messages": [ref(f"channels/{channel}/messages", message)],
    }
