"""Applies what the gateway says of one session to the payments here: nothing that is said of a session of ours is lost.

The feed, the reconciliation and whoever else is told of a session use this. It may be told twice, late, out of order
and by two replicas at once, and the result is the same.
"""

import logging
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Protocol

from service.application.checkout import RESUMED_AFTER
from service.application.outcome_writer import OutcomeWriter
from service.application.ports import Clock, CommandContext, Gateway, Store, ToldSession
from service.domain.errors import ConcurrentChangeError, IllegalTransitionError
from service.domain.outcomes import Expired, Opened, Paid, Unknown, UnknownCause
from service.domain.payment import Payment, PaymentStatus
from service.domain.status import ChangeKind, decide, unknown_session
from service.ratelimit.permit import Priority

_log = logging.getLogger(__name__)

_MAX_RACES: Final = 5


class ToldResult(StrEnum):
    """What became of a told session."""

    STRANGER = "stranger"
    """It is not ours: nothing was done."""
    KNOWN = "known"
    """It says nothing new."""
    CHANGED = "changed"
    """Its payment was changed: opened, completed or failed."""
    ADOPTED = "adopted"
    """A payment was made of it, and its outcome applied."""
    ATTENTION = "attention"
    """A person was called, by an event and an ERROR line."""
    UNATTACHED = "unattached"
    """No payment can stand for it: the ERROR line is all there is, each time it is told."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """The answer of `ToldSessions.apply`; `payment` is the one that the session belongs to, or was attached to."""

    result: ToldResult
    payment: Payment | None = None


class ToldObserver(Protocol):
    """Counts told sessions."""

    def on_told_session(self, result: str) -> None:
        """A told session was applied; see `ToldResult`."""


@dataclass(kw_only=True, eq=False)
class ToldSessions:
    """One per process."""

    store: Store
    gateway: Gateway
    outcomes: OutcomeWriter
    clock: Clock
    gateway_timeout_seconds: float
    observer: ToldObserver

    async def apply(self, session: ToldSession, *, context: CommandContext) -> Told | Unknown:
        """Let the payments here be what the gateway says.

        Unknown: it cannot be asked how the booking's own payment stands, so tell it again later.

        Raises:
            StoreUnavailableError, ConcurrentChangeError: tell it again later.
        """
        told = await self._apply(session, context)
        if isinstance(told, Told):
            self.observer.on_told_session(told.result)
        return told

    async def _apply(self, session: ToldSession, context: CommandContext) -> Told | Unknown:
        if payment := await self.store.payment_of_session(session.session_id):
            return await self._finish(payment, session, context)
        if session.reference is None:
            return Told(result=ToldResult.STRANGER)
        if payment := await self.store.payment_of_reference(session.reference):
            return await self._of_reference(payment, session, context)
        if session.booking_id is not None and (
            payment := await self.store.payment_told_of(
                session.session_id, booking_id=session.booking_id, reference=session.reference
            )
        ):
            return await self._attach(payment, session, context)  # a person decides, or has decided
        return await self._adopt(session, context)

    async def _finish(self, payment: Payment, session: ToldSession, context: CommandContext) -> Told:
        """Apply the outcome to the payment that has this session."""
        if isinstance(session.outcome, Unknown):
            return Told(result=ToldResult.KNOWN, payment=payment)
        try:
            after = await self.outcomes.apply(payment, session.outcome, context=context)
        except IllegalTransitionError as error:
            return self._unattached(session, f"payment {payment.id} is {payment.status}", payment, error)
        result = ToldResult.KNOWN
        if after.version != payment.version:
            result = ToldResult.CHANGED if after.attention == payment.attention else ToldResult.ATTENTION
        return Told(result=result, payment=after)

    async def _of_reference(self, payment: Payment, session: ToldSession, context: CommandContext) -> Told:
        """The answer to the payment's create was lost, or the payment has another session."""
        if payment.is_unopened and session.expires_at is not None:
            opened = Opened(
                session_id=session.session_id, payment_url=session.payment_url, expires_at=session.expires_at
            )
            try:
                payment = await self.outcomes.apply(payment, opened, context=context)
            except IllegalTransitionError:  # another session, or an end, was stored meanwhile
                payment = await self.store.payment(payment.id) or payment
        if payment.session_id == session.session_id:
            told = await self._finish(payment, session, context)
            return replace(told, result=ToldResult.CHANGED) if told.result is ToldResult.KNOWN else told
        if payment.session_id is None and payment.status is PaymentStatus.FAILED and isinstance(session.outcome, Paid):
            return await self._finish(payment, session, context)
        return await self._attach(payment, session, context)

    async def _adopt(self, session: ToldSession, context: CommandContext) -> Told | Unknown:
        """The record here is older than the session: make a payment of what the session carries."""
        draft = session.draft
        if draft is None:
            if isinstance(session.outcome, Expired):
                return Told(result=ToldResult.KNOWN)
            return self._unattached(session, "its metadata cannot be read")
        if session.livemode is not self.gateway.livemode:
            return self._unattached(session, "it is of the other mode")
        draft = replace(draft, gateway_request=self.gateway.checkout_request(draft))
        detail = {"session": session.session_id}
        for _ in range(_MAX_RACES):
            payment = await self.store.adopt(draft, detail=detail, request_id=context.request_id)
            if payment is not None:
                ids = {"payment_id": payment.id, "booking_id": payment.booking_id, **detail}
                _log.warning("payment %d is adopted: Stripe has its session, and it was unknown", payment.id, extra=ids)
                adopted = await self._of_reference(payment, session, context)
                return replace(adopted, result=ToldResult.ADOPTED) if adopted.result is ToldResult.CHANGED else adopted
            if payment := await self.store.payment_of_reference(draft.reference):  # another replica has adopted it
                return await self._of_reference(payment, session, context)
            latest = await self.store.latest_of_booking(draft.booking_id)
            if latest is not None and (told := await self._beside(latest, session, context)) is not None:
                return told
        raise ConcurrentChangeError  # what is in the way changes again and again

    async def _beside(self, payment: Payment, session: ToldSession, context: CommandContext) -> Told | Unknown | None:
        """What becomes of the session if its booking has this payment; None if the payment makes way for it."""
        stands = await self._as_it_stands(payment, context)
        if isinstance(stands, Unknown):
            return stands
        return await self._attach(stands, session, context) if stands.keeps_booking else None

    async def _as_it_stands(self, payment: Payment, context: CommandContext) -> Payment | Unknown:
        """The booking's payment, to which the gateway's word is applied: the record may be older than its end, too.

        Unknown: the gateway is away, or refuses the key. Who called a person now would keep the session from becoming a
        payment for good.
        """
        try:
            opened = await self._opened(payment, context) if payment.is_unopened else payment
            if isinstance(opened, Unknown) or opened.session_id is None or opened.status.is_final:
                return opened
            payment = opened
            outcome = await self.gateway.look_up(
                payment, timeout_seconds=self.gateway_timeout_seconds, priority=Priority.BACKGROUND
            )
            if isinstance(outcome, Unknown) and _will_be_known(outcome):
                return outcome
            return await self.outcomes.apply(payment, outcome, context=context)
        except (ConcurrentChangeError, IllegalTransitionError):  # somebody else has learned of it
            return await self.store.payment(payment.id) or payment

    async def _opened(self, payment: Payment, context: CommandContext) -> Payment | Unknown:
        """The payment with the session that was made under its terms; if there is none, and will be none, it ends.

        A booking gets another session only when the terms of the one before have come to nothing: they were renewed or
        replaced, and that is not in the record.
        """
        found = await self.gateway.find(payment, timeout_seconds=self.gateway_timeout_seconds)
        if isinstance(found, Unknown) and _will_be_known(found):
            return found
        if found is not None:
            return await self.outcomes.apply(payment, found, context=context)
        if (now := self.clock.now()) - payment.created_at <= RESUMED_AFTER:
            return payment  # its create may still be running
        # Not on a fresh copy, as `apply` does: a session that was stored meanwhile has not ended.
        change = decide(payment, Expired(), at=now, replaced=True)
        return payment if change is None else await self.outcomes.record(change, context=context)

    async def _attach(self, payment: Payment, session: ToldSession, context: CommandContext) -> Told:
        """Call a person for a session that is not the payment's own, once for each session."""
        if isinstance(session.outcome, Expired | Unknown):  # it takes no money, or nobody knows
            return Told(result=ToldResult.KNOWN, payment=payment)
        for _ in range(_MAX_RACES):
            for entry in await self.store.journal(payment.id):
                same = entry.detail.get("session") == session.session_id
                # Open at first and paid later is told twice.
                if entry.kind == ChangeKind.ATTENTION and same and entry.detail.get("gateway") == _word(session):
                    return Told(result=ToldResult.KNOWN, payment=payment)
            change = unknown_session(payment, session.session_id, session.outcome, at=self.clock.now())
            try:
                payment = await self.outcomes.record(change, context=context)
            except ConcurrentChangeError:
                payment = await self.store.payment(payment.id) or payment
            else:
                return Told(result=ToldResult.ATTENTION, payment=payment)
        raise ConcurrentChangeError(payment=payment.ref)

    def _unattached(
        self, session: ToldSession, why: str, payment: Payment | None = None, error: Exception | None = None
    ) -> Told:
        extra = {"session": session.session_id, "gateway": _word(session), "booking_id": session.booking_id}
        _log.error(
            "Stripe has a session of ours that no payment can stand for (%s): look it up at Stripe, and refund it if it"
            " took money that nobody owes",
            why,
            extra=extra,
            exc_info=error,
        )
        return Told(result=ToldResult.UNATTACHED, payment=payment)


def _will_be_known(unknown: Unknown) -> bool:
    """Whether the gateway says it once it is back, or an operator has put the right key there."""
    return unknown.is_passing or unknown.cause is UnknownCause.DENIED


def _word(session: ToldSession) -> str:
    return type(session.outcome).__name__.lower()
