"""Faults on demand: a slow, failing, limiting, silent or unreachable Stripe, late events, accounts not set up.

They affect only Stripe's API. Which account a key belongs to is set here too.
"""

import math
import random
import time
from collections.abc import Callable, Mapping
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, NonNegativeInt

from runtime import gcra
from tools.sandbox import amounts, stripe_errors


def _settlement_currency(value: str) -> str:
    if value not in amounts.MINIMUM:
        raise ValueError(f"must be one of {', '.join(sorted(amounts.MINIMUM))}")
    return value


TestKey = Annotated[str, Field(pattern=r"^[sr]k_test_[A-Za-z0-9_]{1,247}$")]
AccountId = Annotated[str, Field(pattern=r"^acct_[A-Za-z0-9]{1,250}$")]
SettlementCurrency = Annotated[str, AfterValidator(_settlement_currency)]


class Faults(BaseModel):
    """The settings, in the words of ``POST /_sandbox/config``."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    latency_ms: float = Field(default=0.0, ge=0, le=600_000)
    """Additional duration of every answer; requests do not queue behind each other."""
    error_rate: float = Field(default=0.0, ge=0, le=1)
    """Share of calls, 0 to 1, that fail with a 500 before execution; their keys stay unused."""
    rate_limits: dict[str, Annotated[float, Field(ge=0, le=10**9)]] = {}
    """Calls per second by endpoint, of each other endpoint (``default``), and in all (``global``)."""
    down: bool = False
    """Cut every connection without an answer and without execution."""
    drop_responses: NonNegativeInt = 0
    """The next n POSTs are executed and store their answer under the key, then the connection is cut."""
    lose_responses: NonNegativeInt = 0
    """Like ``drop_responses``, but the stored and sent answer is a 500."""
    account_error: bool = False
    """Every create is refused, because the account is not set up."""
    events_late_seconds: float = Field(default=0.0, ge=0, le=31 * 24 * 3600)
    """How much later than it was created an event enters the list."""
    accounts: dict[TestKey, AccountId] = {}
    """The accounts of those keys that do not belong to the main one; ``{}``: all keys do."""
    revoked_keys: list[TestKey] = []
    """Every call with one of these is answered 401; ``[]``: none is revoked."""
    settlement_currency: SettlementCurrency = "inr"
    """The currency in which the minimum amount holds."""


_ROUNDING_SECONDS = 1e-6


class RateLimiter:
    """Stripe's rate limits as token buckets with a burst of one second, in real time and not by the account's clock."""

    def __init__(self, limits: Mapping[str, float], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._monotonic = monotonic
        self._next_at: dict[str, float] = {}

    def admit(self, endpoint: str) -> None:
        """Takes a token of the endpoint and one of the account, or raises Stripe's 429."""
        if not self._limits:
            return
        limit = self._limits.get(endpoint, self._limits.get("default"))
        if limit is not None and not self._take(endpoint, limit):
            raise stripe_errors.rate_limited("endpoint-rate")
        everything = self._limits.get("global")
        if everything is not None and not self._take("global", everything):
            raise stripe_errors.rate_limited("global-rate")

    def _take(self, name: str, per_second: float) -> bool:
        if not per_second:
            return False
        now, interval, next_at = self._monotonic(), 1 / per_second, self._next_at.get(name, -math.inf)
        allowed_at = gcra.allowed_at(next_at, now=now, interval=interval, burst=max(per_second, 1.0))
        if allowed_at > now + _ROUNDING_SECONDS:
            return False
        self._next_at[name] = gcra.advance(next_at, now=now, interval=interval)
        return True


class FaultInjector:
    """The faults in force."""

    def __init__(self, endpoints: frozenset[str]) -> None:
        self._endpoints = endpoints
        self.settings = Faults()
        self.limiter = RateLimiter({})

    def reset(self) -> None:
        """No faults."""
        self.settings, self.limiter = Faults(), RateLimiter({})

    def merge(self, changes: Faults) -> None:
        """Changes the settings that were given.

        Raises:
            ValueError: a rate limit of an unknown endpoint.
        """
        if unknown := changes.rate_limits.keys() - self._endpoints - {"default", "global"}:
            known = ", ".join(sorted(self._endpoints))
            raise ValueError(f"rate_limits names {', '.join(sorted(unknown))}; there are default, global, {known}")
        self.settings = self.settings.model_copy(update=changes.model_dump(exclude_unset=True))
        if "rate_limits" in changes.model_fields_set:
            self.limiter = RateLimiter(changes.rate_limits)

    def fails_at_random(self) -> bool:
        """Whether this call fails, by ``error_rate``."""
        rate = self.settings.error_rate
        return rate > 0 and random.random() < rate  # noqa: S311 - faults need no secrecy

    def takes(self, counter: str) -> bool:
        """Uses up one of ``drop_responses`` or ``lose_responses``, if any is left."""
        left: int = getattr(self.settings, counter)
        if left:
            self.settings = self.settings.model_copy(update={counter: left - 1})
        return left > 0
