"""The sandbox's clock: real time, moved by the steps that tests ask for, forward and back."""

import time
from collections.abc import Callable

EARLIEST, LATEST = 946_684_800, 4_102_444_800
"""The years 2000 to 2100, in unix seconds: no step leads out of them."""


class SteppedClock:
    """One clock for all accounts. ``wall`` is real time in unix seconds."""

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self.wall = wall
        self.reset()

    def reset(self) -> None:
        """Back to real time."""
        self._ahead_seconds = 0
        self._stepped_seconds = 0

    def now(self) -> int:
        """The sandbox's time in unix seconds."""
        return int(self.wall()) + self._ahead_seconds

    def elapsed(self) -> float:
        """Seconds that have passed, for durations: real ones and those of steps forward. A step back undoes none."""
        return self.wall() + self._stepped_seconds

    def step(self, seconds: int) -> None:
        """Moves the clock.

        Raises:
            ValueError: the step leads out of the years that the sandbox knows.
        """
        if not EARLIEST <= self.now() + seconds <= LATEST:
            raise ValueError("advance_seconds leads out of the years 2000 to 2100")
        self._ahead_seconds += seconds
        self._stepped_seconds += max(0, seconds)
