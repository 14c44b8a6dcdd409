"""What the feed reads: from where, how far back, and what becomes of what it is told."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from service.application.news import News
from service.application.ports import Page, Told
from service.application.reading import CLOCK_SKEW, LONG_OVERLAP, OVERLAP, REACH
from service.domain.money import Money
from service.domain.outcomes import Expired, Paid, Processing, Unknown
from tests.unit.service.feeds import COMPLETED, FAILED, OFTEN, PENDING, House, until


@pytest.fixture
def house() -> House:
    return House()


async def test_what_was_paid_and_what_has_ended_is_known_with_nobody_asking(house: House) -> None:
    paid, ended, waiting = [await house.create(booking) for booking in (1, 2, 3)]
    house.gateway.pay(paid)
    house.gateway.let_expire(ended)
    feed = await house.read_once()
    assert [house.status(each) for each in (paid, ended, waiting)] == [COMPLETED, FAILED, PENDING]
    assert [event.type for event in house.store.outbox.events[-2:]] == [
        "com.bookticket.payment.completed.v1",
        "com.bookticket.payment.failed.v1",
    ]
    assert "look_up" not in house.gateway.calls
    assert (house.events_calls, feed.reader.pages) == (1, 1)
    heard = feed.reader.listener.counters
    assert (heard.told, heard.finished, heard.failures) == (2, 2, 0)


async def test_the_first_reading_goes_back_to_the_oldest_pending_payment(house: House) -> None:
    created_at = house.clock.now()
    await house.create()
    house.clock.advance(7200)
    await house.create(2)
    await house.read_once()
    assert house.gateway.asked == [created_at - CLOCK_SKEW]


async def test_while_nothing_was_pending_nothing_need_be_read(house: House) -> None:
    house.record.read_until = house.clock.now() - timedelta(days=3)
    await house.create()
    await house.read_once()
    assert house.gateway.asked == [house.clock.now() - CLOCK_SKEW]


async def test_the_next_leader_reads_the_last_seconds_again(house: House) -> None:
    await house.create()
    session = await house.create(2)
    house.gateway.pay(session)
    read_until = house.clock.now()
    await house.read_once()
    assert house.record.read_until == read_until
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


async def test_an_event_that_is_seen_late_is_found_by_the_overlap(house: House) -> None:
    sessions = [await house.create(booking) for booking in (1, 2, 3)]
    early = house.clock.now()
    house.clock.advance(10)
    house.gateway.pay(sessions[0])
    async with house.reading(interval=OFTEN, long_every=0.05):
        await until(lambda: house.status(sessions[0]) is COMPLETED)
        payment = house.payment(sessions[1])
        fitting = Paid(money=payment.money, reference=payment.reference, livemode=False)
        house.gateway._told.insert(0, Told(id="evt_late", at=early, session_id=sessions[1], outcome=fitting))
        await until(lambda: house.status(sessions[1]) is COMPLETED)


async def test_what_was_told_is_stored_once_and_looked_for_once(house: House) -> None:
    waiting, session = await house.create(), await house.create(2)
    house.gateway.pay(session)
    async with house.reading(interval=OFTEN) as feed:
        await until(lambda: feed.readings["complete"] >= 20)
    assert feed.reader.listener.counters.told == 1
    assert len(house.store.outbox.events) == 3
    assert house.status(waiting) is PENDING


async def test_strangers_are_ignored(house: House) -> None:
    ours = await house.create()
    for number in range(3):
        paid = Paid(money=Money(1, "eur"), reference=None, livemode=False)
        told = Told(id=f"evt_{number}", at=house.clock.now(), session_id=f"cs_test_other{number}", outcome=paid)
        house.gateway.tell(told)
    feed = await house.read_once()
    assert feed.reader.listener.counters.told == 3
    assert feed.reader.listener.counters.finished == 0
    assert house.status(ours) is PENDING
    assert house.record.read_until == house.clock.now()


async def test_full_pages_are_read_on_at_once(house: House) -> None:
    sessions = [await house.create(booking) for booking in range(1, 26)]
    house.gateway.page = 10
    for session in sessions[:24]:
        house.clock.advance(1)
        house.gateway.pay(session)
    feed = await house.read_once()
    assert [house.status(each) for each in sessions] == [COMPLETED] * 24 + [PENDING]
    assert feed.reader.pages == house.events_calls == 3
    assert house.record.read_until == house.clock.now()


async def test_who_pays_while_much_is_caught_up_does_not_wait_for_it(house: House) -> None:
    old = [await house.create(booking) for booking in range(1, 4)]
    new = await house.create(9)
    house.gateway.page = 1
    for session in old:
        house.clock.advance(60)
        house.gateway.pay(session)
    gate = asyncio.Event()
    first = house.gateway.events

    async def slowly(*, since: datetime, after: str | None = None, timeout_seconds: float) -> Page | Unknown:
        if after is not None and since < house.clock.now() - timedelta(minutes=3):
            await gate.wait()
        return await first(since=since, after=after, timeout_seconds=timeout_seconds)

    house.gateway.events = slowly  # type: ignore[method-assign]
    news = News()
    async with house.reading(house.feed(interval=OFTEN, news=news)) as feed:
        await until(lambda: house.status(old[2]) is COMPLETED)
        house.clock.advance(60)
        house.gateway.pay(new)
        await until(lambda: house.status(new) is COMPLETED)
        assert house.status(old[0]) is PENDING
        assert (house.record.read_until, house.record.told, feed.readings["complete"]) == (None, [], 0)
        gate.set()
        await until(lambda: house.status(old[0]) is COMPLETED)
        await until(lambda: news.last_read_seconds_ago() < 60)
        assert house.record.read_until == house.clock.now()


async def test_events_that_the_gateway_forgot_are_made_up_for_by_the_sessions(house: House) -> None:
    paid, ended, waiting = [await house.create(booking) for booking in (1, 2, 3)]
    house.gateway.pay(paid)
    house.gateway.let_expire(ended)
    house.gateway._told.clear()
    house.clock.advance(timedelta(days=31).total_seconds())
    feed = await house.read_once()
    assert [house.status(each) for each in (paid, ended, waiting)] == [COMPLETED, FAILED, PENDING]
    assert house.gateway.calls.count("sessions") == 1
    assert house.record.read_until == house.clock.now() - CLOCK_SKEW
    assert "look_up" not in house.gateway.calls
    await house.read_once()
    assert house.gateway.calls.count("sessions") == 1, "once is enough, although a payment is still that old"
    assert house.gateway.asked[-1] > house.clock.now() - REACH
    assert feed.readings["complete"] == 1


async def test_money_that_does_not_fit_is_confirmed_before_a_person_is_called(house: House) -> None:
    right, wrong = await house.create(1), await house.create(2)
    house.gateway.pay(right)
    told = house.gateway._told
    told[-1] = replace(told[-1], outcome=Paid(money=Money(1, "inr"), reference=None, livemode=False))
    house.gateway.pay(wrong, money=Money(1, "inr"))
    await house.read_once()
    assert house.gateway.calls.count("look_up") == 2
    assert house.status(right) is COMPLETED
    assert house.status(wrong) is PENDING
    assert house.payment(wrong).attention == "paid_differently"


async def test_what_an_event_does_not_tell_clearly_is_looked_up(house: House) -> None:
    paid, processing = await house.create(1), await house.create(2)
    house.gateway.pay(paid)
    told = house.gateway._told
    told[-1] = replace(told[-1], outcome=None)
    house.gateway.stand(processing, Processing())
    feed = await house.read_once()
    assert house.gateway.calls.count("look_up") == 2
    assert [house.status(each) for each in (paid, processing)] == [COMPLETED, PENDING]
    assert feed.reader.listener.counters.told == 2


async def test_one_payment_that_cannot_be_finished_stops_no_other(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = await house.create(1), await house.create(2)
    house.gateway.pay(bad)
    house.gateway.pay(good)
    told = house.gateway._told
    told[0] = replace(told[0], outcome=None)
    session = house.gateway.made.pop(bad)
    async with house.reading(interval=OFTEN) as feed:
        await until(lambda: feed.readings["complete"] > 0)
        assert house.status(good) is COMPLETED
        assert house.status(bad) is PENDING
        assert feed.reader.listener.counters.failures > 0
        assert "payment 2 could not be finished" in caplog.text
        house.gateway.made[bad] = session
        await until(lambda: house.status(bad) is COMPLETED)


async def test_a_session_that_has_ended_in_two_events_is_finished_by_the_one_that_tells(house: House) -> None:
    session = await house.create()
    house.gateway.stand(session, Processing())
    payment = house.payment(session)
    house.gateway.stand(session, Paid(money=payment.money, reference=payment.reference, livemode=False))
    house.gateway.tell(Told(id="evt_x", at=house.clock.now(), session_id=session, outcome=None))
    await house.read_once()
    assert house.status(session) is COMPLETED
    assert "look_up" not in house.gateway.calls
    assert not any(isinstance(each.stands, Expired) for each in house.gateway.made.values())
