"""Callers hang up, repeat, and change their mind; two services get copies of a command; connections are cut."""

import asyncio
import random
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.integration.faults.stack import breakable, bridge
from tests.integration.service.messages.rig import CREATE, PATIENT, VERIFY, Rig, a_create, serving, until


async def booked(rig: Rig, commands: list[dict[str, Any]]) -> tuple[dict[int, int], dict[int, int]]:
    """The numbers of payments and of sessions of each command's booking."""
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
    """F1 Client drops the socket: the work goes on, and a retry with the same key gets the same answer."""
    generator = random.Random(1)  # noqa: S311
    commands = [a_create() for _ in range(40)]

    at_once = asyncio.Semaphore(20)  # in one process, more would delay each other beyond the bounds

    async def hangs_up_and_repeats(command: dict[str, Any]) -> tuple[int, Any]:
        key, hung_up = str(uuid4()), 0
        async with at_once:
            for _ in range(3):
                try:
                    await client.create(command, key=key, timeout=httpx.Timeout(generator.uniform(0.005, 0.5)))
                    break
                except httpx.TimeoutException:
                    hung_up += 1
            answer, repeated = [await client.create(command, key=key) for _ in range(2)]
        assert answer.status_code == 200, answer.text
        assert repeated.json() == answer.json()
        return hung_up, answer.json()["sessionId"]

    async with rig.stripe_with(latency_ms=200), serving(rig.settings), bridge(amqp_url) as client:
        outcomes = await asyncio.gather(*map(hangs_up_and_repeats, commands))
        await until(lambda: client.rpc_client.in_flight == 0)
    assert sum(hung_up for hung_up, _ in outcomes) > len(commands) / 2
    assert len({session for _, session in outcomes}) == len(commands)
    assert await booked(rig, commands) == once(commands)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


async def test_two_copies_at_two_services_are_one_payment(rig: Rig) -> None:
    """F15 Two copies to two instances at once: one wins, the other waits for its result."""
    commands = [(a_create(), str(uuid4())) for _ in range(50)]
    async with rig.stripe_with(latency_ms=100), serving(rig.settings), serving(rig.settings):

        async def both() -> bool:
            return await rig.consumers(CREATE) == 2

        await until(both)
        copies = [(command, message_id) for command, message_id in commands for _ in range(2)]
        replies = await asyncio.gather(*(rig.served(CREATE, command, message_id=each) for command, each in copies))
    assert {reply.type for reply in replies} == {"checkout.create.reply"}
    assert [reply.document for reply in replies[::2]] == [reply.document for reply in replies[1::2]]
    assert await booked(rig, [command for command, _ in commands]) == once([command for command, _ in commands])


async def test_a_connection_that_is_cut_before_the_acknowledgement_costs_nothing(rig: Rig) -> None:
    """F14 Redelivery after a lost acknowledgement: same result, same event id."""
    commands: list[dict[str, Any]] = []
    async with (
        rig.stripe_with(latency_ms=50),
        breakable(rig.settings, "amqp_url") as (network, settings),
        serving(settings),
    ):
        for _ in range(2):
            await until(lambda: rig.consumers(CREATE))
            begun = [a_create() for _ in range(50)]
            with rig.replies_since() as replies:
                marks = [await rig.ask_later(CREATE, command, expiration=PATIENT) for command in begun]
                await until(lambda: len(replies()) >= 10)
                network.reset()
                for mark in marks:
                    assert (await rig.reply_to(mark)).type == "checkout.create.reply"
            commands += begun
        await rig.queue_empty(CREATE)
    assert await booked(rig, commands) == once(commands)
    for command in commands:
        [payment] = await rig.payments_of(command["bookingId"])
        events = await rig.told(payment["id"], events=1)
        assert len({(event.properties.message_id, event.body) for event in events}) == 1
    assert await rig.dead_letters(CREATE) == []


async def test_a_verify_that_overtakes_its_create_makes_nothing_up(rig: Rig) -> None:
    """F20 Verify overtakes create: NOT_FOUND, no row is made, and the right answer once the create is stored."""
    command = a_create()
    await rig.sandbox.control("config", {"latency_ms": 500})
    async with serving(rig.settings):
        create = asyncio.create_task(rig.ask(CREATE, command, expiration=PATIENT))
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
