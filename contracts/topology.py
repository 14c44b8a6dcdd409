"""Exchanges, queues, bindings and their arguments, as data. The service declares them; others may rely on them."""

from dataclasses import dataclass, field
from typing import Final, Literal

from contracts.commands import CommandType

DELIVERY_LIMIT: Final = 20
"""Deliveries of one command before RabbitMQ itself parks it: a backstop against a message that kills its consumer."""


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A durable exchange."""

    name: str
    type: Literal["direct", "topic"]


@dataclass(frozen=True, kw_only=True)
class Queue:
    """A durable quorum queue, bound to `exchange` by `routing_key`."""

    name: str
    exchange: Exchange
    routing_key: str
    arguments: dict[str, str | int] = field(default_factory=dict)


COMMANDS: Final = Exchange(name="payments.commands", type="direct")
EVENTS: Final = Exchange(name="payments.events", type="topic")
DEAD_LETTERS: Final = Exchange(name="payments.dead-letter", type="direct")


def _command_queue(command: CommandType) -> Queue:
    name = f"payments.{command.value}"
    return Queue(
        name=name,
        exchange=COMMANDS,
        routing_key=command.value,
        arguments={
            "x-queue-type": "quorum",
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-dead-letter-exchange": DEAD_LETTERS.name,
            "x-dead-letter-routing-key": name,
            # Without these two RabbitMQ may lose a message on its way to the dead-letter queue.
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        },
    )


def _dead_letter_queue(queue: Queue) -> Queue:
    return Queue(
        name=f"{queue.name}.dead-letter",
        exchange=DEAD_LETTERS,
        routing_key=queue.name,
        arguments={"x-queue-type": "quorum"},
    )


COMMAND_QUEUES: Final = {command: _command_queue(command) for command in CommandType}
DEAD_LETTER_QUEUES: Final = {command: _dead_letter_queue(queue) for command, queue in COMMAND_QUEUES.items()}

EXCHANGES: Final = (COMMANDS, EVENTS, DEAD_LETTERS)
QUEUES: Final = (*COMMAND_QUEUES.values(), *DEAD_LETTER_QUEUES.values())
