"""The channels: where messages are published and which queues receive them, from `contracts.topology`.

AsyncAPI's AMQP binding has either an exchange or a queue; the other one is an extension (`x-queue`, `x-exchange`).
"""

from typing import Any, Final

from contracts import envelope, topology
from contracts.commands import CommandType
from contracts.events import EventKey
from tools.documents import asyncapi_descriptions

Part = dict[str, Any]

BINDING_VERSION: Final = "0.3.0"


def ref(place: str, name: str) -> Part:
    """A reference within the document."""
    return {"$ref": f"#/{place}/{name}"}


def channels() -> Part:
    """The channels by name. A command's channel is where it is published; its queue is an extension of the binding."""
    found: Part = {}
    for command in CommandType:
        name = command.value
        found[name] = _channel(
            name,
            asyncapi_descriptions.COMMANDS[command].title,
            f"Published with the type as routing key. The queue `{topology.COMMAND_QUEUES[command].name}` takes it.",
            [name],
            _routing_key(topology.COMMANDS) | {"x-queue": _queue(topology.COMMAND_QUEUES[command])},
        )
    answers = [*(envelope.reply_type(command.value) for command in CommandType), envelope.FAULT_TYPE]
    found["replies"] = {
        "address": None,
        "title": "Answers",
        "description": "The queue that the command's `reply_to` names, through the default exchange. Not persistent: "
        "an answer whose receiver has left is dropped.",
        "messages": {name: ref("components/messages", name) for name in answers},
    }
    for key in EventKey:
        found[key.value] = _channel(
            key.value,
            key.value.replace(".", " ").capitalize(),
            asyncapi_descriptions.EVENTS[key],
            [key.value],
            _routing_key(topology.EVENTS),
        )
    for command in CommandType:
        found |= _retry_and_dead_letter(command)
    return found


def _retry_and_dead_letter(command: CommandType) -> Part:
    queue, delays = topology.DEAD_LETTER_QUEUES[command], topology.DELAY_QUEUES[command]
    times = {each.name.rpartition(".")[2]: each.arguments["x-message-ttl"] for each in delays}
    retry, dead_letter = f"{command.value}.retry", f"{command.value}.dead-letter"
    delayed = _channel(
        f"{topology.COMMAND_QUEUES[command].name}.retry.{{delay}}",
        f"Delayed {command.value}",
        "Nobody consumes these queues: what lies there for its time goes back to the command queue.",
        [retry],
        _is_queue(delays[0]) | {"x-message-ttl": times},
    )
    delayed["bindings"]["amqp"]["queue"]["name"] = delayed["address"]
    del delayed["bindings"]["amqp"]["queue"]["x-arguments"]["x-message-ttl"]
    delayed["parameters"] = {"delay": {"enum": list(times), "description": "How long it waits."}}
    dead = _channel(
        queue.name,
        f"Dead letters of {command.value}",
        f"Commands that could not be done, bound to `{topology.DEAD_LETTERS.name}` by the name of their queue.",
        ["dead-letter"],
        _is_queue(queue) | {"x-exchange": _exchange(topology.DEAD_LETTERS), "x-routing-key": queue.routing_key},
    )
    return {retry: delayed, dead_letter: dead}


def _channel(address: str, title: str, description: str, messages: list[str], binding: Part) -> Part:
    return {
        "address": address,
        "title": title,
        "description": description,
        "messages": {name: ref("components/messages", name) for name in messages},
        "bindings": {"amqp": binding | {"bindingVersion": BINDING_VERSION}},
    }


def _routing_key(exchange: topology.Exchange) -> Part:
    return {"is": "routingKey", "exchange": _exchange(exchange)}


def _exchange(exchange: topology.Exchange) -> Part:
    return {"name": exchange.name, "type": exchange.type, "durable": True, "autoDelete": False}


def _is_queue(queue: topology.Queue) -> Part:
    return {"is": "queue", "queue": _queue(queue)}


def _queue(queue: topology.Queue) -> Part:
    return {
        "name": queue.name,
        "durable": True,
        "exclusive": False,
        "autoDelete": False,
        "x-arguments": dict(queue.arguments),
    }
