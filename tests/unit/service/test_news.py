"""News: whoever waits hears of it, however it became known."""

import asyncio
import math

from service.application.news import REMEMBERED, Heard, News

LONG = 30.0


async def test_everybody_who_waits_hears_that_a_payment_is_final() -> None:
    news = News()
    waiting = [asyncio.create_task(news.wait(1, seconds=LONG)) for _ in range(50)]
    other = asyncio.create_task(news.wait(2, seconds=LONG))
    await asyncio.sleep(0)
    assert len(news) == 51
    news.settled(1)
    assert await asyncio.gather(*waiting) == [Heard.SETTLED] * 50
    assert not other.done()
    news.settled(2)
    assert await other is Heard.SETTLED
    assert len(news) == 0


async def test_who_comes_a_moment_late_hears_it_at_once() -> None:
    news = News()
    news.settled(1)
    assert await news.wait(1, seconds=LONG) is Heard.SETTLED


async def test_what_is_remembered_is_bounded() -> None:
    news = News()
    for payment_id in range(REMEMBERED + 1):
        news.settled(payment_id)
    assert await news.wait(0, seconds=0) is Heard.NOTHING
    assert await news.wait(REMEMBERED, seconds=0) is Heard.SETTLED


async def test_only_a_reading_that_began_later_tells_anything() -> None:
    news = News()
    wants = asyncio.create_task(news.wait(1, seconds=LONG, reading=True))
    indifferent = asyncio.create_task(news.wait(1, seconds=LONG))
    await asyncio.sleep(0.01)
    news.read(seconds_ago=5)
    await asyncio.sleep(0)
    assert not wants.done()
    news.read(seconds_ago=0)
    assert await wants is Heard.READ
    assert not indifferent.done()
    indifferent.cancel()


async def test_nothing_is_heard_when_the_time_is_over() -> None:
    news = News()
    assert await news.wait(1, seconds=0.01, reading=True) is Heard.NOTHING
    assert len(news) == 0


async def test_a_wish_for_a_reading_is_kept_until_somebody_takes_it() -> None:
    news = News()
    news.want_reading()
    news.want_reading()
    await asyncio.wait_for(news.reading_wanted(), LONG)
    taken = asyncio.create_task(news.reading_wanted())
    await asyncio.sleep(0)
    assert not taken.done()
    news.want_reading()
    await asyncio.wait_for(taken, LONG)


async def test_it_is_known_when_the_feed_last_read_and_whether_it_reads_all_the_time() -> None:
    news = News()
    assert news.last_read_seconds_ago() == math.inf
    news.read(seconds_ago=0.3)
    assert news.last_read_seconds_ago() < LONG
    assert not news.feed_is_busy
    news.read(seconds_ago=0.3)
    assert news.feed_is_busy
