"""The steps that move a payment along: open it, ask about it, release its booking.

Each is safe to repeat and to run in two replicas at once: the gateway is always called under the payment's own key, and
what it answers is written only if nobody wrote in between.
"""

import asyncio
import functools
import logging
import math
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final, TypeVar

from contracts import logs
from service.application.admission import Admission, NoPlaces
from service.application.asking import Asked, Asking
from service.application.budget import Budget
from service.application.news import News
from service.application.policy import Policy
from service.application.ports import Begun, Clock, CommandContext, Gateway, Places, Relation, RequestKey, Store
from service.application.single_flight import SingleFlight
from service.application.turns import Turn
from service.domain.errors import (
    ConcurrentChangeError,
    CreateInProgressError,
    GatewayBusyError,
    GatewayDeniedError,
    GatewayFailedError,
    OutcomeUnknownError,
    PaymentServiceError,
)
from service.domain.outcomes import Outcome, Unknown, UnknownCause
from service.domain.payment import OPENED_WITHIN, Draft, Payment, PaymentStatus
from service.domain.status import Change, ChangeKind, decide, unsettled
from service.failpoints import FailPoint, hit

_log = logging.getLogger(__name__)

RESUMED_AFTER: Final = timedelta(seconds=60)
"""A payment without a session that is older than this was left behind: its session may be paid or have ended."""
KEY_KEPT: Final = timedelta(hours=23)
"""The gateway keeps keys for at least a day, and with them whether a session was made: until then a repeat is proof."""

UNSETTLED_AFTER: Final = 10
"""Tries of the settler, about half an hour, after which it calls a person."""

_MAX_REREADS: Final = 5

_ERRORS: Final[dict[UnknownCause, type[PaymentServiceError]]] = {
    UnknownCause.TIMEOUT: OutcomeUnknownError,
    UnknownCause.FAILED: GatewayFailedError,
    UnknownCause.DENIED: GatewayDeniedError,
    UnknownCause.UNREADABLE: GatewayFailedError,
}

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Steps:
    """The steps with what they need. One per process."""

    store: Store
    gateway: Gateway
    policy: Policy
    clock: Clock
    budget: Budget = field(default_factory=lambda: Budget(concurrency=64))
    news: News = field(default_factory=News)
    places: Places = field(default_factory=NoPlaces)
    _openings: SingleFlight[Payment] = field(default_factory=SingleFlight)
    _asks: SingleFlight[Asked] = field(default_factory=SingleFlight)

    @functools.cached_property
    def admission(self) -> Admission:
        """Who may create now."""
        return Admission(budget=self.budget, places=self.places, clock=self.clock)

    @functools.cached_property
    def asking(self) -> Asking:
        """How it is learnt how a session stands."""
        return Asking(
            store=self.store,
            gateway=self.gateway,
            policy=self.policy,
            clock=self.clock,
            budget=self.budget,
            news=self.news,
            apply=self.apply,
        )

    async def begin(self, draft: Draft, *, keys: Sequence[RequestKey], context: CommandContext) -> Begun:
        """The payment for a create: a new one, inserted when its turn to call the gateway has come and then opened.

        What needs no such call is answered without a turn, however long the line is.

        Raises:
            GatewayBusyError: the turn would not come before the caller leaves, or the gateway is busy.
            OutcomeUnknownError, GatewayFailedError: the session is not known, or the caller has left.
        """
        self.check_deadline(context)
        if self.admission.is_free():
            return await self._begin(draft, keys, context)
        async with self.admission.alone(draft.booking_id, deadline=context.deadline):
            existing = await self.store.existing(draft, keys=keys)
            if existing is None or _is_unopened(existing.payment):
                return await self._begin(draft, keys, context)
            return existing

    async def open(self, payment: Payment, *, context: CommandContext, turn: Turn | None = None) -> Payment:
        """Have the gateway make the session. Concurrent calls for a payment share one. `turn`: the caller's to create.

        Raises:
            OutcomeUnknownError, GatewayFailedError, GatewayBusyError: not known; the payment is as it was.
        """
        return await self._in_time(
            self._openings.run(payment.id, lambda: self._open(payment, context, turn)), payment, context
        )

    async def ask(self, payment: Payment, *, context: CommandContext) -> Asked:
        """Learn how the session stands: from the gateway, from the feed's next reading, or as somebody just did.

        Concurrent calls for a payment share one. Raises OutcomeUnknownError when the caller's deadline passes first.
        """
        return await self._in_time(self._asks.run(payment.id, lambda: self._ask(payment, context)), payment, context)

    async def release(self, payment: Payment, *, context: CommandContext) -> Payment:
        """End a live payment so that its booking can be paid anew: at the gateway first, and only then here.

        Raises:
            CreateInProgressError: the gateway says that it can no longer be ended (the money is on its way).
            OutcomeUnknownError, GatewayFailedError, GatewayBusyError: not known; the payment is as it was.
        """
        if payment.session_id is None:
            payment = await self.open(payment, context=context)
        if payment.status.is_final:
            return payment
        outcome = await self.gateway.expire(payment, timeout_seconds=self.policy.gateway_timeout_seconds)
        payment = await self.apply(payment, outcome, context=context)
        _raise_if_unknown(outcome, payment)
        if not payment.status.is_final:
            raise CreateInProgressError(payment=payment)
        return payment

    async def apply(self, payment: Payment, outcome: Outcome, *, context: CommandContext) -> Payment:
        """Write what the outcome means, deciding again on a fresh copy whenever another worker was faster.

        Raises:
            IllegalTransitionError: the status table calls the outcome impossible.
        """
        hit(FailPoint.OUTCOME_NOT_STORED)
        return await self._write(payment, lambda current: decide(current, outcome, at=self.clock.now()), context)

    async def settle(self, payment: Payment, *, context: CommandContext) -> Payment:
        """Finish what nobody asks for: make the session that was never stored, end the one whose time is over.

        Raises what `open` and `release` raise; the settler comes again.
        """
        if payment.settle_attempts >= UNSETTLED_AFTER:
            payment = await self._write(payment, lambda current: unsettled(current, at=self.clock.now()), context)
        if payment.session_id is None:
            return await self.open(payment, context=context)
        return await self.release(payment, context=context)

    async def _write(
        self, payment: Payment, change_of: Callable[[Payment], Change | None], context: CommandContext
    ) -> Payment:
        for _ in range(_MAX_REREADS):
            change = change_of(payment)
            if change is None:
                return payment
            try:
                payment = await self.store.record(change, context=context)
            except ConcurrentChangeError:
                payment = await self.store.payment(payment.id) or payment
            else:
                _tell(change)
                return payment
        raise ConcurrentChangeError(payment=payment)

    def check_deadline(self, context: CommandContext) -> None:
        """Raises OutcomeUnknownError if the caller has left: nothing new is begun for nobody."""
        if context.deadline is not None and context.deadline <= self.clock.now():
            raise OutcomeUnknownError

    async def drain(self) -> None:
        """Wait for the gateway calls whose callers have left; their outcomes are to be stored."""
        await self._openings.drain()
        await self._asks.drain()

    async def _begin(self, draft: Draft, keys: Sequence[RequestKey], context: CommandContext) -> Begun:
        async with self.admission.turn(draft.booking_id, deadline=context.deadline) as turn:
            self.check_deadline(context)
            begun = await self.store.begin(draft, keys=keys, request_id=context.request_id)
            logs.bind(payment_id=begun.payment.id)
            # To resume what was left behind takes other calls too: those get turns of their own, without ours in hand.
            left_behind = self.clock.now() - begun.payment.created_at > RESUMED_AFTER
            if begun.relation is Relation.OTHER or not _is_unopened(begun.payment) or left_behind:
                return begun
            return replace(begun, payment=await self.open(begun.payment, context=context, turn=turn))

    async def _open(self, payment: Payment, context: CommandContext, turn: Turn | None = None) -> Payment:
        timeout = self.policy.gateway_timeout_seconds
        age = self.clock.now() - payment.created_at
        outcome: Outcome = Unknown(cause=UnknownCause.FAILED)
        if age < KEY_KEPT:
            outcome = await self.gateway.open(payment, timeout_seconds=timeout, turn=turn)
        if age > RESUMED_AFTER and isinstance(outcome, Unknown) and outcome.cause is UnknownCause.FAILED:
            # The key is forgotten, or the gateway repeats an error that it kept under it: look for the session itself.
            found = await self.gateway.find(payment, timeout_seconds=timeout)
            if found is not None:
                outcome = found
            elif age > OPENED_WITHIN:
                # So late no call of ours is on its way any more, and none can make a session with that expiry: what is
                # not found was not made.
                outcome = await self.gateway.open(payment, timeout_seconds=timeout, proven_absent=True)
        payment = await self.apply(payment, outcome, context=context)
        _raise_if_unknown(outcome, payment)
        if age > RESUMED_AFTER and not payment.status.is_final:
            # A repeated answer shows the session as it was when it was made, not as it is.
            outcome = await self.gateway.look_up(payment, timeout_seconds=timeout)
            payment = await self.apply(payment, outcome, context=context)
            _raise_if_unknown(outcome, payment)
        return payment

    async def _ask(self, payment: Payment, context: CommandContext) -> Asked:
        return await self.asking.ask(payment, context=context)

    async def _in_time(self, call: Coroutine[Any, Any, Result], payment: Payment, context: CommandContext) -> Result:
        """The result, unless the caller's deadline comes first; the shared call goes on and its outcome is stored."""
        seconds = None if context.deadline is None else (context.deadline - self.clock.now()).total_seconds()
        try:
            async with asyncio.timeout(seconds):
                return await call
        except TimeoutError:
            raise OutcomeUnknownError(payment=payment) from None


def _is_unopened(payment: Payment) -> bool:
    return payment.status is PaymentStatus.PENDING and payment.session_id is None


def _raise_if_unknown(outcome: Outcome, payment: Payment) -> None:
    if isinstance(outcome, Unknown):
        if outcome.cause is UnknownCause.BUSY:
            wait = outcome.wait_seconds
            seconds = None if wait is None else max(1, math.ceil(wait))
            raise GatewayBusyError(payment=payment, retry_after_seconds=seconds)
        raise _ERRORS[outcome.cause](payment=payment)


def _tell(change: Change) -> None:
    payment = change.payment
    level = logging.ERROR if change.kind is ChangeKind.ATTENTION else logging.INFO
    what = "needs a person's attention" if change.kind is ChangeKind.ATTENTION else f"is {change.kind}"
    fields = {"payment_id": payment.id, "booking_id": payment.booking_id, "version": payment.version}
    _log.log(level, "payment %d %s", payment.id, what, extra={**fields, **change.detail})
