"""Callers who would rather wait for an outcome than come again, through broker, service, database and bridge."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from contracts import envelope
from service.adapters.postgres import OUTBOX_CHANNEL, Database, PostgresListener, PostgresStore
from tests.integration.service.messages.rig import VERIFY, Message, Rig, until
from tests.integration.service.ports.test_store import changed, fitting
from tests.kit.lifetimes import beside, closing

LONG = {envelope.WAIT_SECONDS: "60"}
"""Longer than any test: who is answered was not answered because the time was over."""
NO_HURRY = str(90_000)


@asynccontextmanager
async def waiting(rig: Rig, session: str, *, callers: int = 1, **changes: Any) -> AsyncIterator[list[str]]:
    """The marks of so many deferred verifies of a session."""
    assert rig.service is not None
    before = len(rig.service.long_poll)
    options = {"headers": LONG, "expiration": NO_HURRY} | changes
    yield [await rig.ask_later(VERIFY, {"sessionId": session}, **options) for _ in range(callers)]
    await until(lambda: rig.service is None or len(rig.service.long_poll) == before)


async def pending(rig: Rig, number: int) -> None:
    await until(lambda: rig.service is not None and len(rig.service.long_poll) == number)
    await rig.queue_empty(VERIFY)


def status(reply: Message) -> str:
    return str(reply.document["paymentStatus"])


async def test_a_verify_that_finds_the_payment_answers_all_who_wait(rig: Rig) -> None:
    session = (await rig.created())["sessionId"]
    async with waiting(rig, session, callers=3) as marks:
        await pending(rig, 3)
        await rig.sandbox.pay(session)
        assert (await rig.verified(session))["paymentStatus"] == "COMPLETED"
        for mark in marks:
            reply = await rig.reply_to(mark)
            assert status(reply) == "COMPLETED"
            assert (reply.type, reply.headers) == (
                "checkout.verify.reply",
                {"x-request-id": f"request-{mark}", "x-payment-status-source": "gateway", "x-wait-seconds": "60"},
            )


async def test_a_status_that_another_replica_wrote_is_notified(rig: Rig) -> None:
    session = (await rig.created())["sessionId"]
    notified: list[str] = []
    listener = PostgresListener(
        rig.database_url,
        on_notification={OUTBOX_CHANNEL: notified.append},
        on_reconnect=lambda: notified.append("missed"),
    )
    async with beside(listener.run()), closing(Database(rig.database_url)) as database:
        await until(lambda: notified == ["missed"])
        async with waiting(rig, session) as [mark]:
            await pending(rig, 1)
            other = PostgresStore(database)
            payment = await other.payment_of_session(session)
            assert payment is not None
            await changed(other, payment, fitting(payment))
            assert status(await rig.reply_to(mark)) == "COMPLETED"
        await until(lambda: str(payment.id) in notified)
        await rig.created()
        assert notified == ["missed", str(payment.id)]  # a change that is not final is not notified


@pytest.mark.parametrize(
    ("wait", "expiration", "heeded"),
    [("1", NO_HURRY, "1"), (1, NO_HURRY, "1"), ("60", "4500", "60"), ("soon", NO_HURRY, None)],
    ids=["text", "number", "until the sender leaves", "no time"],
)
async def test_after_its_time_a_pending_reply_is_the_last_known_status(
    rig: Rig, wait: object, expiration: str, heeded: str | None
) -> None:
    session = (await rig.created())["sessionId"]
    reply = await rig.ask(VERIFY, {"sessionId": session}, headers={envelope.WAIT_SECONDS: wait}, expiration=expiration)
    assert (status(reply), reply.headers.get(envelope.WAIT_SECONDS)) == ("PENDING", heeded)
    await rig.sandbox.pay(session)
    final = await rig.ask(VERIFY, {"sessionId": session}, headers=LONG)
    assert (status(final), final.headers[envelope.WAIT_SECONDS]) == ("COMPLETED", "60"), "at once"


async def test_without_a_reply_address_nothing_is_deferred(rig: Rig) -> None:
    session = (await rig.created())["sessionId"]
    await rig.send(VERIFY, {"sessionId": session}, headers=LONG)
    await rig.queue_empty(VERIFY)
    assert (await rig.verified(session))["paymentStatus"] == "PENDING"
    assert rig.service is not None
    assert len(rig.service.long_poll) == 0
