"""More creates than Stripe allows: in time, in order, and nothing is done for who has left."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from tests.integration.service.messages.rig import CREATE, MARK, STATUS, VERIFY, Message, Rig, a_create, running, until

PER_SECOND = 20
PATIENT = 60.0
"""How long a loaded machine may take for what takes seconds."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(amqp_url: str, migrated_url: str) -> AsyncIterator[Rig]:
    changes = {"stripe_requests_per_second": PER_SECOND, "stripe_global_requests_per_second": 4 * PER_SECOND}
    async with running(amqp_url, migrated_url, **changes) as rig:
        limits = {"default": PER_SECOND + 5, "global": 5 * PER_SECOND}
        await rig.sandbox.control("config", {"rate_limits": limits, "latency_ms": 100})
        yield rig


async def send_all(rig: Rig, commands: list[dict[str, Any]], *, seconds: float) -> dict[str, dict[str, Any]]:
    """Sent by callers who wait for so long: mark of the reply -> command."""
    patience = {"timestamp": int(time.time()), "expiration": str(int(seconds * 1000))}
    marks = await asyncio.gather(*(rig.ask_later(CREATE, command, **patience) for command in commands))
    return dict(zip(marks, commands, strict=True))


async def ends(rig: Rig, sent: dict[str, dict[str, Any]]) -> dict[str, Message]:
    """The reply to each, or its dead letter if its time was over before anybody looked at it."""

    async def found() -> dict[str, Message] | None:
        replies = {str(each.properties.correlation_id): each for each in rig.replies}
        letters = {str(each.headers.get(MARK)): each for each in await rig.dead_letters(CREATE)}
        ended = letters | replies
        return {mark: ended[mark] for mark in sent} if ended.keys() >= sent.keys() else None

    ended: dict[str, Message] = await until(found, PATIENT)
    return ended


def is_served(end: Message) -> bool:
    return end.type == "checkout.create.reply"


def is_refused(end: Message) -> bool:
    return end.type == "fault" and end.document["code"] == "SERVICE_UNAVAILABLE"


async def served_coming_back(rig: Rig, command: dict[str, Any], retry_after: int) -> Message:
    """What a client gets that comes back after `retryAfterSeconds`, however slow the machine is."""
    async with asyncio.timeout(PATIENT):
        while True:
            await asyncio.sleep(retry_after)
            [end] = (await ends(rig, await send_all(rig, [command], seconds=10))).values()
            if not is_refused(end):
                return end
            retry_after = end.document["retryAfterSeconds"]


async def test_a_rush_is_served_in_time_or_told_when_to_come_back_and_nothing_else_waits(rig: Rig) -> None:
    known_command = a_create()
    known = await rig.ask(CREATE, known_command)
    session = {"sessionId": known.document["sessionId"]}
    sent = await send_all(rig, [a_create() for _ in range(300)], seconds=8)
    # While they queue, what needs no call to create is answered.
    status = await rig.ask(STATUS, {"transactionId": session["sessionId"]})
    repeat = await rig.ask(CREATE, known_command)
    verified = await rig.ask(VERIFY, session)
    assert status.document["paymentStatus"] == verified.document["paymentStatus"] == "PENDING"
    assert repeat.document["sessionId"] == session["sessionId"]

    ended = await ends(rig, sent)
    served = {mark for mark, end in ended.items() if is_served(end)}
    refused = [mark for mark, end in ended.items() if is_refused(end)]
    assert served
    assert refused
    assert all(1 <= ended[mark].document["retryAfterSeconds"] <= 30 for mark in refused)
    # Only those that got a permit have a row and a call.
    bookings = [command["bookingId"] for command in sent.values()]
    found = await rig.sql("SELECT booking_id FROM payments WHERE booking_id = ANY($1)", bookings)
    rows = {row["booking_id"] for row in found}
    assert {sent[mark]["bookingId"] for mark in served} <= rows
    assert not {sent[mark]["bookingId"] for mark in refused} & rows
    creates = (await rig.sandbox.control("stats"))["calls"]["checkout.sessions.create"]
    assert creates["calls"] == len(rows) + 1

    back = [(sent[mark], ended[mark].document["retryAfterSeconds"]) for mark in refused[:20]]
    again = await asyncio.gather(*(served_coming_back(rig, *each) for each in back))
    assert {end.type for end in again} == {"checkout.create.reply"}
    for command, _ in back:
        assert len(await rig.sessions_of(command["bookingId"])) == 1
    reservations = {row["booking_id"] for row in await rig.sql("SELECT booking_id FROM places WHERE due_until > now()")}
    assert not reservations & {command["bookingId"] for command, _ in back}
