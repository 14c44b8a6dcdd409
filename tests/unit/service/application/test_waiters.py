"""Whoever waits is notified, however a payment became final."""

import asyncio
import math

from service.application.waiters import REMEMBERED, WaiterRegistry, WaitResult

LONG = 30.0


async def test_everybody_who_waits_is_notified_when_a_payment_is_final() -> None:
    waiters = WaiterRegistry()
    waiting = [asyncio.create_task(waiters.wait(1, seconds=LONG)) for _ in range(50)]
    other = asyncio.create_task(waiters.wait(2, seconds=LONG))
    await asyncio.sleep(0)
    assert len(waiters) == 51
    waiters.notify(1)
    assert await asyncio.gather(*waiting) == [WaitResult.FINAL] * 50
    assert not other.done()
    waiters.notify(2)
    assert await other is WaitResult.FINAL
    assert len(waiters) == 0


async def test_whoever_comes_a_moment_late_is_notified_at_once_and_what_is_remembered_is_bounded() -> None:
    waiters = WaiterRegistry()
    for payment_id in range(REMEMBERED + 1):
        waiters.notify(payment_id)
    assert await waiters.wait(REMEMBERED, seconds=LONG) is WaitResult.FINAL
    assert await waiters.wait(0, seconds=0) is WaitResult.TIMEOUT
    assert len(waiters) == 0


async def test_only_a_read_that_began_later_ends_a_wait() -> None:
    waiters = WaiterRegistry()
    wants = asyncio.create_task(waiters.wait(1, seconds=LONG, read=True))
    indifferent = asyncio.create_task(waiters.wait(1, seconds=LONG))
    await asyncio.sleep(0.01)
    waiters.notify_read(seconds_ago=5)
    await asyncio.sleep(0)
    assert not wants.done()
    waiters.notify_read(seconds_ago=0)
    assert await wants is WaitResult.READ
    assert not indifferent.done()
    indifferent.cancel()


async def test_a_request_for_a_read_is_kept_until_somebody_takes_it() -> None:
    waiters = WaiterRegistry()
    waiters.request_read()
    waiters.request_read()
    await asyncio.wait_for(waiters.read_requested(), LONG)
    taken = asyncio.create_task(waiters.read_requested())
    await asyncio.sleep(0)
    assert not taken.done()
    waiters.request_read()
    await asyncio.wait_for(taken, LONG)


async def test_it_is_known_when_the_feed_last_read_and_whether_it_reads_all_the_time() -> None:
    waiters = WaiterRegistry()
    assert waiters.last_read_seconds_ago() == math.inf
    waiters.notify_read(seconds_ago=0.3)
    assert waiters.last_read_seconds_ago() < LONG
    assert not waiters.feed_is_busy
    waiters.notify_read(seconds_ago=0.3)
    assert waiters.feed_is_busy
