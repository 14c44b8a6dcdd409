"""Background tasks: named, watched, and ended in the order in which they depend on each other."""

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any, Protocol

_log = logging.getLogger(__name__)


def watched(work: Coroutine[Any, Any, None], *, name: str, failed: asyncio.Event) -> asyncio.Task[None]:
    """A named task; if it ends by an error nobody foresaw, the process must not go on without it."""

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            _log.critical("the background task %s failed", name, exc_info=error)
            failed.set()

    task = asyncio.create_task(work, name=name)
    task.add_done_callback(ended)
    return task


class Worker(Protocol):
    """What runs in the background for as long as the process lives."""

    async def run(self) -> None:
        """Work until `stop`."""

    def stop(self) -> None:
        """Begin nothing new."""


def work(stack: AsyncExitStack, worker: Worker, *, name: str, failed: asyncio.Event) -> None:
    """Have the worker run until the stack ends."""
    stack.push_async_callback(stop, worker, watched(worker.run(), name=name, failed=failed))


async def stop(worker: Worker, task: asyncio.Task[None]) -> None:
    """The round that is under way is finished."""
    worker.stop()
    await asyncio.wait([task])


async def cancel(task: asyncio.Task[None]) -> None:
    """End a task that has nothing to finish."""
    task.cancel()
    await asyncio.wait([task])
