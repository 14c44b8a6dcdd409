"""What the feed reads: from where, how far back, and what becomes of the events."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from service.application.event_reader import CLOCK_SKEW, LONG_OVERLAP, OVERLAP, RETENTION
from service.application.ports import EventPage, SessionEvent
from service.domain.money import Money
from service.domain.outcomes import Outcome, Paid, Processing, Unknown
from service.domain.payment import PaymentStatus
from tests.kit.clock import MovableClock
from tests.unit.service.workers.feeds import COMPLETED, FAILED, OFTEN, PENDING, House, until


@pytest.fixture
def house() -> House:
    return House()


OTHER_MONEY = Paid(money=Money(1, "inr"), reference=None, livemode=False)


def reported(house: House, session: str, outcome: Outcome | None) -> None:
    """Paid, and the event says this."""
    house.gateway.pay(session)
    house.gateway._told[-1] = replace(house.gateway._told[-1], outcome=outcome)


def paid_slowly(house: House, session: str) -> None:
    """Two events, of which one says how the session ended."""
    house.gateway.stand(session, Processing())
    payment = house.payment(session)
    house.gateway.stand(session, Paid(money=payment.money, reference=payment.reference, livemode=False))
    house.gateway.tell(SessionEvent(id="evt_x", at=house.clock.now(), session_id=session, outcome=None))


@pytest.mark.parametrize(
    ("happens", "status", "look_ups"),
    [
        (lambda house, session: house.gateway.pay(session), COMPLETED, 0),
        (lambda house, session: house.gateway.let_expire(session), FAILED, 0),
        (lambda house, session: reported(house, session, None), COMPLETED, 1),
        (lambda house, session: reported(house, session, OTHER_MONEY), COMPLETED, 1),
        (lambda house, session: house.gateway.pay(session, money=Money(1, "inr")), PENDING, 1),
        (lambda house, session: house.gateway.stand(session, Processing()), PENDING, 1),
        (paid_slowly, COMPLETED, 0),
    ],
    ids=["paid", "expired", "unclear", "seems to be other money", "other money", "processing", "two events"],
)
async def test_what_happens_to_a_session_is_stored_once_with_nobody_asking(
    house: House,
    happens: Callable[[House, str], None],
    status: PaymentStatus,
    look_ups: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What an event does not say clearly is looked up, and so is other money before a person is called."""
    session, waiting = await house.create(1), await house.create(2)
    happens(house, session)
    called = status is PENDING and not isinstance(house.gateway.made[session].stands, Processing)
    async with house.reading(interval=OFTEN):
        await until(lambda: house.reads >= 20)
    assert (house.status(session), house.status(waiting)) == (status, PENDING)
    assert house.payment(session).attention == ("paid_differently" if called else None)
    assert [vars(record).get("reason") for record in caplog.records] == ["paid_differently"] * called
    assert house.gateway.calls.count("look_up") == look_ups
    assert len(house.store.outbox.events) == 2 + (status is not PENDING or called)
    assert house.counts["feed_events"] == len(house.gateway._told)
    assert (house.counts["feed_finished"], house.counts["feed_failure"]) == (status is not PENDING, 0)


@pytest.mark.parametrize("order", [1, -1], ids=["in order", "out of order"])
async def test_a_delayed_payment_that_fails_calls_a_person_once_and_not_only_when_its_time_is_over(
    house: House, order: int
) -> None:
    """No state of the session says it. What the event says is held against the session as it is now."""
    failed, succeeded = await house.create(1), await house.create(2)
    at = house.clock.now()
    for session in (failed, succeeded):
        house.gateway.stand(session, Processing())
        told = [SessionEvent(id=f"evt_{session}", at=at, session_id=session, outcome=None, has_failed=True)]
        told.append(replace(told[0], id=f"evt_old_{session}", has_failed=False))
        for event in told[::order]:
            house.gateway.tell(event)
    payment = house.payment(succeeded)
    house.gateway.stand(succeeded, Paid(money=payment.money, reference=payment.reference, livemode=False))
    for _ in range(2):
        await house.read_once()
    assert (house.status(failed), house.payment(failed).open_attention) == (PENDING, "unsettled")
    assert house.payment(failed).needs_person
    assert (house.status(succeeded), house.payment(succeeded).attention) == (COMPLETED, None)
    assert len(house.store.outbox.events) == 4


async def test_a_first_read_goes_back_to_the_oldest_pending_payment(house: House) -> None:
    created_at = house.clock.now()
    await house.create()
    house.clock.advance(7200)
    await house.create(2)
    await house.read_once()
    assert house.gateway.asked == [created_at - CLOCK_SKEW]
    assert (house.events_calls, house.counts["feed_page"]) == (1, 1)


@pytest.mark.parametrize(("days_ago", "since"), [(3, LONG_OVERLAP + timedelta(days=3)), (40, RETENTION)])
async def test_later_reads_go_on_from_the_last_one_however_long_ago_it_was(
    house: House, days_ago: int, since: timedelta
) -> None:
    """Meanwhile a session that this record does not know may have been paid."""
    now = house.clock.now()
    house.cursor.read_until = now - timedelta(days=days_ago)
    await house.create()
    await house.read_once()
    assert house.gateway.asked == [now - since]


async def test_the_next_leader_reads_the_last_seconds_again(house: House) -> None:
    await house.create()
    session = await house.create(2)
    house.gateway.pay(session)
    read_until = house.clock.now()
    await house.read_once()
    assert house.cursor.read_until == read_until
    house.clock.advance(600)
    await house.read_once()
    assert house.gateway.asked[-1] == read_until - LONG_OVERLAP


async def test_most_readings_go_back_a_little_and_one_now_and_then_more(house: House) -> None:
    await house.create()
    session = await house.create(2)
    house.gateway.pay(session)
    read_until = house.clock.now()
    async with house.reading(interval=OFTEN, long_every=0.05):
        await until(lambda: house.gateway.asked.count(read_until - LONG_OVERLAP) >= 2)
        await until(lambda: house.gateway.asked.count(read_until - OVERLAP) >= 2)
    assert set(house.gateway.asked) == {read_until - back for back in (CLOCK_SKEW, OVERLAP, LONG_OVERLAP)}


@pytest.mark.parametrize("seconds", [10, 100, 800])
async def test_an_event_that_is_seen_late_is_found_by_an_overlap(house: House, seconds: int) -> None:
    sessions = [await house.create(booking) for booking in (1, 2, 3)]
    early = house.clock.now()
    house.clock.advance(seconds)
    house.gateway.pay(sessions[0])
    async with house.reading(interval=OFTEN, long_every=0.01):
        await until(lambda: house.status(sessions[0]) is COMPLETED)
        payment = house.payment(sessions[1])
        fitting = Paid(money=payment.money, reference=payment.reference, livemode=False)
        house.gateway._told.insert(0, SessionEvent(id="evt_late", at=early, session_id=sessions[1], outcome=fitting))
        await until(lambda: house.status(sessions[1]) is COMPLETED)


async def test_an_event_that_is_dated_in_the_future_hides_nothing_that_comes_until_then(house: House) -> None:
    """The provider's clock was an hour ahead when a stranger paid, and was then put right."""
    sessions = [await house.create(booking) for booking in (1, 2)]
    paid = Paid(money=Money(1, "eur"), reference=None, livemode=False)
    at = house.clock.now() + timedelta(hours=1)
    house.gateway.tell(SessionEvent(id="evt_ahead", at=at, session_id="cs_test_other", outcome=paid))
    async with house.reading(interval=OFTEN):
        await until(lambda: house.reads > 0)
        for session in sessions:
            house.clock.advance(30)
            house.gateway.pay(session)
            house.gateway._told.sort(key=lambda event: event.at)
            await until(lambda session=session: house.status(session) is COMPLETED)
            await until(lambda: house.cursor.read_until == house.clock.now())


async def test_a_stored_mark_that_is_yet_to_come_is_repaired_and_told(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    session = await house.create()
    house.gateway.pay(session)
    house.cursor.read_until = house.clock.now() + timedelta(hours=1)
    await house.read_once()
    assert house.status(session) is COMPLETED
    assert house.cursor.read_until == house.clock.now()
    [line] = [record.message for record in caplog.records if "yet to come" in record.message]
    assert "were marked as read until 2026-03-02 13:00" in line


@pytest.mark.parametrize("has_read", [True, False])
@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_gateway_whose_clock_is_off_from_some_moment_on_is_heard(
    house: House, caplog: pytest.LogCaptureFixture, *, hours: int, has_read: bool
) -> None:
    """What it dates an hour ago is as new as what it dates now."""
    sessions = [await house.create(booking) for booking in range(1, 5)]
    house.gateway.pay(sessions[0])
    if has_read:
        await house.read_once()
    house.gateway.ahead = timedelta(hours=hours)
    house.gateway._clock = theirs = MovableClock(house.clock.now() + house.gateway.ahead)
    async with house.reading(interval=OFTEN):
        for session in sessions[1:3]:
            for clock in (house.clock, theirs):
                clock.advance(30)
            house.gateway.pay(session)
            house.gateway._told.sort(key=lambda event: event.at)
            await until(lambda session=session: house.status(session) is COMPLETED)
    assert len([record for record in caplog.records if "yet to come" in record.message]) == (has_read and hours < 0)


async def test_a_replica_whose_clock_is_wrong_judges_marks_by_the_databases(house: House) -> None:
    session = await house.create()
    house.cursor.clock = MovableClock(house.clock.now() + timedelta(hours=2))
    house.cursor.read_until = house.clock.now() + timedelta(hours=1)
    house.gateway._clock = house.cursor.clock
    house.gateway.pay(session)
    await house.read_once()
    assert house.status(session) is COMPLETED
    assert house.gateway.asked == [house.clock.now() + timedelta(hours=1) - LONG_OVERLAP]
    assert house.cursor.read_until == house.cursor.clock.now()


async def test_a_session_that_no_payment_here_has_is_adopted_even_if_nothing_is_pending(house: House) -> None:
    """As after the database was put back to an older copy."""
    session = await house.create()
    house.gateway.pay(session)
    house.store.payments.clear()
    async with house.reading(interval=OFTEN, idle=OFTEN):
        await until(lambda: house.reads > 20)
    assert house.status(session) is COMPLETED
    assert house.counts["told_session adopted"] == 1
    assert house.gateway.calls.count("retrieve") == 1


async def test_money_for_a_failed_payment_calls_a_person_once(house: House) -> None:
    session, _ = await house.create(1), await house.create(2)
    house.gateway.let_expire(session)
    await house.read_once()
    payment = house.payment(session)
    house.gateway.stand(session, Paid(money=payment.money, reference=payment.reference, livemode=False))
    for _ in range(2):
        await house.read_once()
    assert (house.status(session), house.payment(session).attention) == (FAILED, "paid_after_failed")
    assert [event.type.split(".")[-2] for event in house.store.outbox.events].count("attention") == 1


async def test_an_unknown_session_that_cannot_be_asked_about_is_asked_about_again(house: House) -> None:
    session, _ = await house.create(1), await house.create(2)
    house.gateway.pay(session)
    made = house.gateway.made.pop(session)
    del house.store.payments[house.payment(session).id]
    async with house.reading(interval=OFTEN):
        await until(lambda: house.counts["feed_failure"] > 1)
        house.gateway.made[session] = made
        await until(lambda: house.counts["told_session adopted"] == 1)
    assert house.status(session) is COMPLETED


async def test_an_unknown_session_waits_until_its_bookings_payment_can_be_asked_about(house: House) -> None:
    """The copy has the payment whose end made room for the session."""
    ended, _ = await house.create(1), await house.create(2)
    copy = list(house.store.payments.values())
    house.gateway.let_expire(ended)
    await house.read_once()
    session = await house.create(1)
    house.gateway._told.clear()
    house.gateway.pay(session)
    house.store.put_back(copy)
    house.gateway.lost_answers = 2
    async with house.reading(interval=OFTEN):
        await until(lambda: house.counts["told_session adopted"] == 1)
    assert [house.payment(each).open_attention for each in (ended, session)] == [None, None]
    assert (house.status(ended), house.status(session)) == (FAILED, COMPLETED)
    assert house.counts["feed_failure"] == 2


async def test_strangers_are_ignored(house: House) -> None:
    ours = await house.create()
    for number in range(3):
        paid = Paid(money=Money(1, "eur"), reference=None, livemode=False)
        told = SessionEvent(id=f"evt_{number}", at=house.clock.now(), session_id=f"cs_test_other{number}", outcome=paid)
        house.gateway.tell(told)
    await house.read_once()
    assert house.counts["feed_events"] == 3
    assert house.counts["feed_finished"] == 0
    assert house.status(ours) is PENDING
    assert house.cursor.read_until == house.clock.now()


async def test_full_pages_are_read_on_at_once(house: House) -> None:
    sessions = [await house.create(booking) for booking in range(1, 26)]
    house.gateway.page = 10
    for session in sessions[:24]:
        house.clock.advance(1)
        house.gateway.pay(session)
    await house.read_once()
    assert [house.status(each) for each in sessions] == [COMPLETED] * 24 + [PENDING]
    assert house.counts["feed_page"] == house.events_calls == 3
    assert house.cursor.read_until == house.clock.now()


async def test_who_pays_while_much_is_caught_up_does_not_wait_for_it(house: House) -> None:
    old = [await house.create(booking) for booking in range(1, 4)]
    new = await house.create(9)
    house.gateway.page = 1
    for session in old:
        house.clock.advance(60)
        house.gateway.pay(session)
    gate = asyncio.Event()
    first = house.gateway.events

    async def slowly(*, since: datetime, after: str | None = None, timeout_seconds: float) -> EventPage | Unknown:
        if after is not None and since < house.clock.now() - timedelta(minutes=3):
            await gate.wait()
        return await first(since=since, after=after, timeout_seconds=timeout_seconds)

    house.gateway.events = slowly  # type: ignore[method-assign]
    async with house.reading(interval=OFTEN):
        await until(lambda: house.status(old[2]) is COMPLETED)
        house.clock.advance(60)
        house.gateway.pay(new)
        await until(lambda: house.status(new) is COMPLETED)
        assert house.status(old[0]) is PENDING
        assert (house.cursor.read_until, house.cursor.advances, house.reads) == (None, [], 0)
        gate.set()
        await until(lambda: house.status(old[0]) is COMPLETED)
        await until(lambda: house.waiters.last_read_seconds_ago() < 60)
        assert house.cursor.read_until == house.clock.now()


async def test_events_that_the_gateway_forgot_are_made_up_for_by_the_sessions(house: House) -> None:
    paid, ended, waiting = [await house.create(booking) for booking in (1, 2, 3)]
    house.gateway.pay(paid)
    house.gateway.let_expire(ended)
    house.gateway._told.clear()
    house.clock.advance(timedelta(days=31).total_seconds())
    await house.read_once()
    assert [house.status(each) for each in (paid, ended, waiting)] == [COMPLETED, FAILED, PENDING]
    assert house.gateway.calls.count("sessions") == 1
    assert house.cursor.read_until == house.clock.now() - CLOCK_SKEW
    assert "look_up" not in house.gateway.calls
    await house.read_once()
    assert house.gateway.calls.count("sessions") == 1, "once is enough, although a payment is still that old"
    assert house.gateway.asked[-1] > house.clock.now() - RETENTION
    assert house.reads == 2


async def test_one_payment_that_cannot_be_finished_stops_no_other(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = await house.create(1), await house.create(2)
    house.gateway.pay(bad)
    house.gateway.pay(good)
    told = house.gateway._told
    told[0] = replace(told[0], outcome=None)
    session = house.gateway.made.pop(bad)
    async with house.reading(interval=OFTEN):
        await until(lambda: house.reads > 0)
        assert house.status(good) is COMPLETED
        assert house.status(bad) is PENDING
        assert house.counts["feed_failure"] > 0
        assert "payment 2 could not be finished" in caplog.text
        house.gateway.made[bad] = session
        await until(lambda: house.status(bad) is COMPLETED)
