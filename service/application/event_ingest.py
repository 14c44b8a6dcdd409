"""Stores what session events say about our payments, and about sessions of ours that no payment here has."""

import asyncio
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol
from uuid import uuid4

from service.application.outcome_writer import OutcomeWriter
from service.application.own_work import own_work
from service.application.ports import Clock, CommandContext, Gateway, SessionEvent, Store, ToldSession
from service.application.told_session import ToldSessions
from service.domain.errors import (
    IllegalTransitionError,
    PaymentServiceError,
    StoreRefusedError,
    StoreUnavailableError,
)
from service.domain.outcomes import Outcome, Paid, Processing, Unknown
from service.domain.payment import Payment, PaymentStatus
from service.domain.status import TABLE, ChangeKind, Effect, decide
from service.ratelimit.permit import Priority

_log = logging.getLogger(__name__)

REMEMBERED: Final = 20_000
"""Ids of ingested events that are remembered: minutes of a rush, while reads overlap by seconds."""
CONCURRENCY: Final = 4
"""Payments finished at once: callers who wait for an answer come first."""
_LONGEST_ID: Final = 64
"""Of the gateway's events, as the journal keeps it."""
_NAME: Final = re.compile(r"\w{1,100}")


class FeedObserver(Protocol):
    """Counts what the event feed does."""

    def on_feed_read(self, result: str) -> None:
        """A read ended: complete, failed or busy."""

    def on_feed_page(self) -> None:
        """A page was fetched."""

    def on_feed_events(self, count: int, /) -> None:
        """So many events were ingested for the first time."""

    def on_feed_finished(self) -> None:
        """An event made a payment final."""

    def on_payment_known(self, seconds: float, /) -> None:
        """A payment was completed by an event that the gateway wrote so long ago, exact to the second."""

    def on_feed_failure(self) -> None:
        """An event could not be stored for its payment."""


@dataclass(kw_only=True, eq=False)
class EventIngestor:
    """Stores session events, each once. One per process."""

    store: Store
    gateway: Gateway
    outcomes: OutcomeWriter
    told_sessions: ToldSessions
    clock: Clock
    gateway_timeout_seconds: float
    observer: FeedObserver

    def __post_init__(self) -> None:
        self._known: dict[str, None] = {}
        self._one_batch = asyncio.Lock()
        self._slots = asyncio.Semaphore(CONCURRENCY)

    async def ingest(self, events: Sequence[SessionEvent], *, are_listed: bool = False) -> None:
        """Store the new events. On return every one of them is stored, including those of a concurrent call.

        `are_listed`: they are entries of a list of sessions, of which an open one is no news of a payment that we have.
        An event that cannot be stored is logged and counted, and tried again when it is read again. After
        StoreUnavailableError any part of the events may be stored.
        """
        async with self._one_batch:
            new = [event for event in events if event.id not in self._known]
            of_session: dict[str, SessionEvent] = {}
            for event in new:
                if event.session_id not in of_session or _says(event) > _says(of_session[event.session_id]):
                    of_session[event.session_id] = event
            payments = await self.store.payments_of_sessions(list(of_session)) if of_session else []
            of_payment = {payment.session_id: payment for payment in payments}
            chosen = [
                (of_payment.get(event.session_id), event)
                for event in of_session.values()
                if _may_be_news(of_payment.get(event.session_id), event, are_listed=are_listed)
            ]
            tries = (self._try(payment, event) for payment, event in chosen)
            results = await asyncio.gather(*tries, return_exceptions=True)
            if error := next((result for result in results if isinstance(result, BaseException)), None):
                raise error
            failed = {event.session_id for (_, event), done in zip(chosen, results, strict=True) if not done}
            stored = [event.id for event in new if event.session_id not in failed]
            self.observer.on_feed_events(len(stored))
            self._known.update(dict.fromkeys(stored))
            while len(self._known) > REMEMBERED:
                del self._known[next(iter(self._known))]

    async def _try(self, payment: Payment | None, event: SessionEvent) -> bool:
        """Whether the event is done with."""
        name = event.id if _NAME.fullmatch(event.id) else uuid4()
        subject = f"session {event.session_id}" if payment is None else f"payment {payment.id}"
        request_id = f"feed-{name}"
        async with (
            self._slots,
            own_work("feed", request_id=request_id, store=self.store, payment=payment) as context,
        ):
            try:
                if payment is None:
                    done = await self._tell(event, context)
                else:
                    done = await self._finish(payment, event, context)
                if done:
                    return True
            except PaymentServiceError as error:
                if isinstance(error, StoreUnavailableError) and not isinstance(error, StoreRefusedError):
                    raise
                _log.warning("%s cannot be finished yet: %s", subject, error.code)
            except Exception:  # noqa: BLE001 - an unexpected error with one payment must not stop the others
                _log.exception("%s could not be finished", subject)
            self.observer.on_feed_failure()
        return False

    async def _finish(self, payment: Payment, event: SessionEvent, context: CommandContext) -> bool:
        """False if the gateway has to be asked to make sure, and cannot be asked."""
        outcome = event.outcome
        if outcome is None or not _is_plain(payment, outcome, at=self.clock.now()):
            # An event has the shape of the account's own API version; the answer to a call has the one we pinned.
            outcome = await self.gateway.look_up(
                payment, timeout_seconds=self.gateway_timeout_seconds, priority=Priority.BACKGROUND
            )
            if isinstance(outcome, Unknown):
                return False
        if event.id != event.session_id:  # an entry of a list of sessions is no event
            told = {"gateway_event": event.id[:_LONGEST_ID], "gateway_event_at": event.at.isoformat()}
            outcome = replace(outcome, evidence={**outcome.evidence, **told})
        was_final = payment.status.is_final
        payment = await self.outcomes.apply(payment, outcome, context=context)
        if event.has_failed and isinstance(outcome, Processing):
            # No state of a session says so, and it stays complete and unpaid for good.
            payment = await self.outcomes.call_person(payment, context=context)
        if payment.status.is_final and not was_final:
            self.observer.on_feed_finished()
            if payment.status is PaymentStatus.COMPLETED:
                self.observer.on_payment_known((self.clock.now() - event.at).total_seconds())
        return True

    async def _tell(self, event: SessionEvent, context: CommandContext) -> bool:
        """Apply a session of ours that no payment here has, as it stands now; False if the gateway cannot be asked."""
        session = await self.gateway.retrieve(event.session_id, timeout_seconds=self.gateway_timeout_seconds)
        if not isinstance(session, ToldSession):
            return False
        return not isinstance(await self.told_sessions.apply(session, context=context), Unknown)


def _says(event: SessionEvent) -> int:
    """How much the event says of its session: of several that are read at once one is applied."""
    return 2 if event.outcome is not None else int(event.has_failed)


def _may_be_news(payment: Payment | None, event: SessionEvent, *, are_listed: bool) -> bool:
    """Whether anything can follow from the event."""
    if payment is None:
        return event.reference is not None  # without one it is a stranger's
    if event.outcome is None:
        return not payment.status.is_final and not are_listed
    return TABLE[payment.status, type(event.outcome)] is not Effect.STAY or isinstance(event.outcome, Paid)


def _is_plain(payment: Payment, outcome: Outcome, *, at: datetime) -> bool:
    """Whether the outcome fits its payment: what makes it final, or nothing at all, follows from it."""
    try:
        change = decide(payment, outcome, at=at)
    except IllegalTransitionError:
        return False
    return change is None or change.kind in {ChangeKind.COMPLETED, ChangeKind.FAILED}
