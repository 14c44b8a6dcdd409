"""Whose commands are executed, and by whose name everything goes out (S7, S8)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiormq
import pytest
import pytest_asyncio

from bridge.errors import BridgeError
from tests.integration.bridge.conftest import until as until_true
from tests.integration.service.messages.rig import CREATE, MARK, STATUS, Rig, a_create, running, until
from tests.kit.bridge import an_rpc_client
from tests.kit.brokers import RoleUrl
from tools.devstack.rabbitmq_files import BRIDGE, SERVICE
from tools.devstack.rabbitmq_server import Node

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


async def test_the_bridges_commands_are_executed_and_events_carry_the_name_of_the_service(
    rig: Rig, role_url: RoleUrl
) -> None:
    """S8: a subscriber may look at `user_id`, and only the service may write events at all."""
    async with an_rpc_client(role_url(BRIDGE), timeout_seconds=10, max_in_flight=5) as rpc_client:
        await until_true(lambda: rpc_client.ready)
        content = b'{"transactionId":"cs_test_unknown1"}'
        with pytest.raises(BridgeError) as caught:
            await rpc_client.call(STATUS, content, {})
    assert caught.value.refusal.code == "NOT_FOUND"
    async with sending_as(rig, role_url(BRIDGE)):
        command = a_create()
        await rig.send(CREATE, command, user_id=BRIDGE)
        [payment] = await until(lambda: _sessions(rig, command["bookingId"]))
    [event] = await rig.told(payment["id"], events=1)
    assert event.properties.user_id == SERVICE


@pytest.mark.parametrize("properties", [{}, {"app_id": BRIDGE, "headers": {"x-sender": BRIDGE, "x-caller": BRIDGE}}])
async def test_a_command_without_its_senders_name_is_dead_lettered_and_not_executed(
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


async def test_a_command_of_a_user_who_is_not_named_is_dead_lettered_with_that_name(
    rig: Rig, role_url: RoleUrl
) -> None:
    """RabbitMQ lets the operator write commands; COMMAND_USERS does not name it."""
    async with rig.nothing_done(), sending_as(rig, role_url(OPERATOR)):
        letter = await rig.parked(CREATE, await rig.send(CREATE, a_create(), user_id=OPERATOR))
    assert (letter.headers["x-reason"], letter.headers["x-reason-text"]) == NOT_ALLOWED
    assert letter.headers["x-sender"] == OPERATOR


async def test_what_is_tried_again_says_who_sent_it_and_is_executed(rig: Rig, role_url: RoleUrl) -> None:
    """It comes back by the service's name, which the broker gives to nobody else."""
    async with rig.stripe_with(error_rate=1), sending_as(rig, role_url(BRIDGE)):
        taken = await rig.retried(CREATE, await rig.send(CREATE, a_create(), user_id=BRIDGE))
        assert (taken.properties.user_id, taken.headers["x-sender"]) == (SERVICE, BRIDGE)
        left = a_create()
        calls = await rig.stripe_calls()
        await rig.send(CREATE, left, user_id=BRIDGE)
        await until(lambda: _more_calls_than(rig, calls))
    await until(lambda: _sessions(rig, left["bookingId"]))


async def _more_calls_than(rig: Rig, before: int) -> bool:
    return await rig.stripe_calls() > before


async def _sessions(rig: Rig, booking_id: int) -> list[Any]:
    return [each for each in await rig.payments_of(booking_id) if each["session_id"]]
