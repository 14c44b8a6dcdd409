"""An event loop whose clock jumps to the next timer instead of waiting for it: hours in a moment, always the same."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class _Selector(selectors.DefaultSelector):  # type: ignore[valid-type,misc]  # chosen by the platform
    """Waits for nothing: there is no input, only timers."""

    skipped = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise AssertionError("everybody waits, and nothing will ever happen")
        self.skipped += timeout
        return list(super().select(0))


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its `time()` stands still while anything is ready to run."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.skipped

    def stall(self, seconds: float) -> None:
        """Time passes and nothing runs, as when the machine or one callback holds everything up."""
        self._virtual.skipped += seconds


def simulated(work: Coroutine[Any, Any, Result]) -> Result:
    """Run it to its end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


def stall(seconds: float) -> None:
    """See `VirtualLoop.stall`."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.stall(seconds)
