"""The gateway's sessions against the payments here: each difference is told, and what may be mended is."""

from contextlib import aclosing
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from service.application.differences import Difference, DifferenceKind, described, sentence
from service.application.event_reader import UnreadError
from service.application.ports import Store, ToldSession
from service.application.reconciliation import Stretch
from service.domain.money import Money
from service.domain.outcomes import Expired, Open, Outcome, Paid, Processing, Unknown, UnknownCause
from service.domain.payment import Payment, PaymentStatus
from tests.kit.clock import NOW
from tests.kit.fake_store import FakeStore
from tests.kit.world import World

K = DifferenceKind
COMPLETED, FAILED, PENDING = PaymentStatus.COMPLETED, PaymentStatus.FAILED, PaymentStatus.PENDING
HOUR = timedelta(hours=1)


class Books:
    """A record and a gateway that may differ."""

    def __init__(self) -> None:
        self.world = World()
        self.gateway = self.world.gateway
        self.store: FakeStore = self.world.store

    async def session(self, booking: int, status: PaymentStatus = PENDING, stands: Outcome | None = None) -> str:
        """A checkout of which the record says this, and the gateway that; nobody else has noticed."""
        session = str((await self.world.create(bookingId=booking, userId=7, amount="12.50")).session_id)
        payment = await self.payment(session)
        reason = "expired" if status is FAILED else None
        self.store.payments[payment.id] = replace(payment, status=status, reason=reason)
        if isinstance(stands, Paid):
            self.gateway.pay(session)
        elif stands is not None:
            self.gateway.stand(session, stands)
        return session

    async def payment(self, session: str) -> Payment:
        payment = await self.store.payment_of_session(session)
        assert payment is not None
        return payment

    def forget(self) -> None:
        """The record is put back to an empty copy."""
        self.store = FakeStore()
        self.world = self.world.replica(store=self.store)

    async def stretches(
        self, *, fix: bool = False, since: datetime = NOW - HOUR, until: datetime = NOW + HOUR
    ) -> list[Stretch]:
        async with aclosing(self.world.reconciliation.run(since=since, until=until, fix=fix)) as stretches:
            return [stretch async for stretch in stretches]

    async def differences(self, *, fix: bool = False) -> list[Difference]:
        return [each for stretch in await self.stretches(fix=fix) for each in stretch.differences]

    async def kinds(self) -> list[DifferenceKind]:
        return [each.kind for each in await self.differences()]


@pytest.fixture
def books() -> Books:
    return Books()


PAID = Paid(money=Money(1, "inr"), reference=None, livemode=False)
UNREADABLE = Unknown(cause=UnknownCause.UNREADABLE)


@pytest.mark.parametrize(
    ("status", "stands", "kind", "becomes"),
    [
        (PENDING, PAID, K.PAID_THERE, COMPLETED),
        (PENDING, Expired(), K.ENDED_THERE, FAILED),
        (FAILED, PAID, K.FAILED_PAID, None),
        (FAILED, Open(), K.FAILED_OPEN, None),
        (FAILED, Processing(), K.FAILED_OPEN, None),
        (COMPLETED, Open(), K.NOT_PAID, None),
        (COMPLETED, Expired(), K.NOT_PAID, None),
        (PENDING, UNREADABLE, K.UNREADABLE, None),
    ],
)
async def test_a_difference_is_told_and_mended_where_the_status_table_allows_it(
    books: Books, status: PaymentStatus, stands: Outcome, kind: DifferenceKind, becomes: PaymentStatus | None
) -> None:
    session = await books.session(41, status, stands)
    [found] = await books.differences()
    assert (found.kind, found.done, found.is_mended) == (kind, "", False)
    assert (await books.payment(session)).status is status
    [found] = await books.differences(fix=True)
    assert (found.kind, found.is_mended) == (kind, becomes is not None)
    assert (await books.payment(session)).status is (becomes or status)
    assert await books.kinds() == ([] if becomes else [kind])


@pytest.mark.parametrize(
    ("status", "stands"), [(PENDING, Open()), (PENDING, Processing()), (COMPLETED, PAID), (FAILED, Expired())]
)
async def test_what_agrees_is_no_difference(books: Books, status: PaymentStatus, stands: Outcome) -> None:
    await books.session(41, status, stands)
    [*_, last] = stretches = await books.stretches()
    assert last.until == NOW + HOUR
    assert [(s.sessions, s.payments) for s in stretches if s.sessions or s.payments]
    assert sum(s.sessions for s in stretches) == sum(s.payments for s in stretches) == 1
    assert not [each for stretch in stretches for each in stretch.differences]


async def test_what_can_take_no_money_is_no_difference_while_a_person_keeps_its_booking(books: Books) -> None:
    lost = await books.session(41, FAILED, Expired())
    del books.store.payments[(await books.payment(lost)).id]
    late = await books.payment(await books.session(41, FAILED, PAID))
    late = replace(late, status=FAILED, reason="expired", attention="paid_after_failed", closed_at=None)
    books.store.payments[late.id] = late
    assert K.UNKNOWN_HERE not in await books.kinds()
    books.store.payments[late.id] = replace(late, closed_at=NOW)
    assert K.UNKNOWN_HERE in await books.kinds(), "the booking is free, and the session becomes a payment"


@pytest.mark.parametrize(
    ("stands", "becomes"), [(PAID, COMPLETED), (Open(), PENDING), (Processing(), PENDING), (Expired(), FAILED)]
)
async def test_a_session_that_is_unknown_here_becomes_a_payment(
    books: Books, stands: Outcome, becomes: PaymentStatus
) -> None:
    session = await books.session(41, PENDING, stands)
    books.forget()
    assert await books.kinds() == [K.UNKNOWN_HERE]
    [found] = await books.differences(fix=True)
    assert (found.kind, found.done, found.is_mended) == (K.UNKNOWN_HERE, "adopted", True)
    assert (await books.payment(session)).status is becomes
    assert await books.kinds() == []


async def test_a_second_session_of_a_booking_calls_a_person_and_stays_a_difference(books: Books) -> None:
    old = await books.session(41, PENDING, PAID)
    books.forget()
    await books.session(41)
    [found] = await books.differences(fix=True)
    assert (found.kind, found.done, found.is_mended) == (K.SECOND_SESSION, "attention", False)
    assert found.session is not None
    assert found.session.session_id == old
    [again] = await books.differences(fix=True)
    assert (again.kind, again.done, again.payment and again.payment.attention) == (
        K.SECOND_SESSION,
        "known",
        "unknown_session",
    )


async def test_a_session_that_says_too_little_for_a_payment_is_a_persons(books: Books) -> None:
    session = await books.session(1, stands=Paid(money=Money(1250, "inr"), reference="r", livemode=False))
    told = await books.gateway.retrieve(session, timeout_seconds=1)
    assert isinstance(told, ToldSession)
    found = Difference(kind=K.UNKNOWN_HERE, payment=None, session=replace(told, booking_id=None))
    assert sentence(found).startswith(f"unknown_here: no booking, no payment here, {session} is paid at Stripe")
    assert sentence(found).endswith("nothing: it does not say enough for a payment, look the session up at Stripe")
    assert described(replace(found, session=told))["mending"] == "make a payment of it"


async def test_other_money_calls_a_person(books: Books) -> None:
    session = await books.session(41)
    books.gateway.pay(session, money=Money(99, "inr"))
    [found] = await books.differences(fix=True)
    assert (found.kind, found.is_mended) == (K.MONEY_DIFFERS, False)
    assert (await books.payment(session)).attention == "paid_differently"
    assert "12.50" in sentence(found)
    assert described(found)["amountThere"] == str(Money(99, "inr"))


async def test_a_payment_whose_session_the_gateway_does_not_know_is_told(books: Books) -> None:
    session = await books.session(41)
    del books.gateway.made[session]
    [found] = await books.differences(fix=True)
    assert (found.kind, found.session, found.is_mended) == (K.MISSING, None, False)
    assert session in sentence(found)


async def test_a_payment_whose_session_was_made_much_later_is_compared_all_the_same(books: Books) -> None:
    session = await books.session(41, PENDING, PAID)
    payment = await books.payment(session)
    books.store.payments[payment.id] = replace(payment, created_at=NOW - timedelta(minutes=50))
    assert await books.kinds() == [K.PAID_THERE]
    books.gateway.made[session].payment = replace(payment, created_at=NOW + 3 * HOUR)
    assert await books.kinds() == [K.PAID_THERE]


@pytest.mark.parametrize("minutes", [0, 2])
async def test_a_session_whose_create_never_heard_the_answer_is_stored(books: Books, minutes: int) -> None:
    """For a minute the create may still be running."""
    session = await books.session(41)
    payment = await books.payment(session)
    books.store.payments[payment.id] = replace(payment, session_id=None, payment_url=None, version=0)
    books.world.clock.advance(minutes * 60)
    assert await books.kinds() == ([K.NOT_STORED] if minutes else [])
    if minutes:
        [found] = await books.differences(fix=True)
        assert found.is_mended
        assert (await books.payment(session)).status is PENDING


async def test_what_is_written_while_the_comparison_waits_is_no_difference(books: Books) -> None:
    """The event feed is about to write it: a comparison beside a working service is quiet."""
    paid, session = await books.session(41, PENDING, PAID), await books.session(42, COMPLETED, Open())
    payment = await books.payment(paid)

    class Feeding:
        """The store, in which both payments agree as soon as they are read one by one."""

        def __getattr__(self, name: str) -> object:
            return getattr(books.store, name)

        async def payment_of_session(self, session_id: str) -> Payment | None:
            books.store.payments[payment.id] = replace(payment, status=COMPLETED)
            books.gateway.made[session].stands = Paid(money=payment.money, reference=None, livemode=False)
            return await books.store.payment_of_session(session_id)

    store: Store = Feeding()  # type: ignore[assignment]
    books.world.reconciliation.store = store
    assert await books.kinds() == []


async def test_a_session_is_mended_once_its_bookings_payment_can_be_asked_about(books: Books) -> None:
    """The copy has the payment whose end made room for the session."""
    copy = [await books.payment(await books.session(41, PENDING, Expired()))]
    session = (await books.world.create(bookingId=41, userId=7, amount="99.00")).session_id
    books.gateway.pay(session)
    books.store.put_back(copy)
    books.gateway.lost_answers = 1
    found = await books.differences(fix=True)
    assert (session, "adopted", True) in [
        (each.session and each.session.session_id, each.done, each.is_mended) for each in found
    ]
    assert ((await books.payment(session)).status, await books.kinds()) == (COMPLETED, [])


async def test_any_number_of_sessions_is_gone_through_in_short_stretches_oldest_first(books: Books) -> None:
    at_most = 20
    books.gateway.page = 7
    sessions = []
    for number in range(120):
        sessions.append(await books.session(number + 1, PENDING, PAID))
        books.world.clock.advance(10)
    books.forget()
    books.world.reconciliation.many = at_most
    stretches = await books.stretches(fix=True)
    assert max(stretch.sessions for stretch in stretches) <= at_most + books.gateway.page
    found = [each.session.session_id for stretch in stretches for each in stretch.differences if each.session]
    assert found == sessions
    assert [stretch.until for stretch in stretches] == sorted(stretch.until for stretch in stretches)
    assert sum(stretch.payments for stretch in stretches) == 120


async def test_years_in_which_little_happened_take_few_calls(books: Books) -> None:
    await books.session(41)
    books.gateway.calls.clear()
    await books.stretches(since=NOW - timedelta(days=3650))
    assert len(books.gateway.calls) < 200


async def test_a_gateway_that_cannot_be_asked_ends_it_and_it_goes_on_from_there(books: Books) -> None:
    books.gateway.fault = UnknownCause.DENIED
    with pytest.raises(UnreadError):
        await books.stretches()
    books.gateway.fault = None
    assert (await books.stretches())[-1].until == NOW + HOUR
