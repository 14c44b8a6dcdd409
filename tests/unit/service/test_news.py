"""Who waits hears, whichever way it became known."""

import asyncio
import math

from service.application.news import Heard, News


async def waiting(news: News, payment_id: int, *, reading: bool = False) -> "asyncio.Task[Heard]":
    task = asyncio.create_task(news.wait(payment_id, seconds=30, reading=reading))
    await asyncio.sleep(0)
    assert len(news) == 1
    return task


async def test_a_payment_that_becomes_final_ends_the_wait_for_it() -> None:
    news = News()
    task = await waiting(news, 7)
    news.settled(8)
    news.settled(7)
    assert await task is Heard.SETTLED
    assert len(news) == 0


async def test_only_a_reading_that_began_after_the_wait_ends_it() -> None:
    news = News()
    task = await waiting(news, 7, reading=True)
    news.read(seconds_ago=60)
    await asyncio.sleep(0)
    assert not task.done()
    news.read(seconds_ago=0)
    assert await task is Heard.READ


async def test_whoever_does_not_wait_for_readings_hears_none() -> None:
    news = News()
    task = await waiting(news, 7)
    news.read(seconds_ago=0)
    news.settled(7)
    assert await task is Heard.SETTLED


async def test_news_remembers_the_reading_that_began_last() -> None:
    news = News()
    assert news.last_read_seconds_ago() == math.inf
    news.read(seconds_ago=100)
    assert 100 <= news.last_read_seconds_ago() < 130
    news.read(seconds_ago=1000)
    assert news.last_read_seconds_ago() < 130
    news.read(seconds_ago=0)
    assert news.last_read_seconds_ago() < 30


async def test_wishes_for_a_reading_that_nobody_has_taken_up_are_one() -> None:
    news = News()
    news.want_reading()
    news.want_reading()
    await news.reading_wanted()
    again = asyncio.create_task(news.reading_wanted())
    await asyncio.sleep(0)
    assert not again.done()
    news.want_reading()
    await again
