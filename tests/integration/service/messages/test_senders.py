"""Whose commands are executed, and by whose name everything goes out (S7, S8)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiormq
import pytest
import pytest_asyncio
from aiormq.exceptions import ChannelPreconditionFailed

from bridge.errors import FaultError
from bridge.requester import Requester
from contracts import topology
from deploy.local.rabbitmq import Node
from deploy.local.rabbitmq_files import BRIDGE, SERVICE
from tests.conftest import RoleUrl
from tests.integration.bridge.conftest import until as until_true
from tests.integration.service.messages.raw import RawProperties
from tests.integration.service.messages.rig import CREATE, MARK, STATUS, Rig, a_create, running, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

OPERATOR = "payment-operator"
NOT_ALLOWED = ("unauthorized", "user_id is required, as one of COMMAND_USERS")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(
    rabbitmq_node: Node,  # noqa: ARG001 - the users are those of our own node
    amqp_url: str,
    role_url: RoleUrl,
    migrated_url: str,
) -> AsyncIterator[Rig]:
    """A service that executes the bridge's commands only. Its rig sends as somebody else."""
    async with running(amqp_url, migrated_url, service_url=role_url(SERVICE), command_users=BRIDGE) as rig:
        yield rig


@asynccontextmanager
async def sending_as(rig: Rig, url: str) -> AsyncIterator[Rig]:
    """The rig with a connection of another user's for what it sends."""
    mine = rig.channel
    async with await aiormq.connect(url) as connection:
        rig.channel = await connection.channel(publisher_confirms=True)
        try:
            yield rig
        finally:
            rig.channel = mine


async def test_the_bridges_commands_are_executed(rig: Rig, role_url: RoleUrl) -> None:
    async with Requester(amqp_url=role_url(BRIDGE), timeout_seconds=10, max_in_flight=5) as requester:
        await until_true(lambda: requester.ready)
        content = b'{"transactionId":"cs_test_unknown1"}'
        with pytest.raises(FaultError) as caught:
            await requester.call(STATUS, content, {})
    assert caught.value.fault.code == "NOT_FOUND"
    async with sending_as(rig, role_url(BRIDGE)):
        command = a_create()
        await rig.send(CREATE, command, user_id=BRIDGE)
        await until(lambda: _sessions(rig, command["bookingId"]))


@pytest.mark.parametrize("properties", [{}, {"app_id": BRIDGE, "headers": {"x-sender": BRIDGE, "x-caller": BRIDGE}}])
async def test_a_command_without_its_senders_name_is_parked_and_not_executed(
    rig: Rig, role_url: RoleUrl, properties: dict[str, Any]
) -> None:
    async with rig.nothing_done(), sending_as(rig, role_url(BRIDGE)):
        headers = {MARK: "anonymous", **properties.get("headers", {})}
        await rig.send(CREATE, a_create(), **{**properties, "headers": headers})
        letter = await rig.parked(CREATE, "anonymous")
    assert (letter.headers["x-reason"], letter.headers["x-reason-text"]) == NOT_ALLOWED
    assert "x-sender" not in letter.headers
    assert letter.properties.user_id == SERVICE
    rig._dead_letters[CREATE].clear()


async def test_a_command_of_a_user_who_is_not_named_is_parked_with_that_name(rig: Rig, role_url: RoleUrl) -> None:
    """RabbitMQ lets the operator write commands; this service was not told to execute them."""
    async with rig.nothing_done(), sending_as(rig, role_url(OPERATOR)):
        letter = await rig.parked(CREATE, await rig.send(CREATE, a_create(), user_id=OPERATOR))
    assert (letter.headers["x-reason"], letter.headers["x-reason-text"]) == NOT_ALLOWED
    assert letter.headers["x-sender"] == OPERATOR


async def test_a_command_in_the_bridges_name_by_somebody_else_does_not_even_arrive(rig: Rig, role_url: RoleUrl) -> None:
    async with rig.nothing_done():
        for user in (OPERATOR, SERVICE):
            async with sending_as(rig, role_url(user)):
                with pytest.raises(ChannelPreconditionFailed):
                    await rig.send(CREATE, a_create(), user_id=BRIDGE)
        await rig.queue_empty(CREATE)


async def test_what_is_tried_again_says_who_sent_it_and_is_executed(rig: Rig, role_url: RoleUrl) -> None:
    """It comes back by the service's name, which the broker gives to nobody else."""
    await rig.sandbox.control("config", {"error_rate": 1})
    async with sending_as(rig, role_url(BRIDGE)):
        mark = await rig.send(CREATE, a_create(), user_id=BRIDGE)

        async def delayed() -> list[Any]:
            return [each for each in await rig.delayed(CREATE, delay=0) if each.headers.get(MARK) == mark]

        [taken] = await until(delayed)
        assert (taken.properties.user_id, taken.headers["x-sender"]) == (SERVICE, BRIDGE)
        left = a_create()
        calls = await rig.stripe_calls()
        await rig.send(CREATE, left, user_id=BRIDGE)
        await until(lambda: _more_calls_than(rig, calls))
    await rig.sandbox.control("config", {"error_rate": 0})
    await until(lambda: _sessions(rig, left["bookingId"]))


async def _more_calls_than(rig: Rig, before: int) -> bool:
    return await rig.stripe_calls() > before


async def _sessions(rig: Rig, booking_id: int) -> list[Any]:
    return [each for each in await rig.payments_of(booking_id) if each["session_id"]]


async def test_events_carry_the_name_of_the_service_which_nobody_else_can_give_them(
    rig: Rig, role_url: RoleUrl
) -> None:
    """S8: a subscriber may look at `user_id`, and only the service may write events at all."""
    async with sending_as(rig, role_url(BRIDGE)):
        command = a_create()
        await rig.send(CREATE, command, user_id=BRIDGE)
        [payment] = await until(lambda: rig.payments_of(command["bookingId"]))
    [event] = await rig.told(payment["id"], events=1)
    assert event.properties.user_id == SERVICE


async def test_a_user_with_the_impersonators_tag_is_none_of_ours(rig: Rig) -> None:
    """The administrator of the node has no such tag either, and is held to its own name."""
    channel = await rig.connection.channel(publisher_confirms=True)
    with pytest.raises(ChannelPreconditionFailed):
        await channel.basic_publish(
            b"{}",
            exchange=topology.COMMANDS.name,
            routing_key=CREATE.value,
            properties=RawProperties(user_id=BRIDGE),
        )
