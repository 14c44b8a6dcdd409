"""Reads refunds and disputes for all replicas: the leader of the event feed does, once a minute."""

import logging
from dataclasses import dataclass
from typing import Final

from runtime.aio import LogOnChange, PeriodicLoop
from service.application.after_paid import AfterPaid
from service.application.event_reader import UnreadError
from service.domain.errors import StoreUnavailableError
from service.workers.event_feed import EventFeed

_log = logging.getLogger(__name__)

READ_SECONDS: Final = 60.0
"""Nobody waits for these: one call a minute, whether or not anything is pending."""
FOLLOW_SECONDS: Final = 1.0
"""Between looks whether this replica leads."""


@dataclass(kw_only=True, eq=False)
class AfterPaidReader:
    """One per process; any number of processes."""

    feed: EventFeed
    interval_seconds: float = READ_SECONDS

    def __post_init__(self) -> None:
        feed = self.feed
        self.after_paid = AfterPaid(
            store=feed.store,
            gateway=feed.gateway,
            outcomes=feed.outcomes,
            told_sessions=feed.told_sessions,
            clock=feed.clock,
            gateway_timeout_seconds=feed.gateway_timeout_seconds,
        )
        self._change = LogOnChange(_log)
        self._loop = PeriodicLoop(
            trouble="refunds and disputes cannot be stored", poll_seconds=FOLLOW_SECONDS, passing=StoreUnavailableError
        )

    async def run(self) -> None:
        """Read until `stop`."""
        await self._loop.run(self._pass)

    def stop(self) -> None:
        """End `run` after the read in progress."""
        self._loop.stop()

    async def _pass(self) -> float:
        lease = self.feed.lease
        if lease is None:
            return FOLLOW_SECONDS
        try:
            read_until = await self.after_paid.read(lease.charges_read_until, now=lease.now)
        except UnreadError as error:
            self._change.failed("Stripe's refunds and disputes cannot be read (%s); trying again", error)
        else:
            self._change.works("Stripe's refunds and disputes can be read again")
            if read_until is not None:
                await self.feed.cursor.advance_charges(self.feed.replica, read_until=read_until)
        return self.interval_seconds
