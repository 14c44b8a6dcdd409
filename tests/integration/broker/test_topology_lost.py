"""What somebody deletes at RabbitMQ under a running service is there again, or the health page names what is missing.

Each test has work done meanwhile that needs the missing part: nothing that was confirmed may be lost.
"""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

import aiormq
import pytest
import pytest_asyncio
from aiormq.exceptions import ChannelNotFoundEntity

from contracts import topology
from service.entrypoints.broker import Part, parts
from tests.integration.service.messages.rig import CREATE, MARK, Rig, a_create, around, serving, settings_of, until
from tests.kit import rabbitmqctl
from tools.devstack.rabbitmq_files import SERVICE
from tools.devstack.rabbitmq_server import Node

COMMANDS, EVENTS, DEAD_LETTERS = topology.COMMANDS, topology.EVENTS, topology.DEAD_LETTERS
COMMAND_QUEUES = [queue.name for queue in topology.COMMAND_QUEUES.values()]
DEAD_LETTER_QUEUES = [queue.name for queue in topology.DEAD_LETTER_QUEUES.values()]
RETRY_QUEUES = [queue.name for queues in topology.DELAY_QUEUES.values() for queue in queues]
ALL = list(parts())


@pytest.fixture(scope="module")
def vhost(worker: str) -> str:
    """Of this file alone."""
    return f"{worker}-lost"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(rabbitmq_node: Node, vhost: str, migrated_url: str) -> AsyncIterator[Rig]:
    """The running service, by its own user, which may declare just what is its own."""
    await rabbitmqctl.evaluate(rabbitmq_node.pid, rabbitmqctl.vhost_added(vhost))
    urls = rabbitmq_node.url(vhost), rabbitmq_node.url(vhost, user=SERVICE)
    async with around(urls[0], migrated_url, service_url=urls[1]) as rig, serving(rig.settings) as rig.service:
        yield rig


async def delete(channel: Any, name: str) -> None:
    """A part by its name."""
    kind, _, what = name.partition(" ")
    if kind == "exchange":
        await channel.exchange_delete(what)
    elif kind == "queue":
        await channel.queue_delete(what)
    else:
        [queue] = [each for each in topology.QUEUES if what.startswith(f"of {each.name} to ")]
        assert queue.exchange is not None
        await channel.queue_unbind(queue.name, queue.exchange.name, routing_key=queue.routing_key)


async def is_there(rig: Rig, part: Part) -> bool:
    """RabbitMQ is asked on a channel of its own, which it closes if there is no such part. It names no bindings."""
    if part.look is None:
        return True
    channel = await rig.connection.channel(publisher_confirms=False)
    try:
        await part.look(channel)
    except ChannelNotFoundEntity:
        return False
    await channel.close()
    return True


async def all_there(rig: Rig) -> None:
    for part in ALL:
        await until(lambda part=part: is_there(rig, part), every=0.05)


async def answered(rig: Rig) -> bool:
    """Whether a create is answered: RabbitMQ returns it while no queue is bound, and loses it with a deleted queue."""
    try:
        mark = await rig.ask_later(CREATE, a_create())
    except AssertionError:
        return False
    for _ in range(30):
        if any(reply.properties.correlation_id == mark for reply in rig.replies):
            return True
        await asyncio.sleep(0.1)
    return False


async def works(rig: Rig) -> None:
    """Commands are answered, bad ones are dead-lettered, failures wait for their retry, events are published."""
    await until(lambda: is_there(rig, ALL[0]), every=0.05)
    await until(lambda: answered(rig), every=0.05)
    bad = await rig.send(CREATE, b"{")
    async with rig.stripe_with(error_rate=1):
        failed = await rig.send(CREATE, a_create(), headers={"x-attempts": 2})
        await all_there(rig)
        await rig.parked(CREATE, bad)
        assert (await rig.retried(CREATE, failed, delay=2)).headers["x-attempts"] == 3
    await rig.all_sent()
    await until(rig.is_ready)
    assert [each.headers.get(MARK) for each in await rig.dead_letters(CREATE)].count(bad) == 1


def lost(names: list[str]) -> Callable[[Rig], Awaitable[None]]:
    async def lose(rig: Rig) -> None:
        channel = await rig.connection.channel(publisher_confirms=False)
        for name in names:
            await delete(channel, name)
        await channel.close()

    return lose


def bindings(exchange: topology.Exchange) -> list[str]:
    return [part.name for part in ALL if part.look is None and part.name.endswith(f" to {exchange.name}")]


LOST = {
    "the exchange of commands": [f"exchange {COMMANDS.name}"],
    "the exchange of events": [f"exchange {EVENTS.name}"],
    "the exchange of dead letters": [f"exchange {DEAD_LETTERS.name}"],
    "the command queues": [f"queue {name}" for name in COMMAND_QUEUES],
    "the dead-letter queues": [f"queue {name}" for name in DEAD_LETTER_QUEUES],
    "the retry queues": [f"queue {name}" for name in RETRY_QUEUES],
    "the bindings of commands": bindings(COMMANDS),
    "the bindings of dead letters": bindings(DEAD_LETTERS),
    "everything": [part.name for part in ALL if part.look is not None],
}


@pytest.mark.parametrize("what", LOST)
async def test_what_was_deleted_is_declared_again_and_what_needs_it_is_done(rig: Rig, what: str) -> None:
    """T3, T4 Exchange, queue or binding deleted: the service goes on without a restart."""
    await until(rig.is_ready)
    await lost(LOST[what])(rig)
    await works(rig)


async def test_an_event_is_published_to_an_exchange_that_is_as_it_should_be(rig: Rig) -> None:
    """T3 Exchange deleted and made again 2 s later with an event between: the event is sent then, commands go on."""
    queue = f"later-{uuid4()}"
    await rig.channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
    await rig.looking.exchange_delete(EVENTS.name)
    # Somebody's own, of another type: the service cannot mend it, says so, and publishes nothing into nowhere.
    await rig.looking.exchange_declare(EVENTS.name, exchange_type="fanout", durable=True)

    async def named() -> bool:
        page = (await rig.ready()).json()
        reason = page["components"]["broker"].get("details", {}).get("reason", "")
        return f"exchange {EVENTS.name}" in reason and "inequivalent arg 'type'" in reason

    await until(named)
    await rig.looking.exchange_delete(EVENTS.name)
    await until(rig.is_ready)
    await rig.channel.queue_bind(queue, EVENTS.name, "#")
    session = await rig.created()

    async def is_told() -> bool:  # after those that have waited for the exchange
        return session["sessionId"] in {each.document["data"]["transactionId"] for each in await taken(rig, queue)}

    await until(is_told)
    await rig.channel.queue_delete(queue)


async def taken(rig: Rig, queue: str) -> list[Any]:
    message = await rig.take(queue)
    return [] if message is None else [message]


async def test_a_right_that_is_taken_away_is_named_and_once_it_is_back_all_is_done(
    rig: Rig, rabbitmq_node: Node, vhost: str
) -> None:
    """T4 Rights revoked: not ready, with the broker's words; what came meanwhile is done when they are back."""
    no_rights = rabbitmqctl.rights_set(vhost, SERVICE, rabbitmqctl.NOBODYS)
    await rabbitmqctl.evaluate(rabbitmq_node.pid, no_rights)
    command = a_create()
    await rig.send(CREATE, command)
    await until(lambda: refused(rig))
    rights = rabbitmqctl.rights_set(vhost, SERVICE, rabbitmqctl.rights_of(SERVICE))
    await rabbitmqctl.evaluate(rabbitmq_node.pid, rights)
    [payment] = await until(lambda: rig.payments_of(command["bookingId"]))
    await works(rig)
    assert await rig.payments_of(command["bookingId"]) == [payment]


async def refused(rig: Rig) -> bool:
    broker = (await rig.ready()).json()["components"]["broker"]
    return broker["status"] == "DOWN" and "ACCESS_REFUSED" in broker.get("details", {}).get("reason", "")


async def test_a_virtual_host_that_is_deleted_and_made_again_is_served(
    rig: Rig, rabbitmq_node: Node, vhost: str
) -> None:
    """T4 Virtual host deleted: not ready; made again, empty, it is filled and served. Payments are in the database."""
    other = f"{vhost}-itself"
    await rabbitmqctl.evaluate(rabbitmq_node.pid, rabbitmqctl.vhost_added(other))
    settings = settings_of(rabbitmq_node.url(other, user=SERVICE), rig.database_url, rig.sandbox.url)
    async with serving(settings) as service:
        theirs = dataclasses.replace(rig, settings=settings, service=service)
        await until(theirs.is_ready)
        await rabbitmqctl.evaluate(rabbitmq_node.pid, rabbitmqctl.vhost_deleted(other))
        await until(lambda: unready(theirs))
        await rabbitmqctl.evaluate(rabbitmq_node.pid, rabbitmqctl.vhost_added(other))
        await until(theirs.is_ready)
        async with await aiormq.connect(rabbitmq_node.url(other)) as theirs.connection:
            theirs.channel = await theirs.connection.channel(publisher_confirms=True)
            command = a_create()
            await theirs.send(CREATE, command)
            await until(lambda: rig.payments_of(command["bookingId"]))
            await all_there(theirs)
    await rabbitmqctl.evaluate(rabbitmq_node.pid, rabbitmqctl.vhost_deleted(other))


async def unready(rig: Rig) -> bool:
    return not await rig.is_ready()
