"""Payments that only a person can move on, and the command that does, on a real database and the sandbox."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from service.adapters.postgres import Database
from service.application.checkout import UNKNOWN_AFTER
from service.cli import close
from service.cli.parser import parser
from service.domain.outcomes import Paid
from service.domain.payment import Payment
from service.settings import GatewaySettings
from service.workers.sweeper import BATCH, Sweeper
from tests.integration.sandbox.harness import Running
from tests.integration.service.shops import Ports
from tests.kit.clock import MovableClock
from tests.kit.lifetimes import closing
from tests.kit.scenarios import ATTENTION, FAILED, PENDING
from tests.kit.service import context
from tests.kit.shops import BOOKINGS
from tests.kit.workers import a_sweeper
from tests.kit.world import a_stripe_gateway, gateway_parts

KEY = str(gateway_parts(None)["api_key"])
OVERDUE = 1000


class Desk(Ports):
    """A shop with an operator."""

    database_url: str
    capsys: pytest.CaptureFixture[str]

    async def says(self, *words: str) -> tuple[int, str]:
        """The exit status of `payment-service close <words>`, and what it prints."""
        arguments = parser().parse_args(["close", *words])
        settings = GatewaySettings(database_url=self.database_url, stripe_api_key=KEY, stripe_api_base=self.sandbox.url)
        status = await close.run(arguments, settings)
        printed = self.capsys.readouterr()
        return status, (printed.out or printed.err).strip()

    async def closes(self, wanted: Any) -> str:
        status, text = await self.says(str(wanted), "--reason", "it cannot end", "--by", "ann")
        assert status == 0, text
        return text

    async def refuses(self, wanted: Any) -> str:
        before = await self.payments()
        status, text = await self.says(str(wanted), "--reason", "it cannot end")
        assert status == 1, text
        assert [payment.reason for payment in await self.payments()] == [payment.reason for payment in before]
        return text

    @property
    async def payment(self) -> Payment:
        return (await self.payments())[0]


@pytest.fixture
async def desk(
    database: Database, migrated_url: str, sandbox: Running, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[Desk]:
    clock = MovableClock(datetime.now(UTC))
    async with closing(a_stripe_gateway(sandbox.url, now=clock.now)) as gateway:
        desk = Desk(database=database, gateway=gateway, sandbox=sandbox, clock=clock)
        desk.database_url, desk.capsys = migrated_url, capsys
        yield desk


async def test_a_payable_payment_is_ended_at_stripe_and_its_booking_is_free(desk: Desk) -> None:
    session = (await desk.create()).session
    number = (await desk.payment).id
    text = await desk.closes(session)
    assert text == (
        f"Payment {number} is closed: FAILED (closed). Its booking is free. Its checkout can no longer be paid."
    )
    assert await desk.sessions() == {session: "expired"}
    line = (await desk.store.journal(number))[-1]
    told = {"by": "ann", "why": "it cannot end", "gateway": "expired", "gateway_call": "expire"}
    assert {name: line.detail[name] for name in told} == told
    assert line.detail["gateway_request_id"].startswith("req_")
    assert line.request_id.startswith("operator-")
    assert (await desk.verify(session)).document["message"] == "We have closed this payment. Nothing was charged."
    before = f"Payment {number} was closed before, by ann (it cannot end): FAILED (closed)."
    assert await desk.closes(number) == await desk.closes(f"booking:{desk.booking}") == before
    status, printed = await desk.says(str(number), "--reason", "again", "--json")
    members = json.loads(printed)
    assert (status, members["result"], members["by"], members["why"]) == (0, "closed before", "ann", "it cannot end")
    assert (members["paymentId"], members["bookingId"], members["transactionId"]) == (number, desk.booking, session)
    assert (await desk.create()).fault == (None, None)
    assert await desk.events() == [PENDING, FAILED, PENDING]


async def test_other_money_blocks_the_booking_until_a_person_has_dealt_with_it(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """M6 Paid with another amount: neither "please pay" nor "in a moment"."""
    session = (await desk.create()).session
    await desk.pay_differently(session)
    assert "paid, but differently" in await desk.refuses(session)
    assert (await desk.create()).fault == ("NEEDS_ATTENTION", False)
    await desk.closes(session)
    closed = await desk.verify(session)
    assert (closed.status, closed.attention) == ("FAILED", None)
    assert not [record for record in caplog.records if record.levelname == "WARNING"], "nothing was refused"
    assert "dealt with" in closed.document["message"]
    assert (await desk.create()).fault == (None, None)


async def test_money_after_a_failure_lets_no_create_through_in_the_statement_itself(desk: Desk) -> None:
    """M2 No new checkout without a person, not even while one is open; the status stays."""
    session = (await desk.create()).session
    await desk.let_expire(session)
    assert (await desk.verify(session)).status == "FAILED"
    newer = (await desk.create()).session
    payment = await desk.payment
    fitting = Paid(money=payment.money, reference=payment.reference, livemode=False)
    await desk.worlds[0].outcomes.apply(payment, fitting, context=context())
    for answer in (await desk.verify(session), await desk.status(session)):
        assert (answer.status, answer.attention) == ("FAILED", "paid_after_failed")
        assert answer.document["message"].startswith("Money arrived after this payment had ended.")
    for sent in ({}, {"amount": "500"}, {"key": "k"}):
        assert (await desk.create(**sent)).fault == ("NEEDS_ATTENTION", False)
    await desk.let_expire(newer)
    assert (await desk.verify(newer)).status == "FAILED"
    assert (await desk.create()).fault == ("NEEDS_ATTENTION", False)
    assert len(await desk.payments()) == 2
    assert "is closed: FAILED (expired)" in await desk.closes(session)
    assert (await desk.create()).fault == (None, None)
    assert await desk.events() == [PENDING, FAILED, PENDING, ATTENTION, FAILED, ATTENTION, PENDING]


async def swept(sweeper: Sweeper) -> None:
    """Try what is due: other tests have left payments in the database, which come first."""
    while await sweeper.sweep_next() == BATCH:
        pass


async def test_a_session_of_another_account_says_nothing_of_our_key(desk: Desk) -> None:
    """M6 One session's 404: attention after some tries, seldom tried then, and others are served all the while."""
    session = (await desk.create()).session
    sweeper = a_sweeper(desk.worlds[0])
    await desk.sandbox.control("config", {"accounts": {KEY: "acct_another"}})
    told = await desk.verify(session)
    assert (told.status, told.source) == ("PENDING", "gateway")
    assert "does not know this checkout" in told.document["message"]
    for _ in range(UNKNOWN_AFTER):
        assert (await desk.payment).attention is None
        await desk.advance(OVERDUE)
        await swept(sweeper)
    assert (await desk.verify(session)).attention == "unknown_session"
    assert (await desk.create()).fault == ("NEEDS_ATTENTION", False)
    for _ in range(5):
        await desk.advance(400)  # the pause that was chosen before may still be a short one
        await swept(sweeper)
    assert (await desk.payment).settle_attempts <= UNKNOWN_AFTER + 1
    assert (await desk.create(bookingId=next(BOOKINGS))).fault == (None, None)
    assert "Stripe does not know its checkout" in await desk.closes(session)
    assert "please contact us" in (await desk.status(session)).document["message"]
    assert (await desk.create()).fault == (None, None)


async def test_nothing_is_closed_that_is_paid_or_of_which_nobody_knows(desk: Desk) -> None:
    assert await desk.refuses(2**62) == await desk.refuses("cs_test_none") == await desk.refuses("booking:x")
    session = (await desk.create()).session
    await desk.fail("down")
    assert "cannot be asked" in await desk.refuses(session)
    await desk.fail(None)
    assert (await desk.verify(session)).status == "PENDING"
    await desk.pay(session)
    assert "is paid: it is COMPLETED now" in await desk.refuses(session)
    assert "there is nothing to close" in await desk.refuses(session)


async def test_of_two_who_close_at_once_one_does(desk: Desk) -> None:
    session = (await desk.create()).session
    texts = await asyncio.gather(*(desk.says(session, "--reason", "both", "--by", name) for name in ("ann", "bob")))
    assert [status for status, _ in texts] == [0, 0]
    kinds = [line.kind for line in await desk.store.journal((await desk.payment).id)]
    assert kinds == ["created", "opened", "failed"]


@pytest.mark.parametrize("reason", ["", "  ", "two\nlines", "x" * 201, "card 4242 4242 4242 4242"])
async def test_a_reason_that_is_none_is_refused(desk: Desk, reason: str) -> None:
    with pytest.raises(SystemExit):
        await desk.says("1", "--reason", reason)
