"""Each user of `deploy/rabbitmq` tries everything on a real broker, and may do what its work needs (S4, S5, S8)."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiormq
import pytest
from aiormq.exceptions import (
    AuthenticationError,
    ChannelAccessRefused,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    ProbableAuthenticationError,
)
from pamqp.commands import Basic

from contracts import envelope, topology
from tests.kit.brokers import RIGHTS
from tools.devstack import rabbitmq_files
from tools.devstack.rabbitmq_files import BRIDGE, CONSOLE, SERVICE
from tools.devstack.rabbitmq_server import Node

SUBSCRIBER, OPERATOR = "payment-subscriber", "payment-operator"
ADMINISTRATOR: Final = rabbitmq_files.USER
ROLES: Final = (BRIDGE, SERVICE, SUBSCRIBER, OPERATOR, CONSOLE)

OWN, STRANGER, STRANGERS = f"{SUBSCRIBER}.orders", "stranger", "strangers"
COMMANDS, EVENTS, DEAD_LETTERS = topology.COMMANDS.name, topology.EVENTS.name, topology.DEAD_LETTERS.name
COMMAND_QUEUES = [queue.name for queue in topology.COMMAND_QUEUES.values()]
DEAD_LETTER_QUEUES = [queue.name for queue in topology.DEAD_LETTER_QUEUES.values()]
DELAY_QUEUES = [queue.name for queues in topology.DELAY_QUEUES.values() for queue in queues]

ARGUMENTS: Final[dict[str, Any]] = {queue.name: {**queue.arguments} for queue in topology.QUEUES} | {
    name: {"x-queue-type": "quorum"} for name in (OWN, STRANGER, "payments.reply.x")
}
TYPES: Final = {exchange.name: exchange.type for exchange in topology.EXCHANGES} | {STRANGERS: "topic"}
OURS: Final = [queue.name for queue in topology.QUEUES]

Action = Callable[[Any], Awaitable[Any]]


def declare_queue(name: str) -> Action:
    return lambda channel: channel.queue_declare(name, durable=True, arguments=ARGUMENTS[name])


def declare_exchange(name: str) -> Action:
    return lambda channel: channel.exchange_declare(name, exchange_type=TYPES[name], durable=True)


def consume(name: str) -> Action:
    async def ignore(_: object) -> None: ...

    return lambda channel: channel.basic_consume(name, ignore)


def publish(exchange: str, key: str, **properties: Any) -> Action:
    sent = Basic.Properties(**properties)
    return lambda channel: channel.basic_publish(b"{}", exchange=exchange, routing_key=key, properties=sent)


def actions() -> dict[tuple[str, ...], Action]:
    """Everything to try, by its name; what removes something comes last."""
    table: dict[tuple[str, ...], Action] = {}
    for queue in ARGUMENTS:
        table["declare", queue] = declare_queue(queue)
        table["get", queue] = lambda channel, queue=queue: channel.basic_get(queue)
        table["consume", queue] = consume(queue)
        table["publish", "", queue] = publish("", queue)
        for exchange in TYPES:
            table["bind", queue, exchange] = lambda channel, queue=queue, exchange=exchange: channel.queue_bind(
                queue, exchange, f"{queue}.x"
            )
    for exchange in TYPES:
        table["declare", exchange] = declare_exchange(exchange)
        for key in (EVENTS, "payment.completed", "checkout.create", *COMMAND_QUEUES):
            table["publish", exchange, key] = publish(exchange, key)
        for other in TYPES:
            table["bind", exchange, other] = lambda channel, exchange=exchange, other=other: channel.exchange_bind(
                exchange, other, "x"
            )
    table["publish", "amq.topic", "x"] = publish("amq.topic", "x")
    for queue in ARGUMENTS:
        table["purge", queue] = lambda channel, queue=queue: channel.queue_purge(queue)
        table["delete", queue] = lambda channel, queue=queue: channel.queue_delete(queue)
    for exchange in TYPES:
        table["delete", exchange] = lambda channel, exchange=exchange: channel.exchange_delete(exchange)
    return table


ACTIONS: Final = actions()


def every(*pattern: str | list[str]) -> set[tuple[str, ...]]:
    """The actions whose words match the pattern, word by word."""
    return {
        name
        for name in ACTIONS
        if len(name) == len(pattern)
        and all(
            word == each if isinstance(each, str) else word in each for word, each in zip(name, pattern, strict=True)
        )
    }


ANY: Final = [word for name in ACTIONS for word in name]
ALLOWED: Final = {
    BRIDGE: every("publish", COMMANDS, ANY),
    SERVICE: {
        *every("publish", ["", COMMANDS, EVENTS, DEAD_LETTERS], ANY),  # the default exchange: replies and delays
        *every("declare", [*TYPES, *OURS]) - every("declare", STRANGERS),
        *every("delete", [*TYPES, *OURS]) - every("delete", STRANGERS),  # RabbitMQ has one right for both
        *every(["get", "consume", "purge"], [*COMMAND_QUEUES, *DELAY_QUEUES]),
        *every("bind", [*COMMAND_QUEUES, *DEAD_LETTER_QUEUES, *TYPES], [COMMANDS, DEAD_LETTERS]),
    }
    - every("bind", STRANGERS, ANY),
    SUBSCRIBER: every(["declare", "delete", "get", "consume", "purge"], OWN) | every("bind", OWN, EVENTS),
    OPERATOR: every("publish", COMMANDS, ANY) | every(["get", "consume", "purge"], DEAD_LETTER_QUEUES),
    CONSOLE: every("publish", COMMANDS, ANY) | every(["get", "consume", "purge"], DEAD_LETTER_QUEUES),
}


@pytest.fixture
async def administrator(rabbitmq_node: Node) -> Any:
    async with await aiormq.connect(rabbitmq_node.url(RIGHTS)) as connection:
        yield connection


async def make_everything(connection: Any) -> None:
    channel = await connection.channel()
    for exchange in TYPES:
        await declare_exchange(exchange)(channel)
    for queue in ARGUMENTS:
        await declare_queue(queue)(channel)
    await channel.close()


async def allows(connection: Any, action: Action) -> bool:
    """Whether the action succeeds, on a channel of its own, because a refusal closes it."""
    channel = await connection.channel()
    try:
        await action(channel)
        await channel.close()
    except ChannelAccessRefused:
        return False
    return True


@pytest.mark.parametrize("role", ROLES)
async def test_each_user_may_do_what_its_work_needs_and_nothing_else(
    rabbitmq_node: Node, administrator: Any, role: str
) -> None:
    await make_everything(administrator)
    allowed = set()
    async with await aiormq.connect(rabbitmq_node.url(RIGHTS, user=role)) as connection:
        for name, action in ACTIONS.items():
            if await allows(connection, action):
                allowed.add(name)
    assert sorted(allowed - ALLOWED[role]) == []
    assert sorted(ALLOWED[role] - allowed) == []


@pytest.mark.parametrize("role", [*ROLES, ADMINISTRATOR])
async def test_nobody_can_send_in_the_name_of_another(rabbitmq_node: Node, administrator: Any, role: str) -> None:
    """S7: RabbitMQ compares the property `user_id` with the user of the connection."""
    await make_everything(administrator)
    exchange, key = ("", OWN) if role == SERVICE else (COMMANDS, "checkout.create")
    for other in {*ROLES, ADMINISTRATOR, "guest"} - {role}:
        async with await aiormq.connect(rabbitmq_node.url(RIGHTS, user=role)) as connection:
            refusals = (ChannelPreconditionFailed, ChannelAccessRefused)
            with pytest.raises(refusals if role == SUBSCRIBER else ChannelPreconditionFailed):
                await publish(exchange, key, user_id=other)(await connection.channel())


async def test_the_bridge_gets_its_replies_and_learns_no_names(rabbitmq_node: Node, administrator: Any) -> None:
    """Direct reply-to needs no right, and RabbitMQ answers alike for what exists and what does not."""
    await make_everything(administrator)
    async with await aiormq.connect(rabbitmq_node.url(RIGHTS, user=BRIDGE)) as connection:
        channel = await connection.channel()

        async def ignore(_: object) -> None: ...

        await channel.basic_consume(envelope.DIRECT_REPLY_TO, ignore, no_ack=True)
        await publish(COMMANDS, "checkout.create", reply_to=envelope.DIRECT_REPLY_TO)(channel)
        for missing in ("no-such-queue", "amq.gen-x"):
            with pytest.raises((ChannelAccessRefused, ChannelNotFoundEntity)):
                await consume(missing)(await connection.channel())


@pytest.mark.parametrize("credentials", ["guest:guest@", "", *(f"{role}:{role}@" for role in ROLES)])
async def test_no_password_is_known_beforehand(rabbitmq_node: Node, credentials: str) -> None:
    """S6."""
    with pytest.raises((AuthenticationError, ProbableAuthenticationError)):
        await aiormq.connect(f"amqp://{credentials}127.0.0.1:{rabbitmq_node.port}/{RIGHTS}")
