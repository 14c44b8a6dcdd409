"""How often a caller may call, and a booking be created: the generic cell rate algorithm for many keys, in memory.

A key's whole state is one number (see `runtime.gcra`). Each process counts for itself.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Final

from bridge.errors import RATE_LIMITED, BridgeError
from runtime import gcra

MAX_KEYS: Final = 50_000
"""Beyond it the key that was served longest ago is dropped with its count: memory is bounded whoever calls."""
_GRACE_SECONDS: Final = 0.001
"""For rounding: a caller who waited as long as the refusal said is never refused again."""


@dataclass(kw_only=True)
class RateLimit:
    """At most `burst` at once and `per_second` in the long run, for each key. `per_second` 0 means no limit.

    Only admitted requests count, so a refused caller is admitted after the time that the refusal names, however often
    it asks meanwhile. Constant time per request. `clock` gives seconds and never goes back.
    """

    per_second: float
    burst: int
    max_keys: int = MAX_KEYS
    clock: Callable[[], float] = time.monotonic
    _next_at: OrderedDict[Hashable, float] = field(default_factory=OrderedDict, init=False, repr=False)

    def take(self, key: Hashable) -> None:
        """Count one request, or raise BridgeError with the whole seconds after which the key may make one again."""
        if not self.per_second:
            return
        now, interval = self.clock(), 1 / self.per_second
        next_at = self._next_at.get(key, -math.inf)
        wait = gcra.allowed_at(next_at, now=now, interval=interval, burst=self.burst) - now
        if wait > _GRACE_SECONDS:
            raise BridgeError(RATE_LIMITED, retry_after_seconds=math.ceil(wait))
        self._next_at[key] = gcra.advance(next_at, now=now, interval=interval)
        self._next_at.move_to_end(key)
        self._forget(now)

    def _forget(self, now: float) -> None:
        """Drop up to two keys, more than can be added: those with their full burst, and those beyond `max_keys`."""
        for _ in range(2):
            key, next_at = next(iter(self._next_at.items()))
            if len(self._next_at) <= self.max_keys and next_at > now:
                return
            del self._next_at[key]


@dataclass(frozen=True, kw_only=True)
class RateLimits:
    """The limits per caller and per booking."""

    callers: RateLimit
    bookings: RateLimit
