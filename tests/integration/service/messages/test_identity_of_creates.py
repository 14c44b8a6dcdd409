"""What identifies a create and what it may replace, where two services with other settings read the same queue."""

import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.integration.service.messages.rig import CREATE, Message, Rig, a_create, running, serving, until
from tests.kit.brokers import RoleUrl

pytestmark = pytest.mark.asyncio(loop_scope="module")

TIMES = 10
"""Both services get some of so many commands, as RabbitMQ gives them in turn."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(amqp_url: str, role_url: RoleUrl, migrated_url: str) -> AsyncIterator[Rig]:
    """The old release and the new one, whose defaults are others: a rollout that stopped half-way."""
    urls = {"payment_success_url": "https://new.example/paid", "payment_cancel_url": "https://new.example/back"}
    newer: dict[str, Any] = {"payment_currency": "jpy", "payment_window_seconds": 60, **urls}
    async with (
        running(amqp_url, migrated_url, service_url=role_url("payment-service")) as rig,
        serving(rig.settings.model_copy(update=newer)),
    ):
        await until_both_read(rig)
        yield rig


async def until_both_read(rig: Rig) -> None:
    async def read() -> bool:
        return await rig.consumers(CREATE) == 2

    await until(read)


async def answers(rig: Rig, command: dict[str, Any], **sent: Any) -> list[Message]:
    return [await rig.ask(CREATE, command, **sent) for _ in range(TIMES)]


async def test_services_with_other_defaults_leave_each_others_checkouts_alone(rig: Rig) -> None:
    own = {"successUrl": "https://shop.example/mine", "cancelUrl": "https://new.example/mine"}
    whole = {"amount": 500}  # 449.97 JPY cannot be charged
    elsewhere = [{"successUrl": own["successUrl"]}, whole | {"cancelUrl": own["cancelUrl"]}]
    for members in ({}, whole, {"currency": "INR"}, *elsewhere):
        command, key = a_create(**members), {"idempotency-key": str(uuid4())}
        first: Message | None = None
        while first is None:  # the service that does not allow it says so, and begins nothing
            answer = await rig.ask(CREATE, command, headers=key)
            first = answer if answer.type == "checkout.create.reply" else None
        repeats = [*await answers(rig, command, headers=key), *await answers(rig, command)]
        assert [repeat.document for repeat in repeats] == [first.document] * len(repeats)
        [session] = await rig.sessions_of(command["bookingId"])
        assert (session["id"], session["status"]) == (first.document["sessionId"], "open")
        assert len(await rig.payments_of(command["bookingId"])) == 1


async def test_a_create_from_days_ago_does_not_replace_a_newer_checkout(rig: Rig) -> None:
    newer = await rig.created(currency="inr")
    booking, days_ago = newer["bookingId"], int(time.time()) - 3 * 86_400
    older = a_create(bookingId=booking, amount=100, currency="inr")
    mark = await rig.send(CREATE, older, timestamp=days_ago)
    letter = await rig.parked(CREATE, mark)
    assert (letter.headers["x-reason"], letter.headers["x-fault-code"]) == ("refused", "SUPERSEDED")
    assert letter.properties.timestamp is not None
    assert letter.properties.timestamp.timestamp() == days_ago
    refused = await rig.ask(CREATE, older, timestamp=int(time.time()) - 20)
    assert (refused.document["code"], refused.document["retryable"]) == ("SUPERSEDED", False)
    [session] = await rig.sessions_of(booking)
    assert (session["id"], session["status"]) == (newer["sessionId"], "open")
    replacing = await rig.created(bookingId=booking, amount=100, currency="inr")
    assert {each["id"]: each["status"] for each in await rig.sessions_of(booking)} == {
        newer["sessionId"]: "expired",
        replacing["sessionId"]: "open",
    }


async def test_a_create_that_waits_for_stripe_to_work_again_is_as_old_as_when_it_was_first_sent(rig: Rig) -> None:
    command = a_create(amount=100, currency="inr")
    sent_at = int(time.time()) - 60
    async with rig.stripe_with(error_rate=1):
        mark = await rig.send(CREATE, command, timestamp=sent_at)
        waiting = await rig.retried(CREATE, mark)
    assert waiting.properties.timestamp is not None
    assert waiting.properties.timestamp.timestamp() == sent_at
    [payment] = await rig.payments_of(command["bookingId"])
    assert payment["sent_at"].timestamp() == sent_at
