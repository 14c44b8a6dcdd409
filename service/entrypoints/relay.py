"""The relay: publishes what the outbox holds, in order per payment, and marks it after the broker's confirm."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

from contracts import envelope, logs
from service.application.ports import Clock, Outbox, OutboxRow
from service.entrypoints.broker import PUBLISH_SECONDS, BrokerLostError, Publisher, UnpublishedError
from service.entrypoints.rounds import Rounds
from service.failpoints import FailPoint, hit

_log = logging.getLogger(__name__)

BATCH: Final = 100
LEASE_SECONDS: Final = 2 * PUBLISH_SECONDS
"""Longer than publishing can take: nobody else publishes a row meanwhile, and soon somebody does if we die."""
POLL_SECONDS: Final = 1.0
"""Notifications only wake. This is what guarantees."""
GATHER_SECONDS: Final = 0.05
"""After a batch that was not full: in a rush the events of that time then share one claim and one mark."""
_MAX_PUT_OFF_SECONDS: Final = 300
ALARM_AFTER: Final = 5
"""Refusals of one event, half a minute of them, after which each is an error in the log: a person must look."""


class Alarm(Protocol):
    """Waits for a notification or for a time."""

    async def wait(self, seconds: float) -> None:
        """Return at a notification or after `seconds`."""

    def ring(self) -> None:
        """Wake whoever waits."""


@dataclass(kw_only=True)
class Counters:
    """What became of attempts to publish an event since the start. `unreachable`: RabbitMQ could not be asked."""

    published: int = 0
    refused: int = 0
    unreachable: int = 0


class Relay:
    """One per process; any number of processes."""

    def __init__(self, *, outbox: Outbox, publisher: Publisher, clock: Clock, alarm: Alarm) -> None:
        self._outbox = outbox
        self._publisher = publisher
        self._clock = clock
        self._alarm = alarm
        self._rounds = Rounds(trouble="the outbox cannot be read", poll_seconds=POLL_SECONDS)
        self._broker_takes_events = True
        self.counters = Counters()

    async def run(self) -> None:
        """Publish until `stop`; a notification begins the next round at once."""
        await self._rounds.run(self._round, wait=self._alarm.wait)

    def stop(self) -> None:
        """End `run` after the round that is under way."""
        self._rounds.stop()
        self._alarm.ring()

    async def flush(self) -> None:
        """Publish all that is committed and can be published now."""
        while await self.publish_next():
            pass

    async def publish_next(self) -> int:
        """One round: claim, publish, mark. How many were sent; if any, there may be more.

        No transaction is open while the broker is awaited; the lease keeps other relays away meanwhile. A refused
        event is put off, for longer each time. One that only met a lost broker is not: a backlog must flow as soon as
        the broker is back.
        """
        rows = await self._outbox.claim(limit=BATCH, at=self._clock.now(), lease_seconds=LEASE_SECONDS)
        failures = await asyncio.gather(*(self._publish(row) for row in rows))
        ended = list(zip(rows, failures, strict=True))
        sent = [row.id for row, failure in ended if failure is None]
        if sent:
            hit(FailPoint.EVENT_NOT_MARKED)
            await self._outbox.mark_sent(sent, at=self._clock.now())
        lost = [row.id for row, failure in ended if isinstance(failure, BrokerLostError)]
        if lost:
            await self._outbox.release(lost)
        self._tell(sent=bool(sent), lost=next((each for each in failures if isinstance(each, BrokerLostError)), None))
        await self._put_off([row for row, failure in ended if failure and not isinstance(failure, BrokerLostError)])
        return len(sent)

    async def _round(self) -> float:
        sent = await self.publish_next()
        if 0 < sent < BATCH:
            await asyncio.sleep(GATHER_SECONDS)
        return 0.0 if sent else POLL_SECONDS

    async def _publish(self, row: OutboxRow) -> UnpublishedError | None:
        """What kept the event from leaving; None if the broker has confirmed it."""
        with logs.context(payment_id=row.payment_id, **_ids(row.headers)):
            failure = await self._attempt(row)
        if failure is None:
            self.counters.published += 1
        elif isinstance(failure, BrokerLostError):
            self.counters.unreachable += 1
        else:
            self.counters.refused += 1
        return failure

    async def _attempt(self, row: OutboxRow) -> UnpublishedError | None:
        fields = {"event_id": row.event_id, "sequence": row.sequence, "attempts": row.attempts}
        hit(FailPoint.EVENT_NOT_PUBLISHED)
        try:
            await self._publisher.event(row)
            hit(FailPoint.EVENT_NOT_CONFIRMED)
        except BrokerLostError as lost:
            return lost
        except UnpublishedError as refused:
            level = logging.WARNING if row.attempts < ALARM_AFTER else logging.ERROR
            _log.log(level, "event %s was refused (%s)", row.event_id, refused, extra=fields)
            return refused
        except Exception as error:  # noqa: BLE001 - a row that surprises us (a newer version wrote it) must not stop the others
            _log.exception("event %s cannot be published", row.event_id, extra=fields)
            return UnpublishedError(type(error).__name__)
        _log.info("%s of payment %d is published", row.routing_key, row.payment_id, extra=fields)
        return None

    def _tell(self, *, sent: bool, lost: BrokerLostError | None) -> None:
        """One line per change."""
        if lost is not None and self._broker_takes_events:
            self._broker_takes_events = False
            _log.warning("events cannot be published (%s); trying again", lost)
        elif sent and lost is None and not self._broker_takes_events:
            self._broker_takes_events = True
            _log.info("events are published again")

    async def _put_off(self, rows: Sequence[OutboxRow]) -> None:
        for row in rows:
            seconds = min(2 ** min(row.attempts - 1, 10), _MAX_PUT_OFF_SECONDS)
            await self._outbox.put_off(row.id, until=self._clock.now() + timedelta(seconds=seconds))


def _ids(headers: dict[str, str]) -> dict[str, str]:
    """Of the request that the event goes back to."""
    ids = {"request_id": headers[envelope.REQUEST_ID]} if envelope.REQUEST_ID in headers else {}
    trace_parent = headers.get(envelope.TRACE_PARENT)
    return ids | envelope.trace_ids(trace_parent) if envelope.is_trace_parent(trace_parent) and trace_parent else ids
