"""Background tasks: whatever ends one but us is noticed."""

import asyncio
import inspect
from contextlib import AsyncExitStack

from service.workers.supervision import run_until_cancelled


async def test_a_task_that_is_cancelled_by_what_it_waits_for_has_failed_and_one_that_we_end_has_not() -> None:
    failed, by_us, answer = asyncio.Event(), asyncio.Event(), asyncio.get_running_loop().create_future()

    async def wait_for_the_answer() -> None:
        await answer

    async def wait_for_ever() -> None:
        await asyncio.Event().wait()

    async with AsyncExitStack() as stack:
        run_until_cancelled(stack, wait_for_ever(), name="ended", failed=by_us)
        run_until_cancelled(stack, wait_for_the_answer(), name="cancelled", failed=failed)
        await asyncio.sleep(0)
        answer.cancel()
        await failed.wait()
    assert not by_us.is_set()


async def test_a_task_that_ends_before_it_begins_leaves_nothing_behind() -> None:
    failed = asyncio.Event()

    async def never_begun() -> None:
        raise AssertionError

    async with AsyncExitStack() as stack:
        run_until_cancelled(stack, work := never_begun(), name="never begun", failed=failed)
    assert inspect.getcoroutinestate(work) == inspect.CORO_CLOSED
    assert not failed.is_set()
