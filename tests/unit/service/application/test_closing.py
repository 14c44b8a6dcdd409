"""What an operator's close does in every state of a payment and of its session."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from service.application.checkout import UNFINISHED_AFTER
from service.application.closing import Closed, CloseRefusedError, Closing
from service.domain.money import Money
from service.domain.outcomes import Open, Paid, Processing, UnknownCause
from service.domain.payment import Payment, PaymentStatus
from tests.kit.scenarios import ATTENTION, COMPLETED, FAILED, PENDING
from tests.kit.service import context
from tests.kit.shops import Fakes
from tests.kit.workers import a_sweeper


class Desk(Fakes):
    """A shop whose payment an operator closes."""

    def __init__(self) -> None:
        super().__init__()
        self.sweeper = a_sweeper(self.worlds[0])
        self.closing = Closing(
            store=self.store,
            gateway=self.gateway,
            outcomes=self.worlds[0].outcomes,
            clock=self.clock,
            timeout_seconds=1,
        )

    @property
    def payment(self) -> Payment:
        return self.store.payments[1]

    async def close(self, by: str = "ann") -> Closed:
        return await self.closing.close(self.payment, by=by, why="it cannot end", context=context())

    async def refused(self) -> str:
        before = self.payment
        with pytest.raises(CloseRefusedError) as raised:
            await self.close()
        assert self.payment.reason == before.reason, "nothing was closed"
        return str(raised.value)

    async def sweep_until_attention(self) -> None:
        for _ in range(UNFINISHED_AFTER):
            await self.advance(1000)
            await self.sweeper.sweep_next()
        assert self.payment.needs_person

    async def is_free(self) -> bool:
        return (await self.create()).fault == (None, None)

    async def line(self) -> Any:
        return (await self.store.journal(1))[-1]


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_a_payable_session_is_ended_at_the_gateway_first(desk: Desk) -> None:
    session = (await desk.create()).session
    assert (await desk.close()).is_news
    assert await desk.sessions() == {session: "expired"}
    assert (desk.payment.status, desk.payment.reason) == (PaymentStatus.FAILED, "closed")
    line = await desk.line()
    assert (line.kind, line.detail) == ("failed", {"by": "ann", "why": "it cannot end", "gateway": "expired"})
    assert (await desk.verify(session)).document["message"] == "We have closed this payment. Nothing was charged."
    assert await desk.is_free()
    assert await desk.events() == [PENDING, FAILED, PENDING]


async def test_a_payment_that_was_closed_is_closed_no_second_time(desk: Desk) -> None:
    await desk.create()
    closes = await asyncio.gather(desk.close("ann"), desk.close("bob"))
    assert sorted(closed.is_news for closed in closes) == [False, True]
    assert not (await desk.close()).is_news
    assert [entry.kind for entry in await desk.store.journal(1)].count("failed") == 1


async def test_a_paid_payment_is_completed_and_not_closed(desk: Desk) -> None:
    session = (await desk.create()).session
    await desk.pay(session)
    assert "is paid" in await desk.refused()
    assert desk.payment.status is PaymentStatus.COMPLETED
    assert "nothing to close" in await desk.refused()
    assert await desk.events() == [PENDING, COMPLETED]


async def test_money_that_does_not_fit_is_told_before_it_can_be_closed(desk: Desk) -> None:
    session = (await desk.create()).session
    desk.gateway.pay(session, money=Money(1, "inr"))
    assert "paid, but differently" in await desk.refused()
    assert desk.payment.attention == "paid_differently"
    assert (await desk.create()).fault == ("NEEDS_ATTENTION", False)
    assert (await desk.close()).is_news
    closed = await desk.verify(session)
    assert (closed.status, closed.attention) == ("FAILED", None)
    assert "dealt with" in closed.document["message"]
    different = Paid(money=Money(1, "inr"), reference=desk.payment.reference, livemode=False)
    payment = await desk.worlds[0].outcomes.apply(desk.payment, different, context=context())
    assert not payment.needs_person, "the same money raises no alarm again"
    assert await desk.is_free()


async def test_money_after_a_failure_is_dealt_with_and_the_status_stays(desk: Desk) -> None:
    """M2 No new checkout without a person, and one as soon as a person has dealt with it."""
    session = (await desk.create()).session
    await desk.let_expire(session)
    await desk.verify(session)
    fitting = Paid(money=desk.payment.money, reference=desk.payment.reference, livemode=False)
    await desk.worlds[0].outcomes.apply(desk.payment, fitting, context=context())
    told = await desk.verify(session)
    assert (told.status, told.attention) == ("FAILED", "paid_after_failed")
    assert "charged" not in told.document["message"]
    for amount in ("449.97", "500"):
        assert (await desk.create(amount=amount)).fault == ("NEEDS_ATTENTION", False)
    assert (await desk.close()).is_news
    assert (desk.payment.status, desk.payment.reason) == (PaymentStatus.FAILED, "expired")
    assert (await desk.line()).kind == "closed"
    assert (await desk.verify(session)).attention is None
    assert not (await desk.close()).is_news
    assert await desk.is_free()
    assert await desk.events() == [PENDING, FAILED, ATTENTION, ATTENTION, PENDING]


async def test_money_on_its_way_is_waited_for_until_a_person_was_called(desk: Desk) -> None:
    session = (await desk.create()).session
    desk.gateway.stand(session, Processing())
    assert "being processed" in await desk.refused()
    assert (await desk.create()).fault == ("IN_PROGRESS", True)
    await desk.sweep_until_attention()
    held = await desk.status(session)
    assert (held.status, held.attention) == ("PENDING", "unsettled")
    assert "no money has arrived" in held.document["message"]
    assert (await desk.create()).fault == ("NEEDS_ATTENTION", False)
    assert (await desk.close()).is_news
    fitting = Paid(money=desk.payment.money, reference=desk.payment.reference, livemode=False)
    payment = await desk.worlds[0].outcomes.apply(desk.payment, fitting, context=context())
    assert payment.open_attention == "paid_after_failed", "money that comes after all is told"


async def test_a_session_that_the_gateway_does_not_know_is_closed_without_it(desk: Desk) -> None:
    session = (await desk.create()).session
    desk.gateway.forgotten.add(session)
    await desk.sweep_until_attention()
    assert desk.payment.attention == "unknown_session"
    assert (await desk.close()).is_news
    assert "please contact us" in (await desk.status(session)).document["message"]
    assert await desk.is_free()


@pytest.mark.parametrize("opened", [True, False])
async def test_without_an_answer_of_the_gateway_nothing_is_closed(desk: Desk, opened: bool) -> None:  # noqa: FBT001
    if not opened:
        await desk.fail(UnknownCause.FAILED)
    await desk.create()
    await desk.fail(UnknownCause.TIMEOUT)
    assert "cannot be asked" in await desk.refused()
    await desk.fail(None)
    await desk.advance(300)
    assert (await desk.close()).is_news


async def test_a_payment_without_a_session_is_closed_once_none_can_be_made_any_more(desk: Desk) -> None:
    await desk.fail(UnknownCause.FAILED)
    await desk.create()
    await desk.fail(None)
    assert "just begun" in await desk.refused()
    await desk.advance(300)
    assert (await desk.close()).is_news
    assert (desk.payment.reason, desk.payment.last_outcome) == ("closed", None)


@pytest.mark.parametrize("who", ["a caller", "the sweeper"])
async def test_a_session_that_is_made_while_its_payment_is_closed_is_ended(
    desk: Desk, caplog: pytest.LogCaptureFixture, who: str
) -> None:
    """Otherwise it could be paid beside the booking's next one, and no payment here would know it."""
    await desk.fail(UnknownCause.FAILED)
    await desk.create()
    await desk.fail(None)
    await desk.advance(300)
    desk.gateway.before_opening = desk.close
    if who == "a caller":
        assert (await desk.create()).fault[0] == "FAILED"
    else:
        await desk.sweeper.sweep_next()
    desk.gateway.before_opening = None
    assert (desk.payment.reason, desk.payment.session_id) == ("closed", None)
    assert list((await desk.sessions()).values()) == ["expired"]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    assert await desk.is_free()


async def test_a_session_that_was_made_without_our_knowledge_is_found_and_ended(desk: Desk) -> None:
    await desk.lose_answer()
    await desk.create()
    assert (await desk.close()).is_news
    assert list((await desk.sessions()).values()) == ["expired"]


async def test_a_session_that_the_gateway_does_not_end_is_not_closed(desk: Desk) -> None:
    session = (await desk.create()).session
    desk.gateway.made[session].stands = replace(Open())
    desk.gateway.never_ends = True
    assert "can still be paid" in await desk.refused()


async def test_a_payment_that_failed_by_itself_has_nothing_to_close(desk: Desk) -> None:
    session = (await desk.create()).session
    await desk.let_expire(session)
    await desk.verify(session)
    assert not (await desk.close()).is_news
    assert desk.payment.closed_at is None
