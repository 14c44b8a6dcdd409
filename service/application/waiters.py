"""Who waits in this process for a payment to become final or for the event feed to read, and what ends the wait.

A verify, the event feed or the sweeper makes a payment final, here or on another replica; whoever waits need not care.
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from enum import Enum
from typing import Final

REMEMBERED: Final = 10_000
"""Final payments that are remembered: for whoever read them a moment before they became final."""
_BUSY_SECONDS: Final = 1.0


class WaitResult(Enum):
    """What ended a wait."""

    FINAL = "final"
    """The payment has become final: read it."""
    READ = "read"
    """The feed has read everything up to a moment after the wait began, and the payment is not final."""
    TIMEOUT = "timeout"


class WaiterRegistry:
    """One per process. Not thread-safe; everything happens in the event loop."""

    def __init__(self) -> None:
        self._waiting: dict[int, set[asyncio.Future[WaitResult]]] = {}
        self._since: dict[asyncio.Future[WaitResult], float] = {}
        self._final: OrderedDict[int, None] = OrderedDict()
        self._read_requested = asyncio.Event()
        self._requested_here = False
        self._last_reads = (-math.inf, -math.inf)
        self._subscribers: list[Callable[[int | None], None]] = []

    def __len__(self) -> int:
        return sum(len(futures) for futures in self._waiting.values())

    def notify(self, payment_id: int) -> None:
        """The payment is final, whoever wrote it."""
        self._final[payment_id] = None
        if len(self._final) > REMEMBERED:
            self._final.popitem(last=False)
        for subscriber in self._subscribers:
            subscriber(payment_id)
        for future in self._waiting.get(payment_id, ()):
            _end(future, WaitResult.FINAL)

    def resync(self) -> None:
        """Notifications may have been lost: subscribers must look for themselves."""
        for subscriber in self._subscribers:
            subscriber(None)

    def subscribe(self, subscriber: Callable[[int | None], None]) -> None:
        """Call `subscriber` with the id of each payment that becomes final, and with None at each `resync`."""
        self._subscribers.append(subscriber)

    def notify_read(self, *, seconds_ago: float) -> None:
        """A read of the feed that began so long ago is complete, and all its outcomes are stored."""
        now = time.monotonic()
        began = now - seconds_ago
        self._last_reads = (self._last_reads[1], now)
        for future, since in self._since.items():
            if since <= began:
                _end(future, WaitResult.READ)

    def last_read_seconds_ago(self) -> float:
        """Since the last complete read was reported, by whatever replica; infinite if there was none."""
        return time.monotonic() - self._last_reads[1]

    @property
    def feed_is_busy(self) -> bool:
        """Whether the feed reads so often just now that the next read is near."""
        return time.monotonic() - self._last_reads[0] < _BUSY_SECONDS

    def request_read(self, *, here: bool = True) -> None:
        """Ask the feed to read now, for somebody in this process or (not `here`) on another replica."""
        self._requested_here |= here
        self._read_requested.set()

    async def read_requested(self) -> bool:
        """Return when a read is requested, at once if one was since the last call; whether by this process."""
        await self._read_requested.wait()
        self._read_requested.clear()
        here, self._requested_here = self._requested_here, False
        return here

    async def wait(self, payment_id: int, *, seconds: float, read: bool = False) -> WaitResult:
        """Wait until the payment is final, `seconds` are over or (with `read`) the feed has read."""
        if payment_id in self._final:
            return WaitResult.FINAL
        future: asyncio.Future[WaitResult] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(payment_id, set())
        waiting.add(future)
        if read:
            self._since[future] = time.monotonic()
        try:
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            return WaitResult.TIMEOUT
        finally:
            self._since.pop(future, None)
            waiting.discard(future)
            if not waiting and self._waiting.get(payment_id) is waiting:
                del self._waiting[payment_id]


def _end(future: "asyncio.Future[WaitResult]", result: WaitResult) -> None:
    if not future.done():
        future.set_result(result)
