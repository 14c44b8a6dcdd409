"""The service's pages: a missing part makes it not ready, and everything done is counted exactly."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
import pytest_asyncio

from service.domain.money import Money
from service.domain.outcomes import Expired, Paid
from service.ratelimit.permit import Endpoint
from tests.integration.faults.stack import breakable
from tests.integration.operators.conftest import counted, gauge, pages, scraped
from tests.integration.service.messages.rig import CREATE, STATUS, Rig, a_create, around, serving, until
from tests.kit.service import context
from tools.chaos.proxy import Mode, Proxy


@pytest.fixture(scope="module")
def links() -> dict[str, Proxy]:
    """The links to the broker and to the database, by name."""
    return {}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(amqp_url: str, migrated_url: str, links: dict[str, Proxy]) -> AsyncIterator[Rig]:
    """The service behind links that can be cut."""
    async with (
        around(amqp_url, migrated_url, git_commit="90b07ff") as rig,
        breakable(rig.settings, "amqp_url") as (links["broker"], settings),
        breakable(settings, "database_url") as (links["database"], settings),
        serving(settings) as rig.service,
    ):
        yield rig


@pytest_asyncio.fixture(loop_scope="module")
async def client(rig: Rig) -> AsyncIterator[httpx.AsyncClient]:
    assert rig.service is not None
    async with pages(rig.service.asgi) as client:
        yield client


def without_feed(counts: dict[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
    """Whoever leads reads events once in a while, whatever a test does."""
    return {labels: count for labels, count in counts.items() if "events" not in labels}


async def health(client: httpx.AsyncClient) -> dict[str, str]:
    """The status of the whole ("") and of each part by `/actuator/health`; it agrees with its group and with HTTP."""
    whole, ready = await asyncio.gather(client.get("health"), client.get("health/readiness"))
    for answer in (whole, ready):
        assert answer.headers["content-type"] == "application/json"
        assert answer.status_code == (200 if answer.json()["status"] == "UP" else 503)
    parts = {name: part["status"] for name, part in whole.json()["components"].items()}
    return {"": whole.json()["status"], **parts}


async def is_up(client: httpx.AsyncClient) -> bool:
    return set((await health(client)).values()) == {"UP"}


async def test_all_is_up_and_says_what_it_is(client: httpx.AsyncClient) -> None:
    await until(lambda: is_up(client))
    assert set(await health(client)) == {"", "broker", "clock", "consumers", "database", "readinessState", "stripe"}
    assert (await client.get("health")).json()["groups"] == ["liveness", "readiness"]
    info = (await client.get("info")).json()
    assert info == {"build": {"name": "payment-service", "version": "1.0.0"}, "git": {"commit": {"id": "90b07ff"}}}


async def test_what_is_done_is_counted_exactly(rig: Rig, client: httpx.AsyncClient) -> None:
    before = await scraped(client)
    session = (await rig.created())["sessionId"]
    assert (await rig.verified(session))["paymentStatus"] == "PENDING"
    await rig.sandbox.control(f"sessions/{session}/pay", {"card": "4242 4242 4242 4242"})
    assert (await rig.verified(session))["paymentStatus"] == "COMPLETED"
    assert (await rig.ask(STATUS, {"transactionId": "cs_test_unknown"})).type == "fault"
    await rig.parked(CREATE, await rig.send(CREATE, {"bookingId": 0}))
    await rig.told((await rig.payment(session))["id"], events=2)
    await rig.all_sent()
    after = await scraped(client)
    assert gauge(after, "payment_service_outbox_unsent") == 0
    assert counted(before, after, "payment_service_commands_total") == {
        ("", "done", "checkout.create"): 1,
        ("", "done", "checkout.verify"): 2,
        ("NOT_FOUND", "fault", "payment.status"): 1,
        ("", "dead_lettered", "checkout.create"): 1,
    }
    assert counted(before, after, "payment_service_command_duration_seconds_count") == {
        ("checkout.create",): 2,
        ("checkout.verify",): 2,
        ("payment.status",): 1,
    }
    assert counted(before, after, "payment_service_dead_letters_total") == {("invalid", "checkout.create"): 1}
    calls = {("create", "answered"): 1, ("retrieve", "answered"): 2}
    assert without_feed(counted(before, after, "payment_service_gateway_calls_total")) == calls
    measured = without_feed(counted(before, after, "payment_service_gateway_call_duration_seconds_count"))
    assert measured == {("create",): 1, ("retrieve",): 2}
    changes = {("created", ""): 1, ("opened", ""): 1, ("completed", ""): 1}
    assert counted(before, after, "payment_service_payment_changes_total") == changes
    assert counted(before, after, "payment_service_events_total") == {("published",): 2}
    assert counted(before, after, "payment_service_attention_total") == {}
    assert gauge(after, "payment_service_outbox_oldest_unsent_age_seconds") == 0
    assert gauge(after, "payment_service_gateway_calls_in_flight") == 0
    assert gauge(after, "payment_service_sweeper_passes_total") > 0


async def test_a_call_that_stripe_does_not_answer_is_counted_by_its_cause(rig: Rig, client: httpx.AsyncClient) -> None:
    before = await scraped(client)
    async with rig.stripe_with(down=True):
        assert (await rig.ask(CREATE, a_create())).document["code"] == "GATEWAY_ERROR"
    after = await scraped(client)
    assert without_feed(counted(before, after, "payment_service_gateway_calls_total")) == {("create", "failed"): 1}
    assert without_feed(counted(before, after, "payment_service_gateway_attempts_total")) == {("create",): 3}
    assert counted(before, after, "payment_service_gateway_circuit_openings_total") == {}
    for endpoint in Endpoint:
        assert after["payment_service_gateway_circuit_state", frozenset({("endpoint", endpoint.value)})] == 0
    faults = {("GATEWAY_ERROR", "fault", "checkout.create"): 1}
    assert counted(before, after, "payment_service_commands_total") == faults


async def test_what_becomes_of_payments_and_what_calls_a_person_is_counted_once(
    rig: Rig, client: httpx.AsyncClient
) -> None:
    before = await scraped(client)
    assert rig.service is not None
    application = rig.service.application
    payment = await application.store.payment_of_session((await rig.created())["sessionId"])
    assert payment is not None
    paid = Paid(money=payment.money, reference=payment.reference, livemode=False)
    less = replace(paid, money=Money(1, "inr"))
    for outcome in (less, less, Expired(), Expired(), paid, paid):
        payment = await application.outcomes.apply(payment, outcome, context=context())
    assert (payment.status, payment.attention) == ("FAILED", "paid_after_failed")
    after = await scraped(client)
    changes = {("created", ""): 1, ("opened", ""): 1, ("failed", "expired"): 1}
    assert counted(before, after, "payment_service_payment_changes_total") == changes
    assert counted(before, after, "payment_service_attention_total") == {
        ("paid_differently",): 1,
        ("paid_after_failed",): 1,
    }
    events = [each.document["data"] for each in await rig.told(payment.id, events=4)]
    assert [(each["status"], each["reason"]) for each in events[2:]] == [
        ("FAILED", "expired"),
        ("FAILED", "paid_after_failed"),
    ]


async def test_an_event_that_waits_is_seen_with_its_age(rig: Rig, client: httpx.AsyncClient) -> None:
    session = (await rig.created())["sessionId"]
    await rig.told((await rig.payment(session))["id"], events=1)
    await rig.sql("UPDATE outbox SET sent_at = NULL, claimed_until = now() + interval '1 hour'")
    try:
        found = await scraped(client)
        assert gauge(found, "payment_service_outbox_unsent") >= 1
        assert gauge(found, "payment_service_outbox_oldest_unsent_age_seconds") > 0
    finally:
        await rig.sql("UPDATE outbox SET sent_at = now()")


async def test_without_its_consumers_it_is_not_ready(rig: Rig, client: httpx.AsyncClient) -> None:
    assert rig.service is not None
    broker: Any = rig.service.asgi.brokers[0]
    for subscriber in broker.subscribers:
        await subscriber.stop()
        found = await health(client)
        assert (found[""], found["consumers"], found["broker"], found["database"]) == ("DOWN", "DOWN", "UP", "UP")
    for subscriber in broker.subscribers:
        await subscriber.start()
    await until(lambda: is_up(client))


BOTH = ("broker", "database")


@pytest.mark.parametrize(
    ("down", "mode"),
    [*itertools.product((("broker",), ("database",)), (Mode.DOWN, Mode.BLACK_HOLE)), (BOTH, Mode.DOWN)],
    ids=str,
)
async def test_without_broker_or_database_it_lives_and_is_not_ready(
    down: tuple[str, ...], mode: Mode, client: httpx.AsyncClient, links: dict[str, Proxy]
) -> None:
    await until(lambda: is_up(client))
    for link in down:
        await links[link].set(mode)
    try:

        async def is_down() -> bool:
            found = await health(client)
            assert all(found[link] == "UP" for link in set(BOTH) - set(down))
            return {found[""], *(found[link] for link in down)} == {"DOWN"}

        await until(is_down)
        assert (await client.get("health/liveness")).json() == {"status": "UP"}
        assert (await client.get("info")).status_code == 200
        async with asyncio.timeout(60):
            samples = await scraped(client)
        assert (("payment_service_outbox_unsent", frozenset()) in samples) is ("database" not in down)
    finally:
        for link in down:
            await links[link].set(Mode.NORMAL)
    await until(lambda: is_up(client))


async def test_while_it_stops_it_is_out_of_service(rig: Rig) -> None:
    async with serving(rig.settings) as service, pages(service.asgi) as client:
        await until(lambda: is_up(client))
    async with pages(service.asgi) as client:
        out = "OUT_OF_SERVICE"
        assert await health(client) == {"": out, "readinessState": out, "stripe": "UP", "clock": "UP"}
        assert (await client.get("health/liveness")).status_code == 200
