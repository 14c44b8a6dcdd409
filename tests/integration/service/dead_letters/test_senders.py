"""A command that an operator sends again goes out by the operator's name (S7)."""

from deploy.local.rabbitmq import Node
from deploy.local.rabbitmq_files import BRIDGE
from tests.integration.service.dead_letters.conftest import Desk


async def test_a_replayed_command_carries_the_operators_user_and_not_its_first_senders(
    rabbitmq_node: Node,  # noqa: ARG001 - the users are those of our own node
    desk: Desk,
) -> None:
    await desk.park(headers={"x-reason": "unauthorized", "x-sender": BRIDGE, "x-request-id": "r-1"})
    shown = await desk.says("show", "m-1")
    assert f"sender          {BRIDGE}" in shown.out.splitlines()
    assert (await desk.says("replay", "m-1")).status == 0
    [sent] = await desk.sent()
    assert sent.header.properties.user_id == "payment-operator"
    headers = {name: value for name, value in sent.header.properties.headers.items() if name != "x-delivery-count"}
    assert headers == {"x-request-id": "r-1"}  # the other one is RabbitMQ's
