"""Faults on demand: slow, failing, limited, silent and unreachable Stripe. They touch only the API, nothing else."""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from deploy.sandbox import errors


@dataclass(frozen=True, kw_only=True)
class Faults:
    """The settings, in the words of ``POST /_sandbox/config``."""

    latency_ms: float = 0.0
    """Every answer takes this much longer; requests do not queue behind each other."""
    error_rate: float = 0.0
    """Share of calls, 0 to 1, that end as a 500 before anything is executed; their keys stay free."""
    rate_limits: Mapping[str, float] = field(default_factory=dict)
    """Calls per second, by endpoint, for each endpoint that is not named (``default``), for all (``global``)."""
    down: bool = False
    """Connections are cut without an answer and without work."""
    drop_responses: int = 0
    """The next n POSTs do their work and keep the answer under their key, then the connection is cut."""
    lose_responses: int = 0
    """Like ``drop_responses``, but the answer that is kept and sent is a 500."""


class Limiter:
    """Token buckets as Stripe's rate limits: a second's worth of calls may come at once. Real time, not the clock."""

    def __init__(self, limits: Mapping[str, float], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._monotonic = monotonic
        self._buckets: dict[str, tuple[float, float]] = {}

    def admit(self, endpoint: str) -> None:
        """Take a token of the endpoint and one of the whole account, or raise Stripe's 429."""
        if not self._limits:
            return
        limit = self._limits.get(endpoint, self._limits.get("default"))
        if limit is not None and not self._take(endpoint, limit):
            raise errors.rate_limited("endpoint-rate")
        everything = self._limits.get("global")
        if everything is not None and not self._take("global", everything):
            raise errors.rate_limited("global-rate")

    def _take(self, name: str, per_second: float) -> bool:
        now = self._monotonic()
        capacity = max(per_second, 1.0) if per_second else 0.0
        tokens, since = self._buckets.get(name, (capacity, now))
        tokens = min(capacity, tokens + (now - since) * per_second)
        admitted = tokens >= 1
        self._buckets[name] = (tokens - 1 if admitted else tokens, now)
        return admitted


class FaultInjector:
    """The faults in force."""

    def __init__(self, endpoints: frozenset[str]) -> None:
        self._endpoints = endpoints
        self.settings = Faults()
        self.limiter = Limiter({})

    def reset(self) -> None:
        """No faults."""
        self.settings, self.limiter = Faults(), Limiter({})

    def merge(self, changes: Any) -> None:
        """Change what is named, keep the rest; nothing changes if anything is wrong.

        Raises:
            ValueError: one sentence per problem.
        """
        if not isinstance(changes, dict):
            raise ValueError("the body must be a JSON object of settings")
        problems = [problem for name, value in changes.items() if (problem := self._problem(name, value))]
        if problems:
            raise ValueError("; ".join(problems))
        self.settings = replace(self.settings, **changes)
        if "rate_limits" in changes:
            self.limiter = Limiter(dict(changes["rate_limits"]))

    def fails_at_random(self) -> bool:
        """Whether this call is one of the ``error_rate``."""
        rate = self.settings.error_rate
        return rate > 0 and random.random() < rate  # noqa: S311 - faults need no secrecy

    def takes(self, counter: str) -> bool:
        """Use up one of ``drop_responses`` or ``lose_responses``, if any is left."""
        left: int = getattr(self.settings, counter)
        if left:
            change: dict[str, Any] = {counter: left - 1}
            self.settings = replace(self.settings, **change)
        return left > 0

    def _problem(self, name: str, value: Any) -> str | None:
        if name == "latency_ms":
            return None if _is_number(value, 600_000) else "latency_ms must be a number from 0 to 600000"
        if name == "error_rate":
            return None if _is_number(value, 1) else "error_rate must be a number from 0 to 1"
        if name == "down":
            return None if isinstance(value, bool) else "down must be true or false"
        if name in {"drop_responses", "lose_responses"}:
            is_count = isinstance(value, int) and _is_number(value, 10**9)
            return None if is_count else f"{name} must be a whole number of at least 0"
        if name == "rate_limits":
            return self._limits_problem(value)
        return f"{name} is no setting"

    def _limits_problem(self, value: Any) -> str | None:
        if not isinstance(value, dict) or not all(_is_number(limit, 10**9) for limit in value.values()):
            return "rate_limits must be an object of calls per second, each a number of at least 0"
        strangers = sorted(set(value) - self._endpoints - {"default", "global"})
        if strangers:
            known = ", ".join(sorted(self._endpoints))
            return f"rate_limits names {', '.join(strangers)}; there are default, global, {known}"
        return None


def _is_number(value: Any, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most
