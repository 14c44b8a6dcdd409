"""Writes what an outcome means for a payment, whoever learned it: a create, a verify, the event feed or the sweeper."""

import logging
from dataclasses import dataclass, replace
from typing import Final

from service.application.ports import Clock, CommandContext, Store
from service.domain.errors import ConcurrentChangeError
from service.domain.outcomes import Open, Outcome
from service.domain.payment import AttentionReason, Payment
from service.domain.status import Change, ChangeKind, decide, last_outcome, unsettled
from service.failpoints import FailPoint, hit

_log = logging.getLogger(__name__)

_MAX_REREADS: Final = 5


@dataclass(kw_only=True, eq=False)
class OutcomeWriter:
    """One per process. A change is written only if nobody wrote in between; otherwise it is decided again."""

    store: Store
    clock: Clock

    async def apply(
        self, payment: Payment, outcome: Outcome, *, context: CommandContext, replaced: bool = False
    ) -> Payment:
        """Write what the status table says of the outcome, on a fresh copy whenever another worker was faster.

        `replaced`: the session was ended for another create of the booking.
        """
        hit(FailPoint.OUTCOME_NOT_STORED)
        for _ in range(_MAX_REREADS):
            change = decide(payment, outcome, at=self.clock.now(), replaced=replaced)
            if change is None:
                return await self._note(payment, outcome)
            change.detail.update(outcome.evidence)
            try:
                payment = await self.store.record(change, context=context)
            except ConcurrentChangeError:
                current = await self.store.payment(payment.id) or payment
                if current.reference != payment.reference:  # the outcome is that of terms which are replaced
                    raise
                payment = current
            else:
                _report(change)
                return payment
        raise ConcurrentChangeError(payment=payment.ref)

    async def _note(self, payment: Payment, outcome: Outcome) -> Payment:
        """Keep what the gateway says of a pending payment, if that is news: it changes answers, but no status."""
        said = last_outcome(outcome)
        if payment.status.is_final or said == payment.last_outcome or not (said or isinstance(outcome, Open)):
            return payment
        if isinstance(outcome, Open) and payment.attention == AttentionReason.UNKNOWN_SESSION:
            return payment  # what tells this attention from that for another session of the booking
        await self.store.note_outcome(payment.id, said)
        return replace(payment, last_outcome=said)

    async def renew(self, change: Change, *, context: CommandContext) -> Payment:
        """Write new terms; ConcurrentChangeError if another worker was faster."""
        payment = await self.store.renew(change, context=context)
        _report(change)
        return payment

    async def call_person(self, payment: Payment, *, context: CommandContext) -> Payment:
        """Raise attention for what the sweeper cannot finish; ConcurrentChangeError if another worker was faster."""
        change = unsettled(payment, at=self.clock.now())
        return payment if change is None else await self.record(change, context=context)

    async def record(self, change: Change, *, context: CommandContext) -> Payment:
        """Write a change that somebody has decided; ConcurrentChangeError if another worker was faster."""
        payment = await self.store.record(change, context=context)
        _report(change)
        return payment


def _report(change: Change) -> None:
    payment = change.payment
    level = logging.ERROR if change.kind is ChangeKind.ATTENTION else logging.INFO
    what = "needs a person's attention" if change.kind is ChangeKind.ATTENTION else f"is {change.kind}"
    fields = {"payment_id": payment.id, "booking_id": payment.booking_id, "version": payment.version}
    _log.log(level, "payment %d %s", payment.id, what, extra={**fields, **change.detail})
