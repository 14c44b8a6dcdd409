"""The steps that move a payment along: open it, ask about it, release its booking.

Each is safe to repeat and to run in two replicas at once: the gateway is always called under the payment's own key, and
what it answers is written only if nobody wrote in between.
"""

import asyncio
import contextlib
import functools
import logging
import math
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from service.application import asking
from service.application.admission import Admission, NoPlaces
from service.application.asking import Recent, Situation, Way
from service.application.budget import Budget, Endpoint, Turn
from service.application.news import Heard, News
from service.application.policy import Policy
from service.application.ports import Begun, Clock, CommandContext, Gateway, Places, Relation, RequestKey, Store
from service.application.single_flight import SingleFlight
from service.domain.errors import (
    ConcurrentChangeError,
    CreateInProgressError,
    GatewayBusyError,
    GatewayDeniedError,
    GatewayFailedError,
    OutcomeUnknownError,
    PaymentServiceError,
    StoreUnavailableError,
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
class Asked:
    """A payment after an attempt to ask the gateway; `answered` is False if it could not be asked."""

    payment: Payment
    answered: bool


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
    _recent: Recent = field(default_factory=Recent)
    _openings: SingleFlight[Payment] = field(default_factory=SingleFlight)
    _asks: SingleFlight[Asked] = field(default_factory=SingleFlight)

    @functools.cached_property
    def admission(self) -> Admission:
        """Who may create now."""
        return Admission(budget=self.budget, places=self.places, clock=self.clock)

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
        """Whichever way `asking.way` says."""
        now = self.clock.now()
        fresh = timedelta(seconds=self.policy.freshness_seconds)
        answered = self._recent.answered(payment.id, since=now - fresh)
        situation = Situation(
            asked_at=payment.asked_at,
            at=now,
            known=answered is not None,
            always_ask=not fresh,
            feed_is_current=self.news.last_read_seconds_ago() <= self.policy.feed_trusted_seconds,
            feed_is_busy=self.news.feed_is_busy,
            turn_is_free=self.budget.is_free(Endpoint.RETRIEVE),
            turn_seconds=self.budget.wait_seconds(Endpoint.RETRIEVE),
            may_ask_again=self._recent.may_ask_again(now),
        )
        match asking.way(situation):
            case Way.KNOWN:
                return Asked(payment=payment, answered=answered is True)
            case Way.WATCH:
                asked = await self._read_by_feed(payment)
                return replace(asked, answered=asked.answered or answered is True)
            case Way.RIDE:
                self.news.want_reading()
                asked = await self._read_by_feed(payment)
            case Way.ASK:
                asked = await self._ask_gateway(payment, context)
            case Way.BUSY:
                return Asked(payment=payment, answered=False)
        self._recent.note(payment.id, at=now, answered=asked.answered)
        return asked

    async def _read_by_feed(self, payment: Payment) -> Asked:
        """What the feed's next reading tells, or anybody else before that."""
        heard = await self.news.wait(payment.id, seconds=asking.READING_SECONDS, reading=True)
        return await self._heard(payment, heard)

    async def _ask_gateway(self, payment: Payment, context: CommandContext) -> Asked:
        """Look the session up, unless another replica does or has just done so: then as that tells."""
        now = self.clock.now()
        fresh = self.policy.freshness_seconds
        if not await self.store.claim_ask(payment.id, at=now, fresh_seconds=fresh):
            current = await self.store.payment(payment.id) or payment
            left = (current.asked_at or now) + asking.ANSWERED_WITHIN - now
            if left > timedelta(0) and not current.status.is_final:
                heard = await self.news.wait(payment.id, seconds=left.total_seconds())
                current = current if heard is Heard.NOTHING else await self.store.payment(payment.id) or payment
            in_vain = current.ask_failed_at is not None and current.ask_failed_at == current.asked_at
            return Asked(payment=current, answered=current.status.is_final or not in_vain)
        if payment.asked_at is not None:
            self._recent.note_again(now)
        outcome, asked_at = await self._look_up(payment, now)
        if isinstance(outcome, Unknown):
            await self.store.note_ask_failed(payment.id, at=asked_at)
            return Asked(payment=payment, answered=False)
        return Asked(payment=await self.apply(payment, outcome, context=context), answered=True)

    async def _look_up(self, payment: Payment, at: datetime) -> tuple[Outcome, datetime]:
        """How the session stands, and when that was last claimed: a claim that a slow call outlives is renewed."""
        seconds = self.policy.gateway_timeout_seconds
        call = asyncio.ensure_future(self.gateway.look_up(payment, timeout_seconds=seconds))
        try:
            while not (await asyncio.wait({call}, timeout=self.policy.freshness_seconds * 0.8 or None))[0]:
                with contextlib.suppress(StoreUnavailableError):
                    at = self.clock.now()
                    await self.store.claim_ask(payment.id, at=at, fresh_seconds=0)
            return call.result(), at
        finally:
            call.cancel()

    async def _heard(self, payment: Payment, heard: Heard) -> Asked:
        """The payment after a wait."""
        if heard is Heard.SETTLED:
            payment = await self.store.payment(payment.id) or payment
        return Asked(payment=payment, answered=heard is not Heard.NOTHING)

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
