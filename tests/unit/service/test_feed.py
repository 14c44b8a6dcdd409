"""The feed reads for everybody: who reads, when and how often, whatever fails."""

import asyncio

import pytest

from service.application.news import News
from service.application.reading import CLOCK_SKEW
from service.domain.outcomes import UnknownCause
from service.entrypoints.feed import AT_ONCE, gap_seconds
from tests.unit.service.feeds import COMPLETED, OFTEN, PENDING, House, until


@pytest.fixture
def house() -> House:
    return House()


async def test_nothing_is_read_while_nothing_is_pending_even_if_wanted(house: House) -> None:
    news = News()
    session = await house.create()
    house.gateway.pay(session)
    await house.read_once()
    async with house.reading(house.feed(interval=OFTEN, news=news)) as feed:
        await until(lambda: feed.leading)
        for _ in range(20):
            news.want_reading()
            await asyncio.sleep(0.002)
    assert house.events_calls == 1


async def test_thousands_who_want_a_reading_share_it(house: House) -> None:
    news = News()
    await house.create()
    async with house.reading(house.feed(news=news)):
        await until(lambda: len(house.record.told) == 1)
        house.gateway.delay = asyncio.Event()
        for _ in range(5000):
            news.want_reading()
        await until(lambda: len(house.gateway.asked) == 2)
        house.gateway.delay.set()
        await until(lambda: len(house.record.told) == 2)
    assert house.events_calls == 2


async def test_readings_overlap_but_only_so_many(house: House) -> None:
    news = News()
    await house.create()
    async with house.reading(house.feed(interval=OFTEN, news=news)) as feed:
        await until(lambda: feed.readings["complete"] > 0)
        before = len(house.gateway.asked)
        house.gateway.delay = asyncio.Event()
        await until(lambda: len(house.gateway.asked) - before >= AT_ONCE - 1)
        for _ in range(100):
            news.want_reading()
            await asyncio.sleep(0.001)
        assert len(house.gateway.asked) - before <= AT_ONCE + 1
        house.gateway.delay.set()
        await until(lambda: feed.readings["complete"] >= AT_ONCE)


async def test_whoever_waits_hears_of_a_reading_that_began_after_the_wait(house: House) -> None:
    news = News()
    session = await house.create()
    async with house.reading(house.feed(news=news)):
        await until(lambda: len(house.record.told) == 1)
        wait = asyncio.create_task(news.wait(house.payment(session).id, seconds=30, reading=True))
        await asyncio.sleep(0)
        news.want_reading()
        assert (await wait).value == "read"
    assert house.events_calls == 2


async def test_only_the_leader_reads_and_the_others_ask_it_to(house: House) -> None:
    house.record.leader = "another"
    news = News()
    session = await house.create()
    house.gateway.pay(session)
    async with house.reading(house.feed(interval=OFTEN, news=news)) as feed:
        news.want_reading(here=False)
        await asyncio.sleep(0.05)
        assert house.record.wanted == 0, "who wants it elsewhere has asked the leader"
        for _ in range(1000):
            news.want_reading()
        await until(lambda: house.record.wanted == 1)
        assert not feed.leading
        assert house.events_calls == 0
        house.record.leader = None
        await until(lambda: house.status(session) is COMPLETED)
        assert feed.leading
    assert house.record.leader is None, "the next one may lead at once"


async def test_who_no_longer_leads_ends_its_readings(house: House) -> None:
    await house.create()
    async with house.reading(interval=OFTEN) as feed:
        await until(lambda: feed.leading)
        house.record.leader = "another"
        await until(lambda: not feed.leading)
        before = house.events_calls
        await asyncio.sleep(0.05)
        assert house.events_calls == before


async def test_an_outage_of_the_gateway_is_one_line_and_nothing_is_lost(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    session = await house.create()
    house.gateway.fault = UnknownCause.FAILED
    async with house.reading(interval=OFTEN) as feed:
        await until(lambda: feed.readings["failed"] >= 2)
        house.gateway.pay(session)
        house.gateway.fault = None
        await until(lambda: house.status(session) is COMPLETED)
        await until(lambda: feed.readings["complete"] > 0)
    lines = [record.message for record in caplog.records if "Stripe's events" in record.message]
    assert lines == [
        "reading Stripe's events for all replicas",
        "Stripe's events cannot be read (failed: failed); trying again",
        "Stripe's events are read again",
    ]
    assert set(house.gateway.asked) == {house.clock.now() - CLOCK_SKEW}


async def test_to_wait_for_a_turn_is_no_failure(house: House, caplog: pytest.LogCaptureFixture) -> None:
    await house.create()
    house.gateway.fault = UnknownCause.BUSY
    async with house.reading(interval=OFTEN) as feed:
        await until(lambda: feed.readings["busy"] >= 2)
        house.gateway.fault = None
        await until(lambda: feed.readings["complete"] > 0)
    assert feed.readings["failed"] == 0
    assert "cannot be read" not in caplog.text


async def test_what_could_not_be_stored_is_read_again(house: House) -> None:
    session = await house.create()
    house.gateway.pay(session)
    house.store.away = True
    async with house.reading(interval=OFTEN) as feed:
        await until(lambda: feed.readings["failed"] >= 1)
        assert (house.record.read_until, house.record.told) == (None, [])
        house.store.away = False
        await until(lambda: house.status(session) is COMPLETED)
        await until(lambda: house.record.read_until is not None)


async def test_many_payments_and_pollers_cost_no_more_readings(house: House) -> None:
    """The number of calls is that of one payment."""
    sessions = [await house.create(booking) for booking in range(1, 401)]
    house.gateway.page = 1000
    for session in sessions[:200]:
        house.gateway.pay(session)
    await house.read_once()
    assert [house.status(each) for each in sessions] == [COMPLETED] * 200 + [PENDING] * 200
    assert house.events_calls == 1
    assert "look_up" not in house.gateway.calls


@pytest.mark.parametrize(
    ("calls_per_second", "seconds"), [(0, 0.05), (1, 0.2), (20, 0.2), (25, 0.2), (50, 0.1), (100, 0.05), (5000, 0.05)]
)
def test_wanted_readings_take_a_share_of_what_stripe_allows(calls_per_second: float, seconds: float) -> None:
    assert gap_seconds(calls_per_second) == pytest.approx(seconds)
