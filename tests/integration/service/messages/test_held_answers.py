"""Callers who would rather wait for an outcome than come again, through broker, service, database and bridge."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from contracts import envelope
from service.adapters.store import OUTBOX_CHANNEL, Database, PostgresStore, Wakeups
from service.domain.outcomes import Paid
from service.domain.status import decide
from tests.conftest import RoleUrl
from tests.integration.bridge.conftest import BASE
from tests.integration.faults.stack import bridge
from tests.integration.service.messages.rig import VERIFY, Message, Rig, until
from tests.service_support import context

pytestmark = pytest.mark.asyncio(loop_scope="module")

LONG = {envelope.WAIT_SECONDS: "60"}
"""Longer than any test: who is answered was not answered because the time was over."""
NO_HURRY = str(90_000)


@asynccontextmanager
async def waiting(rig: Rig, session: str, *, callers: int = 1, **changes: Any) -> AsyncIterator[list[str]]:
    """The marks of so many held verifies of a session."""
    assert rig.service is not None
    before = len(rig.service.holds)
    options = {"headers": LONG, "expiration": NO_HURRY} | changes
    yield [await rig.ask_later(VERIFY, {"sessionId": session}, **options) for _ in range(callers)]
    await until(lambda: rig.service is None or len(rig.service.holds) == before)


async def held(rig: Rig, number: int) -> None:
    await until(lambda: rig.service is not None and len(rig.service.holds) == number)
    await rig.queue_empty(VERIFY)


def status(reply: Message) -> str:
    return str(reply.document["paymentStatus"])


async def test_a_verify_that_finds_the_payment_answers_all_who_are_held(rig: Rig) -> None:
    session = (await rig.created())["sessionId"]
    async with waiting(rig, session, callers=3) as marks:
        await held(rig, 3)
        await rig.sandbox.pay(session)
        assert (await rig.verified(session))["paymentStatus"] == "COMPLETED"
        for mark in marks:
            reply = await rig.reply_to(mark)
            assert status(reply) == "COMPLETED"
            assert (reply.type, reply.headers) == (
                "checkout.verify.reply",
                {"x-request-id": f"request-{mark}", "x-payment-status-source": "gateway", "x-wait-seconds": "60"},
            )


async def test_what_another_replica_wrote_is_heard(rig: Rig) -> None:
    session = (await rig.created())["sessionId"]
    database = Database(rig.settings.database_url.get_secret_value())
    heard: list[str] = []
    alarm = Wakeups(
        rig.settings.database_url.get_secret_value(),
        heard={OUTBOX_CHANNEL: heard.append},
        missed=lambda: heard.append("missed"),
    )
    listening = asyncio.create_task(alarm.run())
    try:
        await until(lambda: heard == ["missed"])
        async with waiting(rig, session) as [mark]:
            await held(rig, 1)
            other = PostgresStore(database)
            payment = await other.payment_of_session(session)
            assert payment is not None
            paid = Paid(money=payment.money, reference=payment.reference, livemode=False)
            change = decide(payment, paid, at=datetime.now(UTC))
            assert change is not None
            await other.record(change, context=context())
            assert status(await rig.reply_to(mark)) == "COMPLETED"
        await until(lambda: str(payment.id) in heard)
        await rig.created()
        assert heard == ["missed", str(payment.id)]  # a change that is not final is no news to others
    finally:
        listening.cancel()
        await asyncio.wait([listening])
        await database.close()


async def test_a_final_payment_is_answered_at_once(rig: Rig) -> None:
    session = (await rig.created())["sessionId"]
    await rig.sandbox.pay(session)
    reply = await rig.ask(VERIFY, {"sessionId": session}, headers=LONG)
    assert (status(reply), reply.headers[envelope.WAIT_SECONDS]) == ("COMPLETED", "60")


@pytest.mark.parametrize(
    ("wait", "expiration", "heeded"),
    [("1", NO_HURRY, "1"), (1, NO_HURRY, "1"), ("60", "4500", "60")],
    ids=["text", "number", "until the sender leaves"],
)
async def test_after_its_time_a_held_verify_is_answered_as_it_was(
    rig: Rig, wait: object, expiration: str, heeded: str
) -> None:
    session = (await rig.created())["sessionId"]
    reply = await rig.ask(VERIFY, {"sessionId": session}, headers={envelope.WAIT_SECONDS: wait}, expiration=expiration)
    assert (status(reply), reply.headers[envelope.WAIT_SECONDS]) == ("PENDING", heeded)


@pytest.mark.parametrize("wait", ["soon", "0", "-5", "1.5", 1.5, "", None, True])
async def test_what_is_no_time_is_passed_over(rig: Rig, wait: object) -> None:
    session = (await rig.created())["sessionId"]
    reply = await rig.ask(VERIFY, {"sessionId": session}, headers={envelope.WAIT_SECONDS: wait})
    assert status(reply) == "PENDING"
    assert envelope.WAIT_SECONDS not in reply.headers


async def test_without_a_reply_address_nobody_is_held(rig: Rig) -> None:
    session = (await rig.created())["sessionId"]
    await rig.send(VERIFY, {"sessionId": session}, headers=LONG)
    await rig.queue_empty(VERIFY)
    assert (await rig.verified(session))["paymentStatus"] == "PENDING"
    assert rig.service is not None
    assert len(rig.service.holds) == 0


async def test_over_rest_a_caller_waits_and_hears_at_once(rig: Rig, role_url: RoleUrl) -> None:
    session = (await rig.created())["sessionId"]
    async with bridge(role_url("payment-bridge")) as calling:
        path = f"{BASE}/checkout/verify/{session}"
        asking = [asyncio.create_task(calling.client.get(path, headers={"Prefer": "wait=60"})) for _ in range(5)]
        await held(rig, 5)
        assert (calling.requester.in_flight, calling.requester.held) == (0, 5)
        await rig.sandbox.pay(session)
        found = await calling.client.get(path)
        assert (found.json()["paymentStatus"], found.headers.get("preference-applied")) == ("COMPLETED", None)
        for answer in await asyncio.gather(*asking):
            assert answer.json() == found.json()
            assert answer.headers["preference-applied"] == "wait=60"
        other = (await rig.created())["sessionId"]
        pending = await calling.client.get(f"{BASE}/checkout/verify/{other}", headers={"Prefer": "wait=1"})
        assert (pending.json()["paymentStatus"], pending.headers["preference-applied"]) == ("PENDING", "wait=1")
        assert pending.headers["retry-after"] == "2"
