"""How often a caller may call, and a booking be charged: the generic cell rate algorithm (ITU-T I.371), in memory.

A key's whole state is one number: when it would have its full burst again. Each process counts for itself.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Final

from bridge.errors import RateLimitedError

MAX_KEYS: Final = 50_000
"""Beyond, the key that was served longest ago is forgotten, and so forgiven: memory is bounded whoever calls."""
_GRACE_SECONDS: Final = 0.001
"""For clocks: who waited as long as we said is never told to wait again."""


@dataclass(kw_only=True)
class RateLimit:
    """At most `burst` at once and `per_second` in the long run, for each key. `per_second` 0 means no limit.

    Only what is admitted counts, so whoever is refused gets in after the time that the refusal names, however often
    they ask meanwhile. Constant time per request. `clock` gives seconds and never goes back.
    """

    per_second: float = 0
    burst: int = 1
    max_keys: int = MAX_KEYS
    clock: Callable[[], float] = time.monotonic
    _full_at: OrderedDict[Hashable, float] = field(default_factory=OrderedDict, init=False, repr=False)

    def __len__(self) -> int:
        """Keys that are remembered."""
        return len(self._full_at)

    def take(self, key: Hashable) -> None:
        """Count one request.

        Raises:
            RateLimitedError: the key has used up what it may; says in how many whole seconds it has one again.
        """
        if not self.per_second:
            return
        now = self.clock()
        full_at = max(self._full_at.get(key, now), now) + 1 / self.per_second
        wait = full_at - now - self.burst / self.per_second
        if wait > _GRACE_SECONDS:
            raise RateLimitedError(retry_after_seconds=math.ceil(wait))
        self._full_at[key] = full_at
        self._full_at.move_to_end(key)
        self._forget(now)

    def _forget(self, now: float) -> None:
        """Up to two, so that there are fewer and fewer of those whose number no longer means anything."""
        for _ in range(2):
            oldest = next(iter(self._full_at.items()))
            if len(self._full_at) <= self.max_keys and oldest[1] > now:
                return
            del self._full_at[oldest[0]]


@dataclass(frozen=True, kw_only=True)
class RateLimits:
    """Both limits; none unless given."""

    callers: RateLimit = field(default_factory=RateLimit)
    bookings: RateLimit = field(default_factory=RateLimit)
