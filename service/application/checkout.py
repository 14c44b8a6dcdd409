"""The checkout workflow: what moves a payment along. Begin it, open its session, release its booking, finish it.

Each step is safe to repeat and to run in two replicas at once: the gateway is always called under the payment's own
key, and what it answers is written only if nobody wrote in between.
"""

import contextlib
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from runtime import logs
from service.application.admission import Admission
from service.application.outcome_writer import OutcomeWriter
from service.application.policy import Policy
from service.application.ports import Begun, Clock, CommandContext, Gateway, Relation, RequestKey, Store
from service.application.single_flight import SingleFlight
from service.domain.errors import (
    CreateInProgressError,
    GatewayBusyError,
    GatewayDeniedError,
    GatewayFailedError,
    GatewayMisconfiguredError,
    IllegalTransitionError,
    NeedsAttentionError,
    OutcomeUnknownError,
    PaymentServiceError,
)
from service.domain.outcomes import Expired, Open, Opened, Outcome, Refused, Unknown, UnknownCause
from service.domain.payment import Draft, LastOutcome, Payment, RefusedRequest

RESUMED_AFTER: Final = timedelta(seconds=60)
"""A payment without a session that is older than this was left behind: its session may be paid or have ended."""
KEY_KEPT: Final = timedelta(hours=22)
"""The gateway keeps keys for at least a day, and with them whether a session was made: until then a repeat is proof.
Our clock may have been wrong by an hour."""
FIRST_TRY: Final = timedelta(seconds=5)
"""A payment that is older when the gateway is called may have been sent before."""
UNFINISHED_AFTER: Final = 10
"""Tries of the sweeper, about half an hour, after which it calls a person."""
UNKNOWN_AFTER: Final = 3
"""The same for a session that the gateway does not know: it answers, so there is less to wait for."""
_ON_ITS_WAY: Final = "A payment for this booking is being processed. Please do not pay again."

_ERRORS: Final[dict[UnknownCause, type[PaymentServiceError]]] = {
    UnknownCause.TIMEOUT: OutcomeUnknownError,
    UnknownCause.FAILED: GatewayFailedError,
    UnknownCause.DENIED: GatewayDeniedError,
    UnknownCause.MISCONFIGURED: GatewayMisconfiguredError,
    UnknownCause.LAPSED: GatewayFailedError,
    UnknownCause.KEPT: GatewayFailedError,
    UnknownCause.UNREADABLE: GatewayFailedError,
    UnknownCause.NO_SESSION: GatewayFailedError,
}


@dataclass(kw_only=True, eq=False)
class Checkout:
    """The workflow with what it needs. One per process."""

    store: Store
    gateway: Gateway
    policy: Policy
    clock: Clock
    admission: Admission
    outcomes: OutcomeWriter

    def __post_init__(self) -> None:
        self._timeout_seconds = self.policy.gateway_timeout_seconds
        self._least_seconds_left = self.policy.reuse_seconds
        self.openings: SingleFlight[Payment] = SingleFlight()

    async def begin(
        self, draft: Draft | RefusedRequest, *, keys: Sequence[RequestKey], context: CommandContext
    ) -> Begun:
        """The payment for a create: a new one, inserted when a permit to call the gateway is there, and then opened.

        What needs no such call is answered without a permit, however long the queue is. A create that the settings do
        not allow begins nothing, but may repeat what it began when they did.

        Raises:
            InvalidRequestError: the settings do not allow it, and it repeats nothing.
            GatewayBusyError: no permit comes before the caller leaves, or the gateway is busy.
            OutcomeUnknownError, GatewayFailedError: the session is not known, or the caller has left.
        """
        seconds, least = context.seconds_left(self.clock.now()), self._least_seconds_left
        if seconds is not None and seconds <= 0:  # nothing new is begun for nobody
            raise OutcomeUnknownError
        if isinstance(draft, RefusedRequest):
            existing = await self.store.existing(draft, keys=keys, least_seconds_left=least)
            if existing is None or existing.relation is Relation.OTHER:
                raise draft.error
            return existing
        async with contextlib.AsyncExitStack() as stack:
            decision = self.admission.at_once(context)
            if decision is None:
                await stack.enter_async_context(self.admission.serialized(draft.booking_id, context))
                existing = await self.store.existing(draft, keys=keys, least_seconds_left=least)
                if existing is not None and not existing.payment.is_unopened:
                    return existing
                decision = await self.admission.decide(draft.booking_id, context)
            await stack.enter_async_context(self.admission.permit(draft.booking_id, decision))
            seconds = context.seconds_left(self.clock.now())
            if seconds is not None and seconds <= 0:
                raise OutcomeUnknownError
            begun = await self.store.begin(draft, keys=keys, request_id=context.request_id, least_seconds_left=least)
            logs.bind(payment_id=begun.payment.id)
            # To resume what was left behind takes other calls too: those get permits of their own, with none in hand.
            left_behind = self.clock.now() - begun.payment.created_at > RESUMED_AFTER
            if begun.relation is Relation.OTHER or not begun.payment.is_unopened or left_behind:
                return begun
            return replace(begun, payment=await self.open(begun.payment, context=context))

    async def open(self, payment: Payment, *, context: CommandContext, wanted: bool = True) -> Payment:
        """Have the gateway make the session, once for concurrent calls; after an error the payment is as it was.

        If none was made and the payment's terms are too old to be sent, they are renewed; if it is not `wanted`, it
        ends.
        """
        seconds = context.seconds_left(self.clock.now())
        try:
            opening = functools.partial(self._open, payment, context, wanted=wanted)
            return await self.openings.run(payment.id, opening, seconds=seconds)
        except TimeoutError:  # the shared call goes on, and its outcome is stored
            raise OutcomeUnknownError(payment=payment.ref) from None

    async def release(self, payment: Payment, *, context: CommandContext, replaced: bool = False) -> Payment:
        """End a live payment so that its booking can be paid anew: at the gateway first, and only then here.

        `replaced`: for another create, and not because its time is over.

        Raises:
            CreateInProgressError: the gateway says that it can no longer be ended (the money is on its way).
            NeedsAttentionError: the same, and a person must look.
        """
        if payment.session_id is None:
            payment = await self.open(payment, context=context, wanted=False)
        if payment.status.is_final:
            return payment
        outcome = await self.gateway.expire(payment, timeout_seconds=self._timeout_seconds)
        payment = await self._applied(payment, outcome, context, replaced=replaced)
        if payment.status.is_final:
            return payment
        if payment.needs_person:
            raise NeedsAttentionError(payment=payment.ref)
        raise CreateInProgressError(_ON_ITS_WAY, payment=payment.ref)

    async def finish(self, payment: Payment, *, context: CommandContext) -> Payment:
        """Finish what nobody asks for: make the session that was never stored, end the one whose time is over.

        A person is called for what fails again and again.
        """
        try:
            if payment.session_id is None:
                return await self.open(payment, context=context)
            return await self.release(payment, context=context)
        except Exception:
            current = await self.store.payment(payment.id) or payment
            is_unknown = current.last_outcome == LastOutcome.NO_SESSION
            if payment.settle_attempts >= (UNKNOWN_AFTER if is_unknown else UNFINISHED_AFTER):
                await self.outcomes.call_person(current, context=context)
            raise

    async def _open(self, payment: Payment, context: CommandContext, *, wanted: bool) -> Payment:
        age = self.clock.now() - payment.created_at
        outcome = await self._sent(payment, age)
        if outcome is None and wanted:
            change = self.policy.renewed(payment, gateway=self.gateway, at=self.clock.now())
            payment = await self.outcomes.renew(change, context=context)
            age = timedelta()
            outcome = await self.gateway.open(payment, timeout_seconds=self._timeout_seconds)
        ended = outcome is None  # by another create, the only one that does not want it
        try:
            payment = await self._applied(payment, outcome or Expired(), context, replaced=ended)
        except IllegalTransitionError:
            if not isinstance(outcome, Opened) or not await self._is_ended(payment, outcome):
                raise
            payment = await self.store.payment(payment.id) or payment
        if age > RESUMED_AFTER and not payment.status.is_final:
            # A repeated answer shows the session as it was when it was made, not as it is.
            outcome = await self.gateway.look_up(payment, timeout_seconds=self._timeout_seconds)
            payment = await self._applied(payment, outcome, context)
        return payment

    async def _is_ended(self, payment: Payment, opened: Opened) -> bool:
        """End a session that nobody was given, as nobody may pay there; whether the gateway says that it has ended."""
        made = replace(payment, session_id=opened.session_id)
        return isinstance(await self.gateway.expire(made, timeout_seconds=self._timeout_seconds), Expired)

    async def _sent(self, payment: Payment, age: timedelta) -> Outcome | None:
        """What became of the payment's terms; None if no session was made of them, and none can be any more."""
        outcome: Outcome = Unknown(cause=UnknownCause.KEPT)  # as good as kept: the gateway has forgotten the key
        if age < KEY_KEPT:
            outcome = await self.gateway.open(payment, timeout_seconds=self._timeout_seconds)
        cause = outcome.cause if isinstance(outcome, Unknown) else None
        if cause is UnknownCause.LAPSED:
            return None  # had an earlier call made one, its answer would have been repeated
        is_kept = cause is UnknownCause.KEPT and age > RESUMED_AFTER
        if is_kept or (isinstance(outcome, Refused) and (outcome.repeated or age > FIRST_TRY)):
            # An earlier call may have made the session, whatever this one says: look for the session itself.
            found = await self.gateway.find(payment, timeout_seconds=self._timeout_seconds)
            if found is not None:
                return await self._usable(payment, found)
            if is_kept:
                return None  # every call under the key gets the same error
        return outcome if age <= FIRST_TRY else await self._usable(payment, outcome)

    async def _usable(self, payment: Payment, outcome: Outcome) -> Outcome | None:
        """The outcome; None if it is a session whose payer has no time left, which is ended.

        Nobody was given it: what a caller is given is stored before. If it is over already, the outcome is how it
        ended.
        """
        now = self.clock.now()
        if not isinstance(outcome, Opened) or outcome.payment_url is None or outcome.expires_at <= now:
            return outcome
        made = replace(payment, session_id=outcome.session_id, payment_url=outcome.payment_url, last_outcome=None)
        if not made.seems_over(now, seconds_left=self._least_seconds_left):
            return outcome
        stands = await self.gateway.look_up(made, timeout_seconds=self._timeout_seconds)
        return None if isinstance(stands, Open) and await self._is_ended(payment, outcome) else outcome

    async def _applied(
        self, payment: Payment, outcome: Outcome, context: CommandContext, *, replaced: bool = False
    ) -> Payment:
        """The payment with the outcome written; raises the error that stands for an unknown one."""
        payment = await self.outcomes.apply(payment, outcome, context=context, replaced=replaced)
        if isinstance(outcome, Unknown):
            if outcome.cause is UnknownCause.BUSY:
                wait = outcome.wait_seconds
                seconds = None if wait is None else max(1, math.ceil(wait))
                raise GatewayBusyError(payment=payment.ref, retry_after_seconds=seconds)
            raise _ERRORS[outcome.cause](payment=payment.ref)
        return payment
