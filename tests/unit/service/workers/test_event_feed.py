"""The feed reads for everybody: who reads, when and how often, whatever fails."""

import asyncio

import pytest

from service.application.event_reader import CLOCK_SKEW
from service.domain.outcomes import UnknownCause
from service.workers.event_feed import CONCURRENCY, gap_seconds
from tests.unit.service.workers.feeds import COMPLETED, OFTEN, House, until


@pytest.fixture
def house() -> House:
    return House()


async def test_while_nothing_is_pending_a_leader_reads_once_a_minute_even_if_more_is_wanted(house: House) -> None:
    session = await house.create()
    house.gateway.pay(session)
    await house.read_once()
    async with house.reading(interval=OFTEN) as feed:
        await until(lambda: feed.leading)
        for _ in range(20):
            house.waiters.request_read()
            await asyncio.sleep(0.002)
    assert house.events_calls == 2


async def test_thousands_who_want_a_read_share_it(house: House) -> None:
    await house.create()
    async with house.reading():
        await until(lambda: len(house.cursor.advances) == 1)
        house.gateway.delay = asyncio.Event()
        for _ in range(5000):
            house.waiters.request_read()
        await until(lambda: len(house.gateway.asked) == 2)
        house.gateway.delay.set()
        await until(lambda: len(house.cursor.advances) == 2)
    assert house.events_calls == 2


async def test_reads_overlap_but_only_so_many(house: House) -> None:
    await house.create()
    async with house.reading(interval=OFTEN):
        await until(lambda: house.reads > 0)
        before = len(house.gateway.asked)
        house.gateway.delay = asyncio.Event()
        await until(lambda: len(house.gateway.asked) - before >= CONCURRENCY - 1)
        for _ in range(100):
            house.waiters.request_read()
            await asyncio.sleep(0.001)
        assert len(house.gateway.asked) - before <= CONCURRENCY + 1
        house.gateway.delay.set()
        await until(lambda: house.reads >= CONCURRENCY)


async def test_waiters_are_notified_of_a_read_that_began_after_the_wait(house: House) -> None:
    session = await house.create()
    async with house.reading():
        await until(lambda: len(house.cursor.advances) == 1)
        wait = asyncio.create_task(house.waiters.wait(house.payment(session).id, seconds=30, read=True))
        await asyncio.sleep(0)
        house.waiters.request_read()
        assert (await wait).value == "read"
    assert house.events_calls == 2


async def test_only_the_leader_reads_and_the_others_ask_it_to(house: House) -> None:
    house.cursor.leader = "another"
    session = await house.create()
    house.gateway.pay(session)
    async with house.reading(interval=OFTEN) as feed:
        house.waiters.request_read(here=False)
        await asyncio.sleep(0.05)
        assert house.cursor.wanted == 0, "who wants it elsewhere has asked the leader"
        for _ in range(1000):
            house.waiters.request_read()
        await until(lambda: house.cursor.wanted == 1)
        assert not feed.leading
        assert house.events_calls == 0
        house.cursor.leader = None
        await until(lambda: house.status(session) is COMPLETED)
        assert feed.leading
    assert house.cursor.leader is None, "the next one may lead at once"


async def test_a_replica_that_no_longer_leads_ends_its_reads(house: House) -> None:
    await house.create()
    async with house.reading(interval=OFTEN) as feed:
        await until(lambda: feed.leading)
        house.cursor.leader = "another"
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
    async with house.reading(interval=OFTEN):
        await until(lambda: house.counts["feed_read failed"] >= 2)
        house.gateway.pay(session)
        house.gateway.fault = None
        await until(lambda: house.status(session) is COMPLETED)
        await until(lambda: house.reads > 0)
    lines = [record.message for record in caplog.records if "Stripe's events" in record.message]
    assert lines == [
        "reading Stripe's events for all replicas",
        "Stripe's events cannot be read (failed: failed); trying again",
        "Stripe's events can be read again",
    ]
    assert set(house.gateway.asked) == {house.clock.now() - CLOCK_SKEW}


async def test_to_wait_for_a_permit_is_no_failure(house: House, caplog: pytest.LogCaptureFixture) -> None:
    await house.create()
    house.gateway.fault = UnknownCause.BUSY
    async with house.reading(interval=OFTEN):
        await until(lambda: house.counts["feed_read busy"] >= 2)
        house.gateway.fault = None
        await until(lambda: house.reads > 0)
    assert house.counts["feed_read failed"] == 0
    assert "cannot be read" not in caplog.text


async def test_what_could_not_be_stored_is_read_again(house: House) -> None:
    session = await house.create()
    house.gateway.pay(session)
    house.store.away = True
    async with house.reading(interval=OFTEN):
        await until(lambda: house.counts["feed_read failed"] >= 1)
        assert (house.cursor.read_until, house.cursor.advances) == (None, [])
        house.store.away = False
        await until(lambda: house.status(session) is COMPLETED)
        await until(lambda: house.cursor.read_until is not None)


@pytest.mark.parametrize(
    ("calls_per_second", "seconds"), [(0, 0.05), (1, 0.25), (20, 0.25), (25, 0.2), (50, 0.1), (100, 0.05), (5000, 0.05)]
)
def test_wanted_reads_take_a_share_of_what_stripe_allows(calls_per_second: float, seconds: float) -> None:
    assert gap_seconds(calls_per_second) == pytest.approx(seconds)
