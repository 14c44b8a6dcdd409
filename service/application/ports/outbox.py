"""Events that wait to be published, and their publisher."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

PUBLISH_SECONDS: Final = 5.0
"""How long publishing one message may take."""


class UnpublishedError(Exception):
    """The broker did not confirm the message."""


class BrokerLostError(UnpublishedError):
    """The broker was not reached, did not answer in time, or lacks an exchange or queue: not because of the message."""


class BrokerFailedError(BrokerLostError):
    """The broker met an error of its own and ended the connection: because of this message, or of one beside it."""


@dataclass(frozen=True, kw_only=True)
class OutboxRow:
    """An event to publish. Its bytes are stored, so that every copy is identical."""

    id: int
    event_id: str
    payment_id: int
    sequence: int
    routing_key: str
    headers: dict[str, str]
    body: bytes
    created_at: datetime
    attempts: int


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """What the outbox still has to send. `unsent` is counted up to a limit, and is that limit beyond it."""

    unsent: int
    oldest_at: datetime | None


class Outbox(Protocol):
    """Events that wait to be published. Several relays share it. Every method may raise StoreUnavailableError."""

    async def claim(self, *, limit: int, at: datetime, lease_seconds: float) -> Sequence[OutboxRow]:
        """The oldest unsent event of up to `limit` payments; no other relay gets them until the lease ends."""

    async def backlog(self) -> Backlog:
        """What is unsent, of all replicas; cheap, however much there is."""

    async def mark_sent(self, ids: Sequence[int], *, at: datetime) -> None:
        """Mark events that the broker has confirmed."""

    async def put_off(self, row_id: int, *, until: datetime) -> None:
        """Nobody claims the row until then: its publishing failed, and others must not wait for it."""

    async def prune_sent(self, *, before: datetime, limit: int) -> int:
        """Delete up to `limit` events that were sent before; how many were deleted."""

    async def release(self, ids: Sequence[int]) -> None:
        """Let any relay claim these at once, as if untried: the broker was lost."""


class EventPublisher(Protocol):
    """Publishes events."""

    async def event(self, row: OutboxRow) -> None:
        """Return when the broker has confirmed the event, or raise UnpublishedError. A second copy is harmless."""
