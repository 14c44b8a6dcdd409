"""Publishes the events in the outbox, in order per payment, and marks each after the broker's confirm."""

import asyncio
import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

from contracts import envelope
from runtime import logs
from runtime.aio import PeriodicLoop
from service.application.ports import (
    PUBLISH_SECONDS,
    BrokerLostError,
    Clock,
    EventPublisher,
    Outbox,
    OutboxRow,
    UnpublishedError,
)
from service.domain.errors import StoreUnavailableError
from service.failpoints import FailPoint, hit

_log = logging.getLogger(__name__)

BATCH: Final = 100
LEASE_SECONDS: Final = 2 * PUBLISH_SECONDS
"""Longer than publishing can take: no other relay publishes the row meanwhile, and one does soon if this one dies."""
POLL_SECONDS: Final = 1.0
"""The guarantee: a notification only makes a pass start sooner."""
GATHER_SECONDS: Final = 0.05
"""The pause after a batch that was not full: in a rush, events of that time share one claim and one mark."""
_MAX_PUT_OFF_SECONDS: Final = 300
ERROR_AFTER: Final = 5
"""After so many refusals of an event (half a minute), each one is logged as an error: a person must look."""


class Wakeup(Protocol):
    """Waits for a notification or for a time."""

    async def wait(self, seconds: float) -> None:
        """Return at the next notification, or after `seconds`."""

    def wake(self) -> None:
        """End the wait."""


class RelayObserver(Protocol):
    """Counts what the relay does."""

    def on_event(self, result: str) -> None:
        """An attempt to publish an event ended: published, refused, or unreachable if the broker was lost."""

    def on_event_published(self, seconds: float) -> None:
        """An event was published so long after it was written."""


@dataclass(kw_only=True, eq=False)
class Relay:
    """One per process; any number of processes."""

    outbox: Outbox
    publisher: EventPublisher
    clock: Clock
    wakeup: Wakeup
    observer: RelayObserver

    def __post_init__(self) -> None:
        self._loop = PeriodicLoop(
            trouble="the outbox cannot be read", poll_seconds=POLL_SECONDS, passing=StoreUnavailableError
        )

    async def run(self) -> None:
        """Publish until `stop`; a notification starts the next pass at once."""
        await self._loop.run(self._pass, wait=self.wakeup.wait)

    def stop(self) -> None:
        """End `run` after the current pass."""
        self._loop.stop()
        self.wakeup.wake()

    async def flush(self) -> None:
        """Publish all that is committed and can be published now; the rest is left to another relay."""
        try:
            while await self.publish_next():
                pass
        except StoreUnavailableError:
            _log.warning("the last events are left to another relay")

    async def publish_next(self) -> int:
        """Claim, publish and mark one batch; how many were sent. If any were, there may be more.

        No transaction is open while the broker is awaited; the lease keeps other relays away. A refused event is put
        off, for longer each time. An event is not put off because the broker was lost: the backlog must flow as soon as
        the broker is back.
        """
        rows = await self.outbox.claim(limit=BATCH, at=self.clock.now(), lease_seconds=LEASE_SECONDS)
        failures = await asyncio.gather(*(self._publish(row) for row in rows))
        results = list(zip(rows, failures, strict=True))
        sent = [row.id for row, failure in results if failure is None]
        if sent:
            hit(FailPoint.EVENT_NOT_MARKED)
            await self.outbox.mark_sent(sent, at=self.clock.now())
        if lost := [row.id for row, failure in results if isinstance(failure, BrokerLostError)]:
            await self.outbox.release(lost)
        for row, failure in results:
            if failure is not None and not isinstance(failure, BrokerLostError):
                seconds = min(2 ** min(row.attempts - 1, 10), _MAX_PUT_OFF_SECONDS)
                await self.outbox.put_off(row.id, until=self.clock.now() + timedelta(seconds=seconds))
        return len(sent)

    async def _pass(self) -> float:
        sent = await self.publish_next()
        if 0 < sent < BATCH:
            await asyncio.sleep(GATHER_SECONDS)
        return 0.0 if sent else POLL_SECONDS

    async def _publish(self, row: OutboxRow) -> UnpublishedError | None:
        """What kept the event from being published; None if the broker has confirmed it."""
        fields = {"event_id": row.event_id, "sequence": row.sequence, "attempts": row.attempts}
        failure: UnpublishedError | None = None
        with logs.context(payment_id=row.payment_id, **_ids(row.headers)):
            hit(FailPoint.EVENT_NOT_PUBLISHED)
            try:
                await self.publisher.event(row)
                hit(FailPoint.EVENT_NOT_CONFIRMED)
            except BrokerLostError as lost:
                result, failure = "unreachable", lost
            except UnpublishedError as refused:
                result, failure = "refused", refused
                level = logging.WARNING if row.attempts < ERROR_AFTER else logging.ERROR
                _log.log(level, "event %s was refused (%s)", row.event_id, refused, extra=fields)
            except Exception as error:  # noqa: BLE001 - one unexpected row (of a newer version) must not stop the others
                result, failure = "refused", UnpublishedError(type(error).__name__)
                _log.exception("event %s cannot be published", row.event_id, extra=fields)
            else:
                result = "published"
                self.observer.on_event_published((self.clock.now() - row.created_at).total_seconds())
                _log.info("%s of payment %d is published", row.routing_key, row.payment_id, extra=fields)
        self.observer.on_event(result)
        return failure


def _ids(headers: dict[str, str]) -> dict[str, str]:
    """The ids of the request that caused the event."""
    ids = {"request_id": headers[envelope.REQUEST_ID]} if envelope.REQUEST_ID in headers else {}
    trace_parent = headers.get(envelope.TRACE_PARENT, "")
    return ids | envelope.trace_ids(trace_parent) if envelope.is_trace_parent(trace_parent) else ids
