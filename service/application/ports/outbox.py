"""Events waiting to be published."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class OutboxRow:
    """An event to publish. The bytes are stored, so every resend is the same to the last bit."""

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
    """What the outbox still has to send. `unsent` is counted up to a bound, beyond which it is that bound."""

    unsent: int
    oldest_at: datetime | None


class Outbox(Protocol):
    """Events waiting to be published. Several relays may share it. Every method may raise StoreUnavailableError."""

    async def claim(self, *, limit: int, at: datetime, lease_seconds: float) -> Sequence[OutboxRow]:
        """The oldest unsent event of up to `limit` payments; no other relay gets them until the lease ends."""

    async def backlog(self) -> Backlog:
        """What is unsent, whoever sends it; cheap however much there is."""

    async def mark_sent(self, ids: Sequence[int], *, at: datetime) -> None:
        """The broker has confirmed these."""

    async def put_off(self, row_id: int, *, until: datetime) -> None:
        """Publishing failed: leave the row alone until then, so that others flow."""

    async def prune_sent(self, *, before: datetime, limit: int) -> int:
        """Delete up to `limit` events that were sent before; how many. The journal keeps what they told."""

    async def release(self, ids: Sequence[int]) -> None:
        """Publishing was not possible, which is no fault of these: anybody may claim them at once, as if untried."""
