"""Exchanges, queues, bindings and their arguments. The service declares them; others may rely on them."""

from dataclasses import dataclass, field
from typing import Final, Literal

from contracts.commands import CommandType

DELIVERY_LIMIT: Final = 20
"""Deliveries of a command before RabbitMQ dead-letters it: a backstop against a message that kills its consumer."""

RETRY_DELAYS_SECONDS: Final = (1, 5, 30, 120, 600)
"""A fire-and-forget command that fails for a passing reason is retried after these, and is then dead-lettered."""


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A durable exchange."""

    name: str
    type: Literal["direct", "topic"]


@dataclass(frozen=True, kw_only=True)
class Queue:
    """A durable quorum queue, bound to `exchange` by `routing_key`; without an exchange it is published to by name."""

    name: str
    exchange: Exchange | None
    routing_key: str
    arguments: dict[str, str | int] = field(default_factory=dict)


COMMANDS: Final = Exchange(name="payments.commands", type="direct")
EVENTS: Final = Exchange(name="payments.events", type="topic")
DEAD_LETTERS: Final = Exchange(name="payments.dead-letter", type="direct")


# Without these two RabbitMQ may lose a message on its way to another queue.
_AT_LEAST_ONCE: Final = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}


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
            **_AT_LEAST_ONCE,
        },
    )


def _delay_queue(queue: Queue, seconds: int) -> Queue:
    """It has no consumer: after its time a message goes back to the command queue."""
    name = f"{queue.name}.retry.{seconds}s"
    return Queue(
        name=name,
        exchange=None,
        routing_key=name,
        arguments={
            "x-queue-type": "quorum",
            "x-message-ttl": seconds * 1000,
            "x-dead-letter-exchange": COMMANDS.name,
            "x-dead-letter-routing-key": queue.routing_key,
            **_AT_LEAST_ONCE,
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
DELAY_QUEUES: Final = {
    command: tuple(_delay_queue(queue, seconds) for seconds in RETRY_DELAYS_SECONDS)
    for command, queue in COMMAND_QUEUES.items()
}

EXCHANGES: Final = (COMMANDS, EVENTS, DEAD_LETTERS)
QUEUES: Final = (
    *COMMAND_QUEUES.values(),
    *DEAD_LETTER_QUEUES.values(),
    *(queue for queues in DELAY_QUEUES.values() for queue in queues),
)
