"""What the feed is told, and what the replicas share of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from service.domain.outcomes import Outcome


@dataclass(frozen=True, kw_only=True)
class Lead:
    """The right to read the gateway's events for all replicas, for a while.

    `read_until`: everything that happened at the gateway before is read and stored; None if nothing was ever read.
    """

    read_until: datetime | None


class FeedRecord(Protocol):
    """Which replica leads the feed, and how far it has read. Every method may raise StoreUnavailableError."""

    async def claim(self, replica: str, *, lease_seconds: float) -> Lead | None:
        """Lead, or go on leading, for so long; None if another replica does."""

    async def advance(
        self, replica: str, *, read_until: datetime | None, began_seconds_ago: float, lease_seconds: float
    ) -> bool:
        """A reading that began so long ago is stored: keep how far it came (never back), renew, and tell the others.

        False if another replica leads by now: then nothing is kept or told.
        """

    async def release(self, replica: str) -> None:
        """Let another replica lead at once."""

    async def want(self) -> None:
        """Ask whoever leads to read now. It may be lost."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """What one event, or one session of a list, tells of a session.

    `id` is the event's own, or the session's; `at` is when it was made, exact to the second. `outcome` is Paid or
    Expired; None if the session stood otherwise, which concludes nothing.
    """

    id: str
    at: datetime
    session_id: str
    outcome: Outcome | None


@dataclass(frozen=True, kw_only=True)
class Page:
    """A part of what was asked for, newest first. `next`: what to pass as `after` for the next part, None at the end.

    What tells of no checkout session is left out, so that `told` may be empty and `next` not None.
    """

    told: Sequence[Told]
    next: str | None
