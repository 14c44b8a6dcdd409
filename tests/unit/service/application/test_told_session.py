"""What becomes of a session that the gateway tells of: nothing that is said of one of ours is lost."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

import pytest

from service.application.ports import ToldSession
from service.application.told_session import Told, ToldResult
from service.domain.errors import GatewayFailedError, OutcomeUnknownError
from service.domain.money import Money
from service.domain.outcomes import Expired, Open, Outcome, Paid, Processing, Refused, Unknown, UnknownCause
from service.domain.payment import Payment, PaymentStatus
from service.domain.status import close
from tests.kit.clock import NOW
from tests.kit.fake_gateway import FakeGateway, told
from tests.kit.fake_store import FakeStore
from tests.kit.service import context
from tests.kit.world import World

COMPLETED, FAILED, PENDING = PaymentStatus.COMPLETED, PaymentStatus.FAILED, PaymentStatus.PENDING


class Restored:
    """A gateway that knows more than the store: `here` is empty, like a database put back to an older copy."""

    def __init__(self) -> None:
        self.before = World()
        self.gateway: FakeGateway = self.before.gateway
        self.here = self.before.replica(store=FakeStore())

    @property
    def payments(self) -> list[Payment]:
        return list(self.here.store.payments.values())

    @property
    def events(self) -> list[str]:
        return [event.type.split(".")[-2] for event in self.here.store.outbox.events]

    async def session(self, booking: int = 1, stands: Outcome | None = None) -> str:
        session = (await self.before.create(bookingId=booking, userId=7, amount="12.50")).session_id
        if isinstance(stands, Paid):
            self.gateway.pay(session)
        elif stands is not None:
            self.gateway.stand(session, stands)
        return session

    async def copied_before_a_session(self, *, made: bool) -> list[Payment]:
        """The record as it was a minute ago, as a create had begun whose session was not `made`, or not heard of."""
        self.gateway.lost_answers, self.gateway.fault = (10, None) if made else (0, UnknownCause.FAILED)
        with pytest.raises((OutcomeUnknownError, GatewayFailedError)):
            await self.before.create(bookingId=1, userId=7, amount="12.50")
        self.gateway.lost_answers, self.gateway.fault = 0, None
        copy = list(self.before.store.payments.values())
        self.gateway.kept |= set() if made else {each.reference for each in copy}
        self.here.store.put_back(copy)
        self.before.clock.advance(61)
        return copy

    def told(self, session: str) -> ToldSession:
        return told(self.gateway.made[session])

    async def tell(self, session: str | ToldSession) -> ToldResult:
        if isinstance(session, str):
            session = self.told(session)
        told = await self.here.told_sessions.apply(session, context=context())
        assert isinstance(told, Told)
        return told.result

    async def kinds(self, payment: Payment) -> list[str]:
        return [entry.kind for entry in await self.here.store.journal(payment.id)]


@pytest.fixture
def restored() -> Restored:
    return Restored()


PAID = Paid(money=Money(1, "inr"), reference=None, livemode=False)


@pytest.mark.parametrize(
    ("stands", "status", "events"),
    [
        (PAID, COMPLETED, ["pending", "completed"]),
        (Open(), PENDING, ["pending"]),
        (Processing(), PENDING, ["pending"]),
        (Expired(), FAILED, ["pending", "failed"]),
    ],
    ids=["paid", "open", "processing", "expired"],
)
async def test_a_session_without_a_payment_here_becomes_one_and_its_outcome_is_applied(
    restored: Restored, stands: Outcome, status: PaymentStatus, events: list[str]
) -> None:
    session = await restored.session(booking=41, stands=stands)
    assert await restored.tell(session) is ToldResult.ADOPTED
    [payment], lost = restored.payments, restored.gateway.made[session].payment
    assert payment.status is status
    kept = ("booking_id", "user_id", "money", "reference", "created_at", "expires_at", "success_url", "gateway_request")
    assert [getattr(payment, name) for name in kept] == [getattr(lost, name) for name in kept]
    assert (payment.session_id, await restored.kinds(payment)) == (
        session,
        ["adopted", "opened", *[status.lower()][: len(events) - 1]],
    )
    assert restored.events == events
    assert (await restored.here.verify(session))[0].payment_status == status
    assert await restored.tell(session) is ToldResult.KNOWN
    assert (len(restored.payments), restored.events) == (1, events)


async def test_a_new_create_answers_an_adopted_open_session_instead_of_a_second_payable_one(restored: Restored) -> None:
    session = await restored.session()
    await restored.tell(session)
    again = await restored.here.create(bookingId=1, userId=7, amount="12.50")
    assert (again.session_id, restored.gateway.payable) == (session, 1)


async def test_many_replicas_that_are_told_at_once_adopt_one_payment(restored: Restored) -> None:
    session = await restored.session(stands=PAID)
    replicas = [restored.here, *(restored.here.replica() for _ in range(4))]
    tell = (each.told_sessions.apply(restored.told(session), context=context()) for each in replicas)
    results = [each.result for each in await asyncio.gather(*tell)]
    assert len(restored.payments) == 1
    assert restored.payments[0].status is COMPLETED
    assert restored.events == ["pending", "completed"]
    assert set(results) <= {ToldResult.ADOPTED, ToldResult.CHANGED, ToldResult.KNOWN}


async def test_an_older_state_that_is_told_late_changes_nothing(restored: Restored) -> None:
    session = await restored.session()
    early = restored.told(session)
    restored.gateway.pay(session)
    assert await restored.tell(session) is ToldResult.ADOPTED
    assert await restored.tell(early) is ToldResult.KNOWN
    assert restored.payments[0].status is COMPLETED


async def test_a_session_whose_create_never_heard_the_answer_belongs_to_its_payment(restored: Restored) -> None:
    restored.gateway.lost_answers = 10
    with pytest.raises(Exception, match="did not answer in time"):
        await restored.here.create(bookingId=5, userId=7, amount="12.50")
    restored.gateway.lost_answers = 0
    [session] = restored.gateway.made
    restored.gateway.pay(session)
    assert await restored.tell(session) is ToldResult.CHANGED
    [payment] = restored.payments
    assert (payment.session_id, payment.status) == (session, COMPLETED)


@pytest.mark.parametrize("stands", [PAID, Open(), Processing()], ids=["paid", "open", "processing"])
@pytest.mark.parametrize("live", [PENDING, COMPLETED])
async def test_a_second_session_of_a_booking_calls_a_person_once(
    restored: Restored, stands: Outcome, live: PaymentStatus, caplog: pytest.LogCaptureFixture
) -> None:
    """The booking was checked out again after the restore, so the old session may be money that nobody owes."""
    old = await restored.session(booking=3, stands=stands)
    new = (await restored.here.create(bookingId=3, userId=7, amount="99.00")).session_id
    if live is COMPLETED:
        restored.gateway.pay(new)
        await restored.here.verify(new)
    results = [await restored.tell(old) for _ in range(3)]
    assert results == [ToldResult.ATTENTION, ToldResult.KNOWN, ToldResult.KNOWN]
    [payment] = restored.payments
    assert (payment.session_id, payment.status, payment.attention) == (new, live, "unknown_session")
    assert restored.events[-1] == "attention"
    [entry] = [entry for entry in await restored.here.store.journal(payment.id) if entry.kind == "attention"]
    assert entry.detail["session"] == old
    assert [vars(record)["session"] for record in caplog.records if record.levelno == logging.ERROR] == [old]


@pytest.mark.parametrize("stands", [PAID, Open()], ids=["paid", "open"])
@pytest.mark.parametrize("amount", ["12.50", "99.00"], ids=["renewed", "replaced"])
async def test_a_payment_whose_terms_came_to_nothing_makes_way_for_the_session_that_followed(
    restored: Restored, amount: str, stands: Outcome
) -> None:
    """The copy was made between the two: it has the payment as it was, and not what it became, or what replaced it."""
    [begun] = await restored.copied_before_a_session(made=False)
    session = (await restored.before.create(bookingId=1, userId=7, amount=amount)).session_id
    if isinstance(stands, Paid):
        restored.gateway.pay(session)
    assert await restored.tell(session) is ToldResult.ADOPTED
    old, adopted = restored.payments
    assert (old.id, old.status, old.reason, old.session_id) == (begun.id, FAILED, "replaced", None)
    assert (adopted.session_id, adopted.status) == (session, COMPLETED if isinstance(stands, Paid) else PENDING)
    assert (adopted.open_attention, restored.gateway.payable) == (None, 1)
    assert await restored.tell(session) is ToldResult.KNOWN


@pytest.mark.parametrize("is_stored", [True, False])
async def test_a_payment_whose_session_has_ended_makes_way_for_the_one_that_followed(
    restored: Restored, *, is_stored: bool
) -> None:
    [begun] = await restored.copied_before_a_session(made=True)
    session = (await restored.before.create(bookingId=1, userId=7, amount="99.00")).session_id
    first = next(iter(restored.gateway.made))
    if is_stored:
        restored.here.store.put_back([replace(begun, session_id=first)])
    assert await restored.tell(session) is ToldResult.ADOPTED
    old, adopted = restored.payments
    assert (old.id, old.status, old.session_id) == (begun.id, FAILED, first)
    assert (adopted.session_id, adopted.status, adopted.open_attention) == (session, PENDING, None)


async def test_a_payment_whose_create_may_still_be_running_makes_way_for_none(restored: Restored) -> None:
    lost = await restored.session(stands=PAID)
    other = World(gateway=restored.gateway, clock=restored.before.clock)
    restored.gateway.fault = UnknownCause.FAILED
    with pytest.raises(GatewayFailedError):
        await other.create(bookingId=1, userId=7, amount="99.00")
    restored.gateway.fault = None
    restored.here.store.put_back(list(other.store.payments.values()))
    assert await restored.tell(lost) is ToldResult.ATTENTION
    [payment] = restored.payments
    assert (payment.status, payment.attention) == (PENDING, "unknown_session")


@pytest.mark.parametrize("made", [True, False])
@pytest.mark.parametrize("cause", [getattr(UnknownCause, name) for name in ("FAILED", "TIMEOUT", "BUSY", "DENIED")])
async def test_while_the_gateway_cannot_be_asked_about_the_bookings_payment_nothing_is_decided(
    restored: Restored, cause: UnknownCause, *, made: bool
) -> None:
    """A person who is called keeps the session from becoming a payment, and its payer from hearing that it is paid."""
    await restored.copied_before_a_session(made=made)
    session = (await restored.before.create(bookingId=1, userId=7, amount="99.00")).session_id
    restored.gateway.pay(session)
    told_of = restored.told(session)
    restored.gateway.fault = cause
    assert await restored.here.told_sessions.apply(told_of, context=context()) == Unknown(cause=cause)
    [payment] = restored.payments
    assert (payment.status, payment.attention) == (PENDING, None)
    restored.gateway.fault = None
    assert await restored.tell(told_of) is ToldResult.ADOPTED
    assert [(each.status, each.attention) for each in restored.payments] == [(FAILED, None), (COMPLETED, None)]


async def test_of_a_payment_that_the_gateway_makes_no_sense_of_a_person_is_called(restored: Restored) -> None:
    """It would make none the next time either."""
    await restored.copied_before_a_session(made=False)
    session = (await restored.before.create(bookingId=1, userId=7, amount="99.00")).session_id
    restored.gateway.pay(session)
    told_of = restored.told(session)
    restored.gateway.fault = UnknownCause.UNREADABLE
    assert await restored.tell(told_of) is ToldResult.ATTENTION
    [payment] = restored.payments
    assert (payment.status, payment.attention) == (PENDING, "unknown_session")


async def test_each_second_session_of_a_booking_calls_a_person(restored: Restored) -> None:
    old = [await restored.session(booking=3, stands=PAID)]
    other = World(gateway=restored.gateway, clock=restored.before.clock)
    old.append((await other.create(bookingId=3, userId=7, amount="1.00")).session_id)
    restored.gateway.pay(old[1])
    await restored.here.create(bookingId=3, userId=7, amount="99.00")
    assert [await restored.tell(session) for session in old] == [ToldResult.ATTENTION] * 2
    assert restored.events == ["pending", "attention", "attention"]


@pytest.mark.parametrize("outcome", ["refused", "expired", "paid"])
async def test_attention_for_another_session_outlives_whatever_becomes_of_the_payment(
    restored: Restored, outcome: str
) -> None:
    lost = await restored.session(stands=PAID)
    created = await restored.here.create(bookingId=1, userId=7, amount="99.00")
    await restored.tell(lost)
    [payment] = restored.payments
    fitting = Paid(money=payment.money, reference=payment.reference, livemode=False)
    said = {"refused": Refused(), "expired": Expired(), "paid": fitting}[outcome]
    await restored.here.outcomes.apply(payment, said, context=context())
    [payment] = restored.payments
    assert (payment.session_id, payment.status.is_final) == (created.session_id, True)
    assert payment.open_attention == "unknown_session"


async def test_of_what_a_person_has_dealt_with_nobody_is_told_again_whatever_the_booking_does(
    restored: Restored,
) -> None:
    lost = await restored.session(stands=PAID)
    await restored.here.create(bookingId=1, userId=7, amount="99.00")
    assert await restored.tell(lost) is ToldResult.ATTENTION
    [payment] = restored.payments
    ended = close(payment, Expired(), at=NOW, by="an operator", why="refunded")
    await restored.here.store.record(ended, context=context())
    assert await restored.tell(lost) is ToldResult.KNOWN
    await restored.here.create(bookingId=1, userId=7, amount="99.00")
    assert await restored.tell(lost) is ToldResult.KNOWN
    assert [each.open_attention for each in restored.payments] == [None, None]


async def test_an_expired_session_of_a_booking_that_was_checked_out_again_is_no_news(restored: Restored) -> None:
    old = await restored.session(booking=3, stands=Expired())
    await restored.here.create(bookingId=3, userId=7, amount="99.00")
    assert await restored.tell(old) is ToldResult.KNOWN
    assert (len(restored.payments), restored.events) == (1, ["pending"])


async def test_money_for_a_failed_payment_calls_a_person_once(restored: Restored) -> None:
    session = (await restored.here.create(bookingId=1)).session_id
    restored.gateway.let_expire(session)
    await restored.here.verify(session)
    payment = restored.payments[0]
    fitting = Paid(money=payment.money, reference=payment.reference, livemode=False)
    paid = replace(restored.told(session), outcome=fitting)
    assert [await restored.tell(paid) for _ in range(2)] == [ToldResult.ATTENTION, ToldResult.KNOWN]
    payment = restored.payments[0]
    assert (payment.status, payment.attention) == (FAILED, "paid_after_failed")
    assert restored.events == ["pending", "failed", "attention"]


async def test_a_completed_payment_is_silent_unless_the_money_differs(restored: Restored) -> None:
    session = (await restored.here.create(bookingId=1)).session_id
    restored.gateway.pay(session)
    await restored.here.verify(session)
    assert await restored.tell(session) is ToldResult.KNOWN
    other = replace(restored.told(session), outcome=replace(PAID, reference=restored.payments[0].reference))
    assert await restored.tell(other) is ToldResult.ATTENTION
    assert (restored.payments[0].status, restored.payments[0].attention) == (COMPLETED, "paid_differently")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda session: replace(session, booking_id=None),
        lambda session: replace(session, user_id=None),
        lambda session: replace(session, money=None),
        lambda session: replace(session, money=Money(0, "inr")),
        lambda session: replace(session, expires_at=None),
        lambda session: replace(session, livemode=True),
    ],
    ids=["booking", "user", "money", "no money", "end", "mode"],
)
async def test_what_no_payment_can_stand_for_is_an_error_in_the_log(
    restored: Restored, spoil: Callable[[ToldSession], ToldSession], caplog: pytest.LogCaptureFixture
) -> None:
    session = await restored.session(stands=PAID)
    assert await restored.tell(spoil(restored.told(session))) is ToldResult.UNATTACHED
    assert restored.payments == []
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert vars(record)["session"] == session


async def test_a_strangers_session_is_ignored(restored: Restored, caplog: pytest.LogCaptureFixture) -> None:
    session = await restored.session(stands=PAID)
    stranger = replace(restored.told(session), reference=None)
    assert await restored.tell(stranger) is ToldResult.STRANGER
    assert (restored.payments, caplog.records) == ([], [])
