"""News: who waits in this process for what becomes known, and however it becomes known.

A payment becomes final by a verify, the feed or the settler, here or on another replica; whoever waits for it need not
care. The feed reads for everybody: who would like it to read now says so, and hears when a reading is complete.
"""

import asyncio
import math
import time
from collections import OrderedDict
from enum import Enum
from typing import Final

REMEMBERED: Final = 10_000
"""Payments of which it is remembered that they became final: for whoever read them a moment before."""
_BUSY_SECONDS: Final = 1.0


class Heard(Enum):
    """What ended a wait."""

    SETTLED = "settled"
    """The payment has become final: read it."""
    READ = "read"
    """The feed has read everything up to a moment after the wait began, and did not make the payment final."""
    NOTHING = "nothing"


class News:
    """One per process. Not thread-safe; everything happens in the event loop."""

    def __init__(self) -> None:
        self._waiting: dict[int, set[asyncio.Future[Heard]]] = {}
        self._since: dict[asyncio.Future[Heard], float] = {}
        self._settled: OrderedDict[int, None] = OrderedDict()
        self._reading_wanted = asyncio.Event()
        self._wanted_here = False
        self._readings = (-math.inf, -math.inf)

    def __len__(self) -> int:
        return sum(len(futures) for futures in self._waiting.values())

    def settled(self, payment_id: int) -> None:
        """The payment is final, whoever wrote it."""
        self._settled[payment_id] = None
        if len(self._settled) > REMEMBERED:
            self._settled.popitem(last=False)
        for future in self._waiting.get(payment_id, ()):
            _end(future, Heard.SETTLED)

    def read(self, *, seconds_ago: float) -> None:
        """A reading of the feed that began so long ago is complete, and what it told is stored."""
        now = time.monotonic()
        began = now - seconds_ago
        self._readings = (self._readings[1], now)
        for future, since in self._since.items():
            if since <= began:
                _end(future, Heard.READ)

    def last_read_seconds_ago(self) -> float:
        """Since the last complete reading was heard of, on whatever replica; infinite if there was none."""
        return time.monotonic() - self._readings[1]

    @property
    def feed_is_busy(self) -> bool:
        """Whether the feed reads so often just now that the next reading is near."""
        return time.monotonic() - self._readings[0] < _BUSY_SECONDS

    def want_reading(self, *, here: bool = True) -> None:
        """Somebody would like the feed to read now, in this process or (not `here`) elsewhere."""
        self._wanted_here |= here
        self._reading_wanted.set()

    async def reading_wanted(self) -> bool:
        """Return when somebody would like the feed to read, at once if somebody has since the last call.

        Whether anybody in this process does.
        """
        await self._reading_wanted.wait()
        self._reading_wanted.clear()
        here, self._wanted_here = self._wanted_here, False
        return here

    async def wait(self, payment_id: int, *, seconds: float, reading: bool = False) -> Heard:
        """What ended the wait: `seconds` are over, the payment is final, or (with `reading`) the feed has read."""
        if payment_id in self._settled:
            return Heard.SETTLED
        future: asyncio.Future[Heard] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(payment_id, set())
        waiting.add(future)
        if reading:
            self._since[future] = time.monotonic()
        try:
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            return Heard.NOTHING
        finally:
            self._since.pop(future, None)
            waiting.discard(future)
            if not waiting and self._waiting.get(payment_id) is waiting:
                del self._waiting[payment_id]


def _end(future: "asyncio.Future[Heard]", heard: Heard) -> None:
    if not future.done():
        future.set_result(heard)
