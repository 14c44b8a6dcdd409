"""Background tasks: named, watched, and stopped in the order in which they depend on each other."""

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any, Protocol

_log = logging.getLogger(__name__)


class Worker(Protocol):
    """Runs in the background for as long as the process lives."""

    async def run(self) -> None:
        """Work until `stop`."""

    def stop(self) -> None:
        """Begin nothing new."""


def work(stack: AsyncExitStack, worker: Worker, *, name: str, failed: asyncio.Event) -> None:
    """Run the worker until the stack is closed, and let it end its current pass then."""
    _start(stack, worker.run(), name=name, failed=failed)
    stack.callback(worker.stop)


def run_until_cancelled(
    stack: AsyncExitStack, work: Coroutine[Any, Any, None], *, name: str, failed: asyncio.Event
) -> None:
    """Run what has nothing to finish until the stack is closed."""
    stack.callback(_start(stack, work, name=name, failed=failed).cancel)


def _start(
    stack: AsyncExitStack, work: Coroutine[Any, Any, None], *, name: str, failed: asyncio.Event
) -> asyncio.Task[None]:
    """Start a task whose end the stack waits for; `failed` is set if it raises: the process must not go on then."""

    def ended(task: asyncio.Task[None]) -> None:
        work.close()  # it has not begun if the task was cancelled at once
        if not task.cancelled() and (error := task.exception()):
            _log.critical("the background task %s failed", name, exc_info=error)
            failed.set()

    task = asyncio.create_task(_cancelled_by_us_only(work), name=name)
    task.add_done_callback(ended)
    stack.push_async_callback(asyncio.wait, [task])
    return task


async def _cancelled_by_us_only(work: Coroutine[Any, Any, None]) -> None:
    """A library may cancel what a task waits for, and the task with it, which would end unnoticed."""
    try:
        await work
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        message = "it was cancelled by what it waited for"
        raise RuntimeError(message) from error
