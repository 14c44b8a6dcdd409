"""An event loop whose clock jumps to the next timer: hours pass in a moment, the same in every run."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class _Selector(selectors.DefaultSelector):  # type: ignore[valid-type,misc]  # chosen by the platform
    """Never waits: there is no input, only timers."""

    skipped = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise AssertionError("every task waits, and no timer is set")
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
        """Let time pass while nothing runs, as when one callback holds everything up."""
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
