import asyncio
import logging

import pytest

from runtime.aio import Backoff, LogOnChange, cancel, spread, wait_or_timeout


async def test_a_wait_ends_with_its_event_or_without_it() -> None:
    event = asyncio.Event()
    assert await wait_or_timeout(event, 0) is False
    asyncio.get_running_loop().call_soon(event.set)
    assert await wait_or_timeout(event, 3600) is True
    assert await wait_or_timeout(event, 0) is True


async def test_what_is_cancelled_has_ended_and_nothing_may_be_there_to_cancel() -> None:
    tasks = [asyncio.create_task(asyncio.Event().wait()) for _ in range(2)]
    await cancel(tasks)
    assert all(task.cancelled() for task in tasks)
    await cancel([])


def test_pauses_double_up_to_the_longest_and_begin_anew() -> None:
    backoff = Backoff(first_seconds=0.5, longest_seconds=3)
    for bound in (0.5, 1, 2, 3, 3):
        assert bound / 2 <= backoff.next_seconds() <= bound
    backoff.reset()
    assert backoff.next_seconds() <= 0.5
    assert all(7.5 <= spread(10) <= 12.5 for _ in range(100))


def test_a_failure_is_logged_when_it_begins_and_when_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    change = LogOnChange(logging.getLogger("service.test"))
    change.works("works again")
    for _ in range(2):
        for number in range(3):
            change.failed("failed: %d", number)
        change.works("works again")
        change.works("works again")
    assert [record.getMessage() for record in caplog.records] == ["failed: 0", "works again"] * 2
