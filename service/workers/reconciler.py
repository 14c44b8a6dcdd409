"""Holds Stripe's sessions against the payments here: before serving after a restore, and every hour."""

import logging
import time
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Protocol

from runtime.aio import LogOnChange, PeriodicLoop
from service.application.differences import described, sentence
from service.application.event_reader import UnreadError
from service.application.ports import LeaderLease, ToldSession
from service.application.reconciliation import AHEAD, EVER, Reconciliation
from service.domain.errors import StoreUnavailableError
from service.domain.outcomes import Unknown

_log = logging.getLogger(__name__)

LOST_BEFORE: Final = timedelta(minutes=10)
"""Payments are committed in another order than they were created, by so much at most: a backup may lack older ones."""
SKEW: Final = timedelta(days=1)
"""Stripe's clock may be ahead of ours, by less."""
PAGES: Final = 5
"""How many pages of strangers' sessions are looked through for ours."""
WINDOW: Final = timedelta(hours=2)
FIRST_SECONDS: Final = 300.0
"""From the start to the first comparison: replicas that are rolled often reconcile, too."""
AGAIN_SECONDS: Final = 60.0
FOLLOW_SECONDS: Final = 5.0
OWED_SECONDS: Final = 1.0
"""Between two tries of what `before_serving` could not, while creates wait for it."""


class ReconcileObserver(Protocol):
    """Counts differences."""

    def on_difference(self, kind: str) -> None:
        """A difference was found, mended or not."""


class Creates(Protocol):
    """Whether creates may call the gateway."""

    is_withheld: bool


class Feed(Protocol):
    """Knows whether this replica leads."""

    lease: LeaderLease | None


@dataclass(kw_only=True, eq=False)
class Reconciler:
    """One per process; any number of processes. The leader of the event feed compares, every `interval_seconds`.

    0: only what `before_serving` could not.
    """

    reconciliation: Reconciliation
    creates: Creates
    observer: ReconcileObserver
    interval_seconds: float
    first_seconds: float = FIRST_SECONDS
    follow_seconds: float = FOLLOW_SECONDS

    def __post_init__(self) -> None:
        self._owed_since: datetime | None = None
        self._due = time.monotonic() + self.first_seconds
        self._change = LogOnChange(_log)
        self._loop = PeriodicLoop(
            trouble="payments cannot be compared with Stripe", poll_seconds=AGAIN_SECONDS, passing=StoreUnavailableError
        )

    async def before_serving(self, *, always: bool = False) -> None:
        """Make payments of what Stripe has and the database has lost; without `always` only if it has lost something.

        If Stripe cannot be asked whether it has, that is left to `run`, and while Stripe is away no create begins a
        checkout: its booking may have one that is paid.

        Raises:
            UnreadError: something was lost, and Stripe stopped answering; what is done stays done.
            StoreUnavailableError
        """
        newest = await self.reconciliation.store.newest_opened_at()
        since = EVER if newest is None else newest - LOST_BEFORE
        try:
            if not always and not await self._has_lost(since):
                return
        except UnreadError as error:
            self._owed_since, self.creates.is_withheld = since, error.unknown.is_passing
            _log.warning("Stripe cannot be asked whether the database was restored (%s): it is asked later", error)
            return
        _log.warning("the database may be older than Stripe's sessions: comparing before serving", extra=_from(since))
        await self._compare(replace(self.reconciliation, grace_seconds=0.0), since)
        _log.warning("compared with Stripe: serving")

    async def run(self, feed: Feed) -> None:
        """Compare now and then, until cancelled."""
        await self._loop.run(lambda: self._pass(feed))

    async def _pass(self, feed: Feed) -> float:
        now = time.monotonic()
        is_due = feed.lease is not None and self.interval_seconds > 0 and now >= self._due
        if self._owed_since is None and not is_due:
            return self.follow_seconds
        window = max(WINDOW, timedelta(seconds=2 * self.interval_seconds))
        since = self._owed_since or self.reconciliation.clock.now() - window
        try:
            await self._compare(self.reconciliation, since)
        except UnreadError as error:
            self.creates.is_withheld &= error.unknown.is_passing
            self._change.failed("payments cannot be compared with Stripe (%s); trying again", error)
            self._due = now + AGAIN_SECONDS
        else:
            self._change.works("payments are compared with Stripe again")
            self._owed_since, self.creates.is_withheld, self._due = None, False, now + self.interval_seconds
        return self.follow_seconds if self._owed_since is None else min(OWED_SECONDS, self.follow_seconds)

    async def _has_lost(self, since: datetime) -> bool:
        """Whether Stripe's newest sessions of ours are unknown here."""
        parts, after = self.reconciliation, None
        for _ in range(PAGES):
            page = await parts.gateway.told_sessions(
                since=since,
                until=parts.clock.now() + SKEW,
                after=after,
                timeout_seconds=parts.gateway_timeout_seconds,
            )
            if isinstance(page, Unknown):
                raise UnreadError(page)
            if ours := [each for each in page.sessions if each.reference is not None]:
                found = await parts.store.payments_of_sessions([each.session_id for each in ours])
                known = {each.session_id for each in found}
                return any([await self._is_lost(each) for each in ours if each.session_id not in known])
            if (after := page.next) is None:
                return False
        return True  # it is not known

    async def _is_lost(self, session: ToldSession) -> bool:
        """Whether no payment here knows anything of the session."""
        store, reference = self.reconciliation.store, session.reference
        if reference is not None and await store.payment_of_reference(reference) is not None:
            return False
        told = session.booking_id and await store.payment_told_of(
            session.session_id, booking_id=session.booking_id, reference=reference
        )
        return not told

    async def _compare(self, reconciliation: Reconciliation, since: datetime) -> None:
        until = reconciliation.clock.now() + AHEAD
        async with aclosing(reconciliation.run(since=since, until=until, fix=True)) as stretches:
            async for stretch in stretches:
                for found in stretch.differences:
                    self.observer.on_difference(found.kind.value)
                    level = logging.WARNING if found.is_mended else logging.ERROR
                    _log.log(level, "%s", sentence(found), extra={"difference": described(found)})


def _from(since: datetime) -> dict[str, str]:
    return {"since": since.isoformat(timespec="seconds")}
