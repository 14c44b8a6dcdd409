"""Ctrl-C, SIGTERM and a closed terminal: each cancels the work of this process once, and cleanup runs undisturbed."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

Result = TypeVar("Result")

STATUS: Final = 130
"""The exit status of an interrupted command."""
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(
    work: Coroutine[Any, Any, Result], *, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
) -> Result:
    """Runs the work to its end; a signal cancels it, further signals are ignored.

    Raises:
        CancelledError: It was interrupted and did not handle that itself.
    """

    async def cancellable() -> Result:
        task = asyncio.ensure_future(work)
        for number in _SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, _cancel_once, task)
        return await task

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(cancellable())


def ignore() -> None:
    """Ignores signals from now on: the shutdown is bounded, and a second Ctrl-C must not leave processes behind."""
    for number in _SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, lambda: None)


def _cancel_once(task: asyncio.Task[Any]) -> None:
    if not task.cancelling():
        task.cancel()
