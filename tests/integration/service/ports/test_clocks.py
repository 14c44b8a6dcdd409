"""Clocks that are wrong, and an account that is: nothing is FAILED for it, and the same create succeeds."""

import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from service.adapters.postgres import Database
from service.domain.outcomes import Opened
from tests.integration.sandbox.harness import Running
from tests.integration.service.ports.test_gateway import SECONDS, a_gateway, a_new_payment
from tests.integration.service.shops import Ports
from tests.kit.clock import MovableClock
from tests.kit.world import a_stripe_gateway

HOUR = 3600


@pytest.fixture
async def shop(database: Database, sandbox: Running) -> AsyncIterator[Ports]:
    clock = MovableClock(datetime.now(UTC))
    gateway = a_stripe_gateway(sandbox.url, now=clock.now)
    yield Ports(database=database, gateway=gateway, sandbox=sandbox, clock=clock)
    await gateway.close()


@pytest.mark.parametrize("seconds", [-HOUR, -400, 400, HOUR])
async def test_a_clock_that_is_an_hour_wrong_either_way_stops_no_create(shop: Ports, seconds: int) -> None:
    """M5 Our clock and Stripe's differ: each create succeeds, also the first, and ends when its caller was told."""
    await shop.sandbox.control("clock", {"advance_seconds": seconds})
    for _ in range(2):
        answer = await shop.create()
        assert answer.document["expiresAt"] == int((shop.clock.now() + timedelta(minutes=15)).timestamp())
        assert await shop.create() == answer
        assert (await shop.verify(answer.session)).status == "PENDING"
        [payment] = await shop.payments()
        spare = (payment.expires_at - shop.clock.now() - timedelta(minutes=35)).total_seconds()
        assert -30 < spare < 30 + max(0, -seconds)
        await shop.pay(answer.session)
        shop.clock.advance(2)
        assert (await shop.verify(answer.session)).status == "COMPLETED"
        shop.booking += 1_000_000_000
    skew = shop.gateway.calls.skew.measured
    assert skew is not None
    assert abs(skew.total_seconds() - seconds) < 60
    assert shop.gateway.ahead == skew


async def test_a_clock_that_is_set_right_again_stops_no_create_either(shop: Ports) -> None:
    for seconds in (HOUR, -2 * HOUR, HOUR):
        await shop.sandbox.control("clock", {"advance_seconds": seconds})
        assert "sessionId" in (await shop.create()).document
        shop.booking += 1_000_000_000


async def test_an_account_that_is_not_set_up_fails_nothing_and_is_told_once(
    shop: Ports, caplog: pytest.LogCaptureFixture
) -> None:
    """M5 400s that are about us: unknown, one error for the operator, and the same create succeeds afterwards."""
    sent = {"key": "k", "message_id": "m-account"}
    await shop.sandbox.control("config", {"account_error": True})
    for minutes in (0, 1, 10, 600):
        await shop.advance(60 * minutes)
        assert (await shop.create(**sent)).fault == ("GATEWAY_ERROR", True)
    assert [payment.status for payment in await shop.payments()] == ["PENDING"]
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert errors[0].startswith("Stripe refuses create for a reason of ours (InvalidRequestError: status 400")
    await shop.sandbox.control("config", {"account_error": False})
    answer = await shop.create(**sent)
    assert await shop.sessions() == {answer.session: "open"}
    assert not shop.gateway.calls.misconfigured


@pytest.mark.parametrize("hours", [0.6, 3, 22.9])
async def test_a_session_is_found_in_all_of_the_time_in_which_it_can_have_been_made(
    sandbox: Running, hours: float
) -> None:
    """M14 Whatever time a payer has: a session that the last possible try made is found, also after an hour's skew."""
    async with a_gateway(sandbox.url) as gateway:
        payment = a_new_payment(gateway)
        payment = replace(payment, expires_at=payment.created_at + timedelta(hours=hours))
        payment = replace(payment, gateway_request=gateway.checkout_request(payment))
        assert await gateway.find(payment, timeout_seconds=SECONDS) is None
        await sandbox.control("clock", {"advance_seconds": int((hours - 0.5) * HOUR) - 60})
        made = await gateway.open(payment, timeout_seconds=SECONDS)
        assert isinstance(made, Opened)
        found = await gateway.find(payment, timeout_seconds=SECONDS)
        assert isinstance(found, Opened)
        assert found.session_id == made.session_id
