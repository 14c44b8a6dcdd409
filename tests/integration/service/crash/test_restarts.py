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

from contracts import envelope
from service.workers.sweeper import CONCURRENCY
from tests.integration.bridge.conftest import BASE, IDENTITY
from tests.integration.service.crash.evidence import ExpectedEvents, calls, delivered, journal, nothing_left, replies_of
from tests.integration.service.crash.programs import Program, Programs
from tests.integration.service.messages.rig import CREATE, Rig, a_create, until
from tests.kit import canary
from tools.chaos.proxy import Mode, behind_proxy

_log = logging.getLogger(__name__)


@asynccontextmanager
async def client_of(bridge: Program) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=50)
    options: dict[str, Any] = {"headers": IDENTITY, "timeout": 30, "trust_env": False, "limits": limits}
    async with httpx.AsyncClient(base_url=bridge.url + BASE, **options) as client:
        yield client


def done(*services: Program) -> Counter[str]:
    """How often each command was done, by its message id."""
    return Counter(line["messageId"] for each in services for line in each.said if line.get("disposition") == "done")


async def begun(rig: Rig, bodies: list[dict[str, Any]]) -> None:
    """Wait until the service works on each of these creates."""
    bookings = [body["bookingId"] for body in bodies]
    await rig.until_rows(len(bookings), "SELECT 1 FROM payments WHERE booking_id = ANY($1::bigint[])", bookings)


@dataclass(kw_only=True)
class Buyers:
    """Create, pay and verify through a bridge, one purchase after the other, until `restarted`."""

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


async def test_rolling_restarts_lose_nothing_and_may_replace_the_key(rig: Rig, programs: Programs, runs: int) -> None:
    """F21 SIGTERM under load: stop taking, finish, acknowledge, exit. S15 Each service has a key of its own."""
    restarts, enough = max(4, runs) if runs > 1 else 2, 100 * runs
    before = await calls(rig)
    services = [await programs.service(), await programs.service()]
    async with (
        client_of(await programs.bridge()) as client,
        rig.stripe_with(latency_ms=200),
        asyncio.TaskGroup() as group,
    ):
        buyers = Buyers(rig=rig, client=client, enough=enough)
        for _ in range(16):
            group.create_task(buyers.buy())
        for _ in range(restarts):
            await begun_more(rig, 16)
            await services.pop(0).stopped()
            services.append(await programs.service(STRIPE_API_KEY=f"rk_test_{canary.secret('new')}"))
        buyers.restarted = True

    total = buyers.statuses.total()
    failed = sum(count for status, count in buyers.statuses.items() if status != 200)
    assert failed <= total / 1000, buyers.statuses
    await services.pop().stopped()
    await nothing_left(rig, services.pop(), CREATE)
    handled = done(*programs.all)
    assert handled.total() == len(handled) == total, "a command was handled twice or never"
    assert await calls(rig) - before == Counter(calls=total), "a call to Stripe was repeated"
    payments = await rig.sql("SELECT id, status FROM payments WHERE booking_id = ANY($1::bigint[])", buyers.bookings)
    assert Counter(row["status"] for row in payments) == {"COMPLETED": len(buyers.bookings)}
    assert not await rig.sql("SELECT 1 FROM outbox WHERE sent_at IS NULL"), "who left has relayed all"
    copies = [await delivered(rig, row["id"], ExpectedEvents(statuses=("PENDING", "COMPLETED"))) for row in payments]
    _log.info("%d restarts, %d purchases, %d answers: %s", restarts, len(payments), total, dict(buyers.statuses))
    _log.info("%d second copies of events", sum(copies))


async def begun_more(rig: Rig, count: int) -> None:
    """Wait for so many more payments: each service is at work again."""
    [before] = await rig.sql("SELECT count(*) AS payments FROM payments")
    await until(lambda: rig.sql("SELECT FROM payments HAVING count(*) >= $1", before["payments"] + count))


async def test_a_service_that_is_told_to_stop_stores_what_nobody_waits_for(rig: Rig, programs: Programs) -> None:
    """F21 SIGTERM after the caller's deadline and before Stripe's answer: the session is stored and published."""
    service = await programs.service()
    body = a_create()
    async with rig.stripe_with(latency_ms=6000):
        mark = await rig.send(CREATE, body, reply_to=envelope.DIRECT_REPLY_TO, expiration="3500")
        reply = await rig.reply_to(mark)
        assert (reply.type, reply.document["code"]) == (envelope.FAULT_TYPE, "DEADLINE_EXCEEDED")
        await nothing_left(rig, service, CREATE)
    [payment] = await rig.payments_of(body["bookingId"])
    [session] = await rig.sessions_of(body["bookingId"])
    assert payment["session_id"] == session["id"]
    assert await delivered(rig, payment["id"], ExpectedEvents(statuses=("PENDING",))) == 0


async def test_a_service_that_is_told_to_stop_leaves_unfinished_payments_to_the_others(
    rig: Rig, programs: Programs
) -> None:
    """F21 SIGTERM while the sweeper has claimed more than it can end in time: it finishes those it has begun."""
    service = await programs.service()
    overdue = [(await rig.created())["sessionId"] for _ in range(20)]
    async with rig.stripe_with(latency_ms=4000):
        await rig.an_hour_passes(overdue)
        sweeping = "SELECT 1 FROM payments WHERE session_id = ANY($1) AND settle_attempts > 0"
        await rig.until_rows(len(overdue), sweeping, overdue)
        await service.stopped()
    statuses = Counter([(await rig.payment(session))["status"] for session in overdue])
    assert statuses == {"FAILED": CONCURRENCY, "PENDING": 20 - CONCURRENCY}
    assert not await rig.sql("SELECT 1 FROM outbox WHERE sent_at IS NULL")


async def test_a_service_that_is_told_to_stop_leaves_although_the_broker_is_silent(
    rig: Rig, programs: Programs
) -> None:
    """F21 SIGTERM while RabbitMQ is a black hole and a command waits for Stripe: out in time, and nothing is lost."""
    body = a_create()
    async with behind_proxy(rig.amqp_url) as (network, amqp_url), rig.stripe_with(latency_ms=2000):
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
    await rig.all_sent()
    await nothing_left(rig, successor, CREATE)


async def test_what_a_killed_bridge_had_asked_for_is_answered_at_another(
    rig: Rig, programs: Programs, runs: int
) -> None:
    """F4 Bridge killed while waiting: the command completes, a retry at another bridge returns the result."""
    service, other = await programs.service(), await programs.bridge()
    async with client_of(other) as alive, rig.stripe_with(latency_ms=2000):
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
    await rig.all_sent()
