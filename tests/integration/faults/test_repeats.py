"""Callers who hang up, repeat, and change their mind; copies of one command at two services; cut connections."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio

from tests.integration.faults.stack import breakable, bridge
from tests.integration.service.messages.rig import CREATE, VERIFY, Rig, a_create, around, serving, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(amqp_url: str, migrated_url: str) -> AsyncIterator[Rig]:
    """Without the service: each test has its own."""
    async with around(amqp_url, migrated_url) as rig:
        yield rig


async def booked(rig: Rig, commands: list[dict[str, Any]]) -> tuple[dict[int, int], dict[int, int]]:
    """How many payments and how many sessions each command's booking has."""
    bookings = [command["bookingId"] for command in commands]
    rows = await rig.sql("SELECT booking_id FROM payments WHERE booking_id = ANY($1)", bookings)
    sessions = [int(session["metadata"]["bookingId"]) for session in await rig.sandbox.control("ledger")]
    payments = [row["booking_id"] for row in rows]
    return {each: payments.count(each) for each in bookings}, {each: sessions.count(each) for each in bookings}


def once(commands: list[dict[str, Any]]) -> tuple[dict[int, int], dict[int, int]]:
    each = {command["bookingId"]: 1 for command in commands}
    return each, each


async def test_a_caller_that_hangs_up_and_repeats_gets_the_same_session(
    rig: Rig, amqp_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """F1 Client drops the socket mid-request: work goes on; retry with same key gets same answer."""
    generator = random.Random(1)  # noqa: S311
    commands = [a_create() for _ in range(40)]

    at_once = asyncio.Semaphore(20)  # more would keep each other from being read in time, in one process

    async def impatient(command: dict[str, Any]) -> tuple[int, Any]:
        async with at_once:
            return await hangs_up_and_repeats(command)

    async def hangs_up_and_repeats(command: dict[str, Any]) -> tuple[int, Any]:
        key, hung_up = str(uuid4()), 0
        while True:
            try:
                answer = await client.create(command, key=key, timeout=httpx.Timeout(generator.uniform(0.005, 0.5)))
            except httpx.TimeoutException:
                hung_up += 1
            else:
                break
            if hung_up == 3:
                answer = await client.create(command, key=key)
                break
        assert answer.status_code == 200, answer.text
        repeated = await client.create(command, key=key)
        assert repeated.json() == answer.json()
        return hung_up, answer.json()["sessionId"]

    await rig.sandbox.control("config", {"latency_ms": 200})
    async with serving(rig.settings), bridge(amqp_url) as client:
        outcomes = await asyncio.gather(*map(impatient, commands))
        await until(lambda: client.requester.in_flight == 0)
    await rig.sandbox.control("config", {"latency_ms": 0})
    assert sum(hung_up for hung_up, _ in outcomes) > len(commands) / 2
    assert len({session for _, session in outcomes}) == len(commands)
    assert await booked(rig, commands) == once(commands)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


async def test_fifty_at_once_under_one_key_get_one_session(rig: Rig, amqp_url: str) -> None:
    """F2 Same key, 50 parallel: one Stripe call; others wait or 409 in progress.

    Who has read the payment just before its session was stored repeats the call, and Stripe answers from its key.
    """
    commands = [a_create() for _ in range(4)]
    keys = {command["bookingId"]: str(uuid4()) for command in commands}
    executed_before = await executed(rig)
    async with serving(rig.settings), bridge(amqp_url) as one, bridge(amqp_url) as other:
        bridges = itertools.cycle((one, other))
        asked = [command for command in commands for _ in range(50)]
        answers = await asyncio.gather(
            *(next(bridges).create(command, key=keys[command["bookingId"]]) for command in asked)
        )
    assert {answer.status_code for answer in answers} <= {200, 409}
    sessions = {(a.json()["bookingId"], a.json()["sessionId"]) for a in answers if a.status_code == 200}
    assert len(sessions) == len(commands)
    assert await booked(rig, commands) == once(commands)
    assert await executed(rig) - executed_before == len(commands)


async def executed(rig: Rig) -> int:
    """Calls that Stripe has executed, without those that it recognised by their idempotency key."""
    return sum(each["calls"] - each["replays"] for each in await rig.stripe_counts())


async def test_another_body_under_a_key_is_refused_without_a_call(rig: Rig, amqp_url: str) -> None:
    """F3 Same key, other body: 422, no Stripe call."""
    pairs = [(a_create(), str(uuid4())) for _ in range(25)]
    async with serving(rig.settings), bridge(amqp_url) as client:
        answers = await asyncio.gather(*(client.create(command, key=key) for command, key in pairs))
        assert {answer.status_code for answer in answers} == {200}
        async with rig.nothing_done():
            others = await asyncio.gather(*(client.create({**command, "amount": 5}, key=key) for command, key in pairs))
    assert {(answer.status_code, answer.json()["paymentStatus"]) for answer in others} == {
        (422, "IDEMPOTENCY_KEY_REUSED")
    }


async def test_two_copies_at_two_services_are_one_payment(rig: Rig) -> None:
    """F15 Two copies to two instances at once: one winner, the other waits and reads."""
    commands = [(a_create(), str(uuid4())) for _ in range(50)]
    await rig.sandbox.control("config", {"latency_ms": 100})
    async with serving(rig.settings), serving(rig.settings):

        async def both() -> bool:
            return await rig.consumers(CREATE) == 2

        await until(both)
        copies = [(command, message_id) for command, message_id in commands for _ in range(2)]
        replies = await asyncio.gather(*(rig.ask(CREATE, command, message_id=each) for command, each in copies))
        await rig.sandbox.control("config", {"latency_ms": 0})
    assert {reply.type for reply in replies} == {"checkout.create.reply"}
    assert [reply.document for reply in replies[::2]] == [reply.document for reply in replies[1::2]]
    assert await booked(rig, [command for command, _ in commands]) == once([command for command, _ in commands])


async def test_a_connection_that_is_cut_before_the_acknowledgement_costs_nothing(rig: Rig) -> None:
    """F14 Redelivery after lost ack: same result, same event id."""
    commands: list[dict[str, Any]] = []
    await rig.sandbox.control("config", {"latency_ms": 50})
    async with breakable(rig.settings, "amqp_url") as (network, settings), serving(settings):
        for _ in range(2):
            await until(lambda: rig.consumers(CREATE))
            begun = [a_create() for _ in range(50)]
            with rig.replies_since() as replies:
                marks = [await rig.ask_later(CREATE, command) for command in begun]
                await until(lambda: len(replies()) >= 10)
                network.reset()
                for mark in marks:
                    assert (await rig.reply_to(mark)).type == "checkout.create.reply"
            commands += begun
        await rig.queue_empty(CREATE)
    await rig.sandbox.control("config", {"latency_ms": 0})
    assert await booked(rig, commands) == once(commands)
    for command in commands:
        [payment] = await rig.payments_of(command["bookingId"])
        events = await rig.told(payment["id"], events=1)
        assert len({(event.properties.message_id, event.body) for event in events}) == 1
    assert await rig.dead_letters(CREATE) == []


async def test_a_verify_that_overtakes_its_create_makes_nothing_up(rig: Rig) -> None:
    """F20 Verify overtakes create: "not found", no row invented, and right as soon as the create is stored."""
    command = a_create()
    await rig.sandbox.control("config", {"latency_ms": 500})
    async with serving(rig.settings):
        create = asyncio.create_task(rig.ask(CREATE, command))
        [payment] = await until(lambda: rig.payments_of(command["bookingId"]))
        async with rig.database.acquire() as connection, connection.transaction():
            await connection.execute("SELECT FROM payments WHERE id = $1 FOR UPDATE", payment["id"])
            [session] = await until(lambda: rig.sessions_of(command["bookingId"]))
            await rig.sandbox.control("config", {"latency_ms": 0})
            async with rig.nothing_done():
                fault = await rig.ask(VERIFY, {"sessionId": session["id"]})
            assert fault.document["code"] == "NOT_FOUND"
        assert (await create).document["sessionId"] == session["id"]
        assert (await rig.verified(session["id"]))["paymentStatus"] == "PENDING"
    assert await booked(rig, [command]) == once([command])
