"""Reads what becomes of payments at the gateway after they were paid, and writes it here: refunds and disputes.

An event tells the total refunded so far; a failed refund and a dispute have ids of their own and the gateway's time. So
it does no harm to read an event twice, late or out of order.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from runtime import logs
from service.application.event_reader import RETENTION, UnreadError
from service.application.outcome_writer import OutcomeWriter
from service.application.own_work import own_work
from service.application.ports import ChargeEvent, Clock, CommandContext, Gateway, Store
from service.application.told_session import ToldSessions
from service.domain.errors import (
    ConcurrentChangeError,
    PaymentServiceError,
    StoreRefusedError,
    StoreUnavailableError,
)
from service.domain.outcomes import Unknown
from service.domain.payment import Payment, PaymentStatus
from service.domain.refunds import Refund, RefundStatus, disputed, refund_failed, refund_stands, refunded
from service.domain.status import Change
from service.ratelimit.permit import Priority

_log = logging.getLogger(__name__)

OVERLAP: Final = timedelta(hours=1)
"""So much is read again each time: refunds and disputes are few, and may be visible late."""
REMEMBERED: Final = 10_000
_MAX_RACES: Final = 5


@dataclass(kw_only=True, eq=False)
class AfterPaid:
    """One per process; the leader of the event feed calls it now and then."""

    store: Store
    gateway: Gateway
    outcomes: OutcomeWriter
    told_sessions: ToldSessions
    clock: Clock
    gateway_timeout_seconds: float

    def __post_init__(self) -> None:
        self._known: dict[str, None] = {}
        self._refunds: dict[str, dict[str, Refund]] = {}
        """Of each payment intent that was told of late, by their ids."""

    async def read(self, read_until: datetime | None, *, now: datetime) -> datetime | None:
        """Apply what happened since; the moment to go on from, None if that is where this began.

        Raises:
            UnreadError, StoreUnavailableError: read again from the same moment.
        """
        begin = now - RETENTION
        since = begin if read_until is None else max(begin, read_until - OVERLAP)
        newest, is_complete, after = None, True, None
        while True:
            page = await self.gateway.charge_events(
                since=since, after=after, timeout_seconds=self.gateway_timeout_seconds
            )
            if isinstance(page, Unknown):
                raise UnreadError(page)
            self._remember_refunds(page.events)
            for event in reversed(page.events):
                if event.at <= now:
                    newest = event.at if newest is None else max(newest, event.at)
                if event.id not in self._known and not await self._try(event):
                    is_complete = False
            if (after := page.next) is None:
                return newest if is_complete else None

    async def _try(self, event: ChargeEvent) -> bool:
        """Whether the event is done with."""
        async with own_work("after paid", request_id=f"feed-{uuid4()}", store=self.store) as context:
            try:
                done = await self._apply(event, context)
            except PaymentServiceError as error:
                if isinstance(error, StoreUnavailableError) and not isinstance(error, StoreRefusedError):
                    raise
                _log.warning("event %s cannot be applied yet: %s", event.id, error.code)
                return False
            except Exception:  # noqa: BLE001 - an unexpected error with one event must not stop the others
                _log.exception("event %s could not be applied", event.id)
                return False
        if done:
            self._known[event.id] = None
            _forget_oldest(self._known)
        return done

    def _remember_refunds(self, events: Iterable[ChargeEvent]) -> None:
        """A failure is the last word on a refund, whatever is heard after it."""
        for event in events:
            if (refund := event.refund) is None or event.payment_intent is None:
                continue
            known = self._refunds.setdefault(event.payment_intent, {})
            before = known.get(refund.id)
            if refund.has_failed or before is None or before.status is RefundStatus.OPEN:
                known[refund.id] = refund
        _forget_oldest(self._refunds)

    def _refunds_of(self, event: ChargeEvent) -> list[Refund]:
        return [*self._refunds.get(event.payment_intent or "", {}).values()]

    async def _apply(self, event: ChargeEvent, context: CommandContext) -> bool:
        """False if the gateway has to be asked, and cannot be asked."""
        if event.refund is not None and not any(each.has_failed for each in self._refunds_of(event)):
            return True  # the charge says what was refunded in all
        payment = None
        if event.reference is not None:
            payment = await self.store.payment_of_reference(event.reference)
        # These do not say whose they are, and a payment that is missing here may have to be adopted.
        is_ours = event.reference or event.dispute or event.refund
        if payment is None and event.payment_intent is not None and is_ours:
            session = await self.gateway.session_of_intent(
                event.payment_intent, timeout_seconds=self.gateway_timeout_seconds
            )
            if isinstance(session, Unknown):
                return False
            if session is not None:
                told = await self.told_sessions.apply(session, context=context)
                if isinstance(told, Unknown):
                    return False
                if told.payment is not None and told.payment.session_id == session.session_id:
                    payment = told.payment
        if payment is None:  # a stranger's, or a person was called
            return True
        with logs.context(payment_id=payment.id, booking_id=payment.booking_id):
            return await self._write(payment, event, context)

    async def _write(self, payment: Payment, event: ChargeEvent, context: CommandContext) -> bool:
        if payment.status is PaymentStatus.PENDING and payment.session_id is not None:
            # What was refunded was paid, which then comes first.
            outcome = await self.gateway.look_up(
                payment, timeout_seconds=self.gateway_timeout_seconds, priority=Priority.BACKGROUND
            )
            if isinstance(outcome, Unknown):
                return False
            payment = await self.outcomes.apply(payment, outcome, context=context)
        for _ in range(_MAX_RACES):
            change = await self._change(payment, event)
            if change is None:
                return True
            try:
                await self.outcomes.record(change, context=context)
            except ConcurrentChangeError:
                payment = await self.store.payment(payment.id) or payment
            else:
                if event.refund is not None:
                    # A total that changed nothing before this was known may change something now: the overlap is
                    # applied again.
                    self._known.clear()
                return True
        raise ConcurrentChangeError(payment=payment.ref)

    async def _change(self, payment: Payment, event: ChargeEvent) -> Change | None:
        at, told = self.clock.now(), event.told
        earlier = [entry.detail for entry in await self.store.journal(payment.id)]
        if event.dispute is not None:
            return disputed(payment, event.dispute, earlier, told=told, at=at)
        refunds = self._refunds_of(event)
        if event.refund is not None:
            change = refund_failed if event.refund.has_failed else refund_stands
            return change(payment, event.refund, earlier, refunds=refunds, told=told, at=at)
        total, is_whole = event.refunded_minor, event.is_whole
        return refunded(payment, total, earlier, is_whole=is_whole, refunds=refunds, told=told, at=at)


def _forget_oldest(remembered: dict[str, Any]) -> None:
    while len(remembered) > REMEMBERED:
        del remembered[next(iter(remembered))]
