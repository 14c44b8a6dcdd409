"""How things stand now, as the console shows it. Counts end at a limit, so that none is slow."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class Minute:
    """How often a kind of change happened in the minute that began at `at`."""

    at: datetime
    kind: str
    number: int


@dataclass(frozen=True, kw_only=True)
class EndpointNow:
    """How calls to one endpoint of the gateway go, `*` for all of them together.

    `factor`: the share of the configured rate that is in use, 0 to 1; `free_in_seconds`: until when all calls are
    taken, 0 if one may begin now. The rest is of the last minute, of the `replicas` that told it, of which so many have
    an `open` circuit; `left`: the share of the requests allowed then that was not sent, None if there is no limit.
    """

    endpoint: str
    factor: float
    lowered_at: datetime | None
    free_in_seconds: float
    replicas: int
    open: int
    calls: int
    failed: int
    left: float | None


@dataclass(frozen=True, kw_only=True)
class Overview:
    """Of all replicas. `feed_read_until` is up to when Stripe's events were read, None before the first reading.

    `published_…_seconds`: how long events of the last ten minutes waited to be published; None if there were none.
    `known_…_seconds`: the same from the gateway's event, exact to the second, to the payment's completion here.
    """

    at: datetime
    pending: int
    attention: int
    unsent: int
    unsent_since: datetime | None
    feed_read_until: datetime | None
    feed_is_led: bool
    permits_waiting: int
    published_median_seconds: float | None
    published_slowest_seconds: float | None
    known_median_seconds: float | None
    known_slowest_seconds: float | None
    endpoints: Sequence[EndpointNow]
