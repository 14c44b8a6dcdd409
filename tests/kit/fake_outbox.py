"""The outbox in memory. The port suites hold it to what the real adapter does."""

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from contracts import body, envelope
from contracts.events import PaymentEvent
from service.application import translation
from service.application.ports import Backlog, CommandContext, OutboxRow
from service.domain.status import Change


@dataclass(kw_only=True)
class Waiting:
    row: OutboxRow
    claimed_until: datetime | None = None
    sent_at: datetime | None = None


class FakeOutbox:
    """Events in a list."""

    def __init__(self) -> None:
        self._waiting: list[Waiting] = []
        self._ids = itertools.count(1)

    @property
    def events(self) -> list[PaymentEvent]:
        """All that was written and not pruned, oldest first."""
        return [PaymentEvent.model_validate_json(waiting.row.body) for waiting in self._waiting]

    @property
    def rows(self) -> list[OutboxRow]:
        """The same as rows."""
        return [waiting.row for waiting in self._waiting]

    def write(self, change: Change, context: CommandContext) -> None:
        key, event = translation.event(change)
        headers = {envelope.REQUEST_ID: context.request_id}
        if context.trace_parent is not None:
            headers[envelope.TRACE_PARENT] = context.trace_parent
        row = OutboxRow(
            id=next(self._ids),
            event_id=event.id,
            payment_id=change.payment.id,
            sequence=change.payment.version,
            routing_key=key.value,
            headers=headers,
            body=body.write(event),
            created_at=change.payment.updated_at,
            attempts=0,
        )
        self._waiting.append(Waiting(row=row))

    async def claim(self, *, limit: int, at: datetime, lease_seconds: float) -> Sequence[OutboxRow]:
        await asyncio.sleep(0)
        firsts: dict[int, Waiting] = {}
        for waiting in self._waiting:
            if waiting.sent_at is None:
                first = firsts.setdefault(waiting.row.payment_id, waiting)
                if waiting.row.sequence < first.row.sequence:
                    firsts[waiting.row.payment_id] = waiting
        free = [waiting for waiting in firsts.values() if waiting.claimed_until is None or waiting.claimed_until < at]
        claimed = sorted(free, key=lambda waiting: waiting.row.id)[:limit]
        for waiting in claimed:
            waiting.claimed_until = at + timedelta(seconds=lease_seconds)
            waiting.row = replace(waiting.row, attempts=waiting.row.attempts + 1)
        return [waiting.row for waiting in claimed]

    async def backlog(self) -> Backlog:
        await asyncio.sleep(0)
        unsent = [waiting.row for waiting in self._waiting if waiting.sent_at is None]
        return Backlog(unsent=len(unsent), oldest_at=unsent[0].created_at if unsent else None)

    def _of(self, *ids: int) -> Sequence[Waiting]:
        return [waiting for waiting in self._waiting if waiting.row.id in ids]

    async def mark_sent(self, ids: Sequence[int], *, at: datetime) -> None:
        for waiting in self._of(*ids):
            waiting.sent_at = at

    async def put_off(self, row_id: int, *, until: datetime) -> None:
        for waiting in self._of(row_id):
            waiting.claimed_until = until

    async def prune_sent(self, *, before: datetime, limit: int) -> int:
        await asyncio.sleep(0)
        sent = [(waiting.sent_at, waiting.row.id) for waiting in self._waiting if waiting.sent_at is not None]
        pruned = [row_id for sent_at, row_id in sorted(sent) if sent_at < before][:limit]
        self._waiting = [waiting for waiting in self._waiting if waiting.row.id not in pruned]
        return len(pruned)

    async def release(self, ids: Sequence[int]) -> None:
        for waiting in self._of(*ids):
            if waiting.sent_at is None:
                waiting.claimed_until = None
                waiting.row = replace(waiting.row, attempts=max(waiting.row.attempts - 1, 0))
