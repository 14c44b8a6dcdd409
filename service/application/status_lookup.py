"""How a pending payment stands, when somebody asks: which strategy answers is decided here, and nothing else.

Stripe allows so few calls that thousands who ask every two seconds cannot each have one. Most of them need none: what
the event feed reads for one it reads for all.
"""

import asyncio
import contextlib
import functools
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Final

from service.application.outcome_writer import OutcomeWriter
from service.application.policy import Policy
from service.application.ports import Clock, CommandContext, Gateway, Store
from service.application.single_flight import SingleFlight
from service.application.waiters import WaiterRegistry, WaitResult
from service.domain.errors import OutcomeUnknownError, StoreUnavailableError
from service.domain.outcomes import Outcome, Unknown, UnknownCause
from service.domain.payment import Payment
from service.ratelimit.limiter import RateLimiter
from service.ratelimit.permit import Endpoint, PermitDeniedError, Priority

ASK_AGAIN_AFTER: Final = timedelta(seconds=10)
"""A session that the feed covers is looked up once more after so long: Stripe does not promise when events show."""
ASK_AGAIN_EVERY: Final = timedelta(seconds=1)
"""And of all those sessions only one in so long: their number must not matter."""
COVERED_FOR: Final = timedelta(minutes=2)
"""How long a session that was polled with success needs no call of its own: whoever polls it has not just come back
from paying, and if it is paid the feed's next read says so. Who asks about it for the first time may have."""
COVERED_SESSIONS: Final = 20_000
"""How many of them are remembered; the others are asked about, as if for the first time."""
PERMIT_SECONDS: Final = 1.0
"""How long a lookup waits for a permit; beyond that the last known status is the better answer."""
NEAR_SECONDS: Final = 0.1
"""And how long while the feed is current: the time that it takes to get quota, but no queue."""
READ_SECONDS: Final = 2.0
"""How long a lookup waits for the feed's next read."""
ANSWERED_WITHIN: Final = timedelta(seconds=0.6)
"""What the gateway usually takes: so long after another replica asked, its answer may still come."""


class Strategy(Enum):
    """How to answer somebody who asks about a pending payment."""

    KNOWN = "known"
    """It was looked up within the freshness window: answer as it was then."""
    WATCH = "watch"
    """The same, but the feed reads all the time: its next read is worth the wait."""
    RIDE = "ride"
    """Request a read of the feed, and wait for it."""
    ASK = "ask"
    """Ask the gateway about this session."""
    BUSY = "busy"
    """The gateway cannot be asked in time: answer with the last known status, and say so."""


@dataclass(frozen=True, kw_only=True)
class LookupState:
    """What the strategy depends on.

    `asked_at`: when the gateway was last asked about the session, on whatever replica. `is_covered`: the feed has
    answered for it lately, here. `is_fresh`: looked up within the freshness window, here, by whatever strategy.
    `always_ask`: there is no such window. `permit_seconds`: until a permit would come.
    """

    asked_at: datetime | None
    at: datetime
    is_covered: bool
    is_fresh: bool
    always_ask: bool
    feed_is_current: bool
    feed_is_busy: bool
    permit_is_free: bool
    permit_seconds: float
    may_ask_again: bool


def choose_strategy(state: LookupState) -> Strategy:
    """Choose the strategy: pure, and the only place that does."""
    if state.is_fresh:
        return Strategy.WATCH if state.feed_is_busy else Strategy.KNOWN
    if not state.feed_is_current:
        return Strategy.ASK if state.permit_seconds <= PERMIT_SECONDS else Strategy.BUSY
    if not state.permit_is_free:
        return Strategy.RIDE
    if state.always_ask or (state.asked_at is None and not state.is_covered):
        return Strategy.ASK
    overdue = state.asked_at is None or state.at - state.asked_at >= ASK_AGAIN_AFTER
    return Strategy.ASK if overdue and state.may_ask_again else Strategy.RIDE


class FreshnessCache:
    """Which payments were looked up in this process of late, and whether that succeeded."""

    def __init__(self) -> None:
        self._looked_up: OrderedDict[int, tuple[datetime, bool]] = OrderedDict()
        self._again_at: datetime | None = None

    def __len__(self) -> int:
        return len(self._looked_up)

    def add(self, payment_id: int, *, at: datetime, succeeded: bool) -> None:
        """The payment was looked up at that moment."""
        self._looked_up[payment_id] = (at, succeeded)
        self._looked_up.move_to_end(payment_id)
        while len(self._looked_up) > COVERED_SESSIONS or next(iter(self._looked_up.values()))[0] <= at - COVERED_FOR:
            self._looked_up.popitem(last=False)

    def succeeded(self, payment_id: int, *, since: datetime) -> bool | None:
        """Whether its lookup succeeded; None if there was none since then."""
        at, succeeded = self._looked_up.get(payment_id, (since, None))
        return succeeded if at > since else None

    def is_covered(self, payment_id: int, *, at: datetime) -> bool:
        """Whether its last lookup succeeded, not long ago."""
        return self.succeeded(payment_id, since=at - COVERED_FOR) is True

    def may_ask_again(self, at: datetime) -> bool:
        """Whether one of the sessions that the feed covers may be looked up once more."""
        return self._again_at is None or at - self._again_at >= ASK_AGAIN_EVERY

    def add_again(self, at: datetime) -> None:
        """One of them was looked up."""
        self._again_at = at


@dataclass(frozen=True, kw_only=True)
class LookupResult:
    """A payment after a lookup; `answered` is False if nothing could be learned."""

    payment: Payment
    answered: bool


@dataclass(kw_only=True, eq=False)
class StatusLookup:
    """Looks pending payments up. One per process."""

    store: Store
    gateway: Gateway
    policy: Policy
    clock: Clock
    limiter: RateLimiter
    waiters: WaiterRegistry
    outcomes: OutcomeWriter

    def __post_init__(self) -> None:
        self._cache = FreshnessCache()
        self.lookups: SingleFlight[LookupResult] = SingleFlight()

    async def look_up(self, payment: Payment, *, context: CommandContext) -> LookupResult:
        """How the pending payment stands, as well as can be said now. Concurrent lookups of a payment share one."""
        seconds = context.seconds_left(self.clock.now())
        try:
            return await self.lookups.run(
                payment.id, functools.partial(self._look_up, payment, context), seconds=seconds
            )
        except TimeoutError:  # the shared lookup goes on, and its outcome is stored
            raise OutcomeUnknownError(payment=payment.ref) from None

    async def _look_up(self, payment: Payment, context: CommandContext) -> LookupResult:
        now = self.clock.now()
        window = timedelta(seconds=self.policy.freshness_seconds)
        succeeded = self._cache.succeeded(payment.id, since=now - window)
        state = LookupState(
            asked_at=payment.asked_at,
            at=now,
            is_covered=self._cache.is_covered(payment.id, at=now),
            is_fresh=succeeded is not None,
            always_ask=not window,
            feed_is_current=self._feed_is_current,
            feed_is_busy=self.waiters.feed_is_busy,
            permit_is_free=self.limiter.is_free(Endpoint.RETRIEVE),
            permit_seconds=self.limiter.wait_seconds(Endpoint.RETRIEVE, priority=Priority.WAITED),
            may_ask_again=self._cache.may_ask_again(now),
        )
        match choose_strategy(state):
            case Strategy.KNOWN:
                return LookupResult(payment=payment, answered=succeeded is True)
            case Strategy.WATCH:
                result = await self._wait_for_feed(payment)
                return replace(result, answered=result.answered or succeeded is True)
            case Strategy.RIDE:
                self.waiters.request_read()
                result = await self._wait_for_feed(payment)
            case Strategy.ASK:
                result = await self._ask_if_permitted(payment, context)
            case Strategy.BUSY:
                return LookupResult(payment=payment, answered=False)
        self._cache.add(payment.id, at=now, succeeded=result.answered)
        return result

    @property
    def _feed_is_current(self) -> bool:
        return self.waiters.last_read_seconds_ago() <= self.policy.feed_trusted_seconds

    async def _wait_for_feed(self, payment: Payment) -> LookupResult:
        """As the feed's next read says, or anybody else before that."""
        ended = await self.waiters.wait(payment.id, seconds=READ_SECONDS, read=True)
        if ended is WaitResult.FINAL:
            payment = await self.store.payment(payment.id) or payment
        return LookupResult(payment=payment, answered=ended is not WaitResult.TIMEOUT)

    async def _ask_if_permitted(self, payment: Payment, context: CommandContext) -> LookupResult:
        """As the gateway says, if a permit comes before it would be quicker to wait for the feed."""
        seconds = NEAR_SECONDS if self._feed_is_current else PERMIT_SECONDS
        try:
            permit = await self.limiter.acquire(
                Endpoint.RETRIEVE, holder=payment.booking_id, priority=Priority.WAITED, seconds=seconds
            )
        except PermitDeniedError:
            if not self._feed_is_current:
                return LookupResult(payment=payment, answered=False)
            self.waiters.request_read()
            return await self._wait_for_feed(payment)
        try:
            now = self.clock.now()
            if await self.store.claim_ask(payment.id, at=now, fresh_seconds=self.policy.freshness_seconds):
                return await self._ask_gateway(payment, context, now)
        finally:
            self.limiter.release(permit)
        return await self._wait_for_replica(payment, now)

    async def _ask_gateway(self, payment: Payment, context: CommandContext, now: datetime) -> LookupResult:
        """As the gateway says."""
        if payment.asked_at is not None or self._cache.is_covered(payment.id, at=now):
            self._cache.add_again(now)
        outcome, asked_at = await self._retrieve(payment, now)
        if isinstance(outcome, Unknown) and outcome.cause is not UnknownCause.NO_SESSION:
            await self.store.note_ask_failed(payment.id, at=asked_at)
            return LookupResult(payment=payment, answered=False)
        return LookupResult(payment=await self.outcomes.apply(payment, outcome, context=context), answered=True)

    async def _wait_for_replica(self, payment: Payment, now: datetime) -> LookupResult:
        """As another replica learns, if its answer may still come, or has learned before."""
        current = await self.store.payment(payment.id) or payment
        left = min((current.asked_at or now) + ANSWERED_WITHIN - now, ANSWERED_WITHIN)
        if left > timedelta(0) and not current.status.is_final:
            ended = await self.waiters.wait(payment.id, seconds=left.total_seconds())
            current = current if ended is WaitResult.TIMEOUT else await self.store.payment(payment.id) or payment
        in_vain = current.ask_failed_at is not None and current.ask_failed_at == current.asked_at
        return LookupResult(payment=current, answered=current.status.is_final or not in_vain)

    async def _retrieve(self, payment: Payment, at: datetime) -> tuple[Outcome, datetime]:
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
