"""Stops and restarts of real services and bridges under load: SIGTERM cuts nothing, `kill -9` loses nothing.

With `--crash-runs 20` there are 20 rolling restarts under 2,000 creates, and 20 kills of a bridge.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
import pytest

from contracts import envelope
from service.entrypoints.settler import CONCURRENCY
from tests.integration.bridge.conftest import BASE, IDENTITY
from tests.integration.service.crash.evidence import (
    Calls,
    Told,
    all_sent,
    calls,
    delivered,
    journal,
    nothing_left,
    replies_of,
)
from tests.integration.service.crash.programs import Program, Programs
from tests.integration.service.messages.rig import CREATE, Rig, a_create, until
from tests.proxy import Mode, behind_proxy

pytestmark = pytest.mark.asyncio(loop_scope="module")
_log = logging.getLogger(__name__)


@asynccontextmanager
async def slow(rig: Rig, seconds: float) -> AsyncIterator[None]:
    """Stripe takes so long for each call."""
    await rig.sandbox.control("config", {"latency_ms": int(seconds * 1000)})
    try:
        yield
    finally:
        await rig.sandbox.control("config", {"latency_ms": 0})


@asynccontextmanager
async def client_of(bridge: Program) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=50)
    options: dict[str, Any] = {"headers": IDENTITY, "timeout": 30, "trust_env": False, "limits": limits}
    async with httpx.AsyncClient(base_url=bridge.url + BASE, **options) as client:
        yield client


def done(*services: Program) -> Counter[str]:
    """How often each command was done, by its message id."""
    return Counter(line["messageId"] for each in services for line in each.said if line.get("ended") == "done")


async def begun(rig: Rig, bodies: list[dict[str, Any]]) -> None:
    """Wait until the service works on each of these creates."""
    bookings = [body["bookingId"] for body in bodies]

    async def all_begun() -> bool:
        rows = await rig.sql("SELECT 1 FROM payments WHERE booking_id = ANY($1::bigint[])", bookings)
        return len(rows) == len(bookings)

    await until(all_begun)


@dataclass(kw_only=True)
class Buyers:
    """Create, pay and verify through a bridge, one purchase after the other, until told to stop."""

    rig: Rig
    client: httpx.AsyncClient
    enough: int
    restarted: bool = False
    statuses: Counter[int] = field(default_factory=Counter)
    bookings: list[int] = field(default_factory=list)

    async def buy(self) -> None:
        while not self.restarted or len(self.bookings) < self.enough:
            body = a_create()
            self.bookings.append(body["bookingId"])
            created = await self.client.post("/checkout/create", json=body)
            self.statuses[created.status_code] += 1
            if created.is_success:
                session = created.json()["sessionId"]
                await self.rig.sandbox.pay(session)
                verified = await self.client.get(f"/checkout/verify/{session}")
                self.statuses[verified.status_code] += 1
                assert not verified.is_success or verified.json()["paymentStatus"] == "COMPLETED"


async def test_rolling_restarts_lose_nothing(rig: Rig, programs: Programs, runs: int) -> None:
    """F21 SIGTERM under load: stop taking, finish, acknowledge, exit."""
    restarts, enough = max(4, runs), max(300, 100 * runs)
    before = await calls(rig)
    services = [await programs.service(), await programs.service()]
    async with client_of(await programs.bridge()) as client, slow(rig, 0.2), asyncio.TaskGroup() as group:
        buyers = Buyers(rig=rig, client=client, enough=enough)
        for _ in range(16):
            group.create_task(buyers.buy())
        for _ in range(restarts):
            await begun_more(rig, 16)
            await services.pop(0).stopped()
            services.append(await programs.service())
        buyers.restarted = True

    total = buyers.statuses.total()
    failed = sum(count for status, count in buyers.statuses.items() if status != 200)
    assert failed <= total / 1000, buyers.statuses
    await services.pop().stopped()
    await nothing_left(rig, services.pop(), CREATE)
    handled = done(*programs.all)
    assert handled.total() == len(handled) == total, "a command was handled twice or never"
    assert await calls(rig) - before == Calls(calls=total), "a call to Stripe was repeated"
    payments = await rig.sql("SELECT id, status FROM payments WHERE booking_id = ANY($1::bigint[])", buyers.bookings)
    assert Counter(row["status"] for row in payments) == {"COMPLETED": len(buyers.bookings)}
    assert not await rig.sql("SELECT 1 FROM outbox WHERE sent_at IS NULL"), "who left has relayed all"
    copies = [await delivered(rig, row["id"], Told(statuses=("PENDING", "COMPLETED"))) for row in payments]
    _log.info("%d restarts, %d purchases, %d answers: %s", restarts, len(payments), total, dict(buyers.statuses))
    _log.info("%d second copies of events", sum(copies))


async def begun_more(rig: Rig, count: int) -> None:
    """Wait for so many more payments: each service is at work again."""

    async def number() -> int:
        [row] = await rig.sql("SELECT count(*) AS n FROM payments")
        found: int = row["n"]
        return found

    before = await number()

    async def grown() -> bool:
        return await number() >= before + count

    await until(grown)


async def test_a_service_that_is_told_to_stop_finishes_what_waits_for_stripe(rig: Rig, programs: Programs) -> None:
    """F21 SIGTERM while Stripe is slow: the answers arrive, the commands are acknowledged, the events are sent."""
    service = await programs.service()
    bodies = [a_create() for _ in range(5)]
    async with slow(rig, 3):
        marks = [await rig.send(CREATE, body, reply_to=envelope.DIRECT_REPLY_TO) for body in bodies]
        await begun(rig, bodies)
        await nothing_left(rig, service, CREATE)
    for mark, body in zip(marks, bodies, strict=True):
        reply = await rig.reply_to(mark)
        [payment] = await rig.payments_of(body["bookingId"])
        assert reply.document["sessionId"] == payment["session_id"]
        assert await delivered(rig, payment["id"], Told(statuses=("PENDING",))) == 0
    assert done(service) == Counter(marks)


async def test_a_service_that_is_told_to_stop_stores_what_nobody_waits_for(rig: Rig, programs: Programs) -> None:
    """F21 SIGTERM after the caller's deadline and before Stripe's answer: the session is stored and told."""
    service = await programs.service()
    body = a_create()
    async with slow(rig, 6):
        mark = await rig.send(CREATE, body, reply_to=envelope.DIRECT_REPLY_TO, expiration="3500")
        reply = await rig.reply_to(mark)
        assert (reply.type, reply.document["code"]) == (envelope.FAULT_TYPE, "DEADLINE_EXCEEDED")
        await nothing_left(rig, service, CREATE)
    [payment] = await rig.payments_of(body["bookingId"])
    [session] = await rig.sessions_of(body["bookingId"])
    assert payment["session_id"] == session["id"]
    assert await delivered(rig, payment["id"], Told(statuses=("PENDING",))) == 0


async def test_a_service_that_is_told_to_stop_leaves_unsettled_payments_to_the_others(
    rig: Rig, programs: Programs
) -> None:
    """F21 SIGTERM while the settler has claimed more than it can end in time: it finishes those it has begun."""
    service = await programs.service()
    overdue = [(await rig.created())["sessionId"] for _ in range(20)]
    async with slow(rig, 4):
        await rig.an_hour_passes(overdue)
        await until(lambda: _settling(rig, overdue))
        await service.stopped()
    statuses = Counter([(await rig.payment(session))["status"] for session in overdue])
    assert statuses == {"FAILED": CONCURRENCY, "PENDING": 20 - CONCURRENCY}
    assert not await rig.sql("SELECT 1 FROM outbox WHERE sent_at IS NULL")


async def _settling(rig: Rig, sessions: list[str]) -> bool:
    rows = await rig.sql("SELECT 1 FROM payments WHERE session_id = ANY($1) AND settle_attempts > 0", sessions)
    return len(rows) == len(sessions)


async def test_a_service_that_is_told_to_stop_leaves_although_the_broker_is_silent(
    rig: Rig, programs: Programs
) -> None:
    """F21 SIGTERM while RabbitMQ is a black hole and a command waits for Stripe: out in time, and nothing is lost."""
    body = a_create()
    async with behind_proxy(rig.settings.amqp_url.get_secret_value()) as (network, amqp_url), slow(rig, 2):
        service = await programs.service(AMQP_URL=amqp_url)
        # RabbitMQ gives the command to another only when it finds the connection dead; its sender waits that long.
        mark = await rig.send(CREATE, body, reply_to=envelope.DIRECT_REPLY_TO, expiration="120000")
        await begun(rig, [body])
        await network.set(Mode.BLACK_HOLE)
        service.process.terminate()
        assert await service.ended() == 0
    successor = await programs.service()
    [reply] = await replies_of(rig, mark)
    [session] = await rig.sessions_of(body["bookingId"])
    assert reply.document["sessionId"] == session["id"]
    await all_sent(rig)
    await nothing_left(rig, successor, CREATE)


async def test_a_bridge_that_is_told_to_stop_answers_whoever_waits(rig: Rig, programs: Programs) -> None:
    """F21 SIGTERM of a bridge with requests in flight: each is answered, and it leaves in time."""
    service, bridge = await programs.service(), await programs.bridge()
    bodies = [a_create() for _ in range(20)]
    async with slow(rig, 3), client_of(bridge) as client, asyncio.TaskGroup() as group:
        requests = [group.create_task(client.post("/checkout/create", json=body)) for body in bodies]
        await begun(rig, bodies)
        await bridge.stopped()
    answers = [request.result() for request in requests]
    assert [answer.status_code for answer in answers] == [200] * len(bodies)
    sessions = [(await rig.sessions_of(body["bookingId"]))[0]["id"] for body in bodies]
    assert [answer.json()["sessionId"] for answer in answers] == sessions
    await nothing_left(rig, service, CREATE)


async def test_what_a_killed_bridge_had_asked_for_is_answered_at_another(
    rig: Rig, programs: Programs, runs: int
) -> None:
    """F4 Bridge killed while waiting: the command completes, a retry at another bridge returns the result."""
    service, other = await programs.service(), await programs.bridge()
    async with client_of(other) as alive, slow(rig, 2):
        for _ in range(max(4, runs)):
            bridge = await programs.bridge()
            wishes = [(a_create(), {"Idempotency-Key": str(uuid4())}) for _ in range(5)]
            async with client_of(bridge) as client:
                requests = [
                    asyncio.create_task(client.post("/checkout/create", json=body, headers=key)) for body, key in wishes
                ]
                await begun(rig, [body for body, _ in wishes])
                await bridge.killed()
                ended = await asyncio.gather(*requests, return_exceptions=True)
            assert all(isinstance(each, httpx.TransportError) for each in ended), ended
            for body, key in wishes:
                answer = await alive.post("/checkout/create", json=body, headers=key)
                [session] = await rig.sessions_of(body["bookingId"])
                [payment] = await rig.payments_of(body["bookingId"])
                assert (answer.status_code, answer.json()["sessionId"]) == (200, session["id"]), answer.text
                assert payment["session_id"] == session["id"]
                assert await journal(rig, payment["id"]) == ["created", "opened"]
    await nothing_left(rig, service, CREATE)
    await all_sent(rig)
