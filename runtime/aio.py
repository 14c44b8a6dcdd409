"""How the background work of any process waits, retries and logs."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

_log = logging.getLogger(__name__)

REPEAT_SECONDS: Final = 60.0
"""How long the same warning is not repeated."""
_MAX_WARNINGS: Final = 100


async def wait_or_timeout(event: asyncio.Event, seconds: float) -> bool:
    """Wait for the event for at most `seconds`; whether it is set."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return event.is_set()


async def cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel the tasks, and return when they have ended."""
    if ending := list(tasks):
        for task in ending:
            task.cancel()
        await asyncio.wait(ending)


def spread(seconds: float, part: float = 0.25) -> float:
    """Jitter: `seconds`, up to `part` more or less, so that replicas do not act in step."""
    return seconds * random.uniform(1 - part, 1 + part)  # noqa: S311 - jitter needs no secrecy


class Backoff:
    """Growing pauses between tries: each is half to whole of a bound that doubles from `first` to `longest`."""

    def __init__(self, *, first_seconds: float, longest_seconds: float) -> None:
        self._first = first_seconds
        self._longest = longest_seconds
        self._bound = first_seconds

    def next_seconds(self) -> float:
        """The next pause: half of the bound or more, so that no two tries follow at once."""
        bound, self._bound = self._bound, min(2 * self._bound, self._longest)
        return bound * random.uniform(0.5, 1.0)  # noqa: S311 - jitter needs no secrecy

    def reset(self) -> None:
        """A try has succeeded: the next pause is the first one again."""
        self._bound = self._first


class LogOnChange:
    """Logs that something fails once when it begins to and once when it works again, and not at each try."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self.failing = False

    def failed(self, message: str, *args: object) -> None:
        """Warn, unless the last try failed too."""
        if not self.failing:
            self._log.warning(message, *args)
        self.failing = True

    def works(self, message: str, *args: object) -> None:
        """Tell, if the last try failed."""
        if self.failing:
            self._log.info(message, *args)
        self.failing = False


class ThinnedOut:
    """Warnings, of which the same one is repeated once a minute at most, with the number of those left out."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._last: dict[str, tuple[float, int]] = {}

    def warn(self, text: str) -> None:
        """Log it, or count it."""
        now = time.monotonic()
        at, left_out = self._last.get(text, (-REPEAT_SECONDS, 0))
        if now - at < REPEAT_SECONDS:
            self._last[text] = (at, left_out + 1)
            return
        self._log.warning("%s%s", text, f" ({left_out} times more since then)" if left_out else "")
        if len(self._last) > _MAX_WARNINGS:
            self._last.clear()
        self._last[text] = (now, 0)


class PeriodicLoop:
    """Runs one step after the other until it is stopped; a `passing` error is told once, and the step is repeated."""

    def __init__(self, *, trouble: str, poll_seconds: float, passing: type[Exception]) -> None:
        """`trouble`: what cannot be done after a `passing` error, for the log; `poll_seconds`: until the next try."""
        self._trouble: Final = trouble
        self._poll_seconds: Final = poll_seconds
        self._passing: Final = passing
        self._stopping = asyncio.Event()
        self._change = LogOnChange(_log)

    @property
    def stopping(self) -> bool:
        """Whether nothing new is to be begun."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """End `run` after the step that is under way."""
        self._stopping.set()

    async def stopped(self) -> None:
        """Return after `stop`."""
        await self._stopping.wait()

    async def run(
        self, step: Callable[[], Awaitable[float]], *, wait: Callable[[float], Awaitable[object]] | None = None
    ) -> None:
        """Repeat until `stop`. A step answers in how many seconds the next one is due; `wait` may end sooner."""
        wait = wait or self._pause
        while not self.stopping:
            try:
                seconds = await step()
            except self._passing:
                self._change.failed("%s; trying again", self._trouble)
                seconds = self._poll_seconds
            else:
                self._change.failing = False
            if seconds:
                await wait(seconds)

    async def _pause(self, seconds: float) -> None:
        await wait_or_timeout(self._stopping, spread(seconds))
