"""How it is learnt how a payment stands when somebody asks: which way to go is decided here, and nothing else.

Stripe allows so few calls that thousands who ask every two seconds cannot each have one. Most of them need none: what
the feed reads for one it reads for all.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Final, Protocol

from service.application.budget import Budget, Endpoint, NoTurnError, Priority, Turn
from service.application.news import Heard, News
from service.application.policy import Policy
from service.application.ports import Clock, CommandContext, Gateway, Store
from service.domain.errors import StoreUnavailableError
from service.domain.outcomes import Outcome, Unknown
from service.domain.payment import Payment

ASKED_AGAIN_AFTER: Final = timedelta(seconds=10)
"""A session that the feed covers is asked about once more after so long: Stripe does not promise when events show."""
ASKED_AGAIN_EVERY: Final = timedelta(seconds=1)
"""And of all those sessions only one in so long: their number must not matter."""
TURN_SECONDS: Final = 1.0
"""How long somebody who asks stands in line for a turn; beyond that the last known status is the better answer."""
NEAR_SECONDS: Final = 0.1
"""And how long while the feed is at work: the time that a lease of turns takes, but no line."""
READING_SECONDS: Final = 2.0
"""How long somebody who asks waits for the feed's next reading."""
ANSWERED_WITHIN: Final = timedelta(seconds=0.6)
"""What the gateway usually takes: so long after another replica asked, its answer may still come."""


class Way(Enum):
    """How to answer somebody who asks about a pending payment."""

    KNOWN = "known"
    """It was asked about within the freshness window: as it was then."""
    WATCH = "watch"
    """The same, but the feed is reading all the time: its next reading is worth the wait."""
    RIDE = "ride"
    """Have the feed read, and wait for that."""
    ASK = "ask"
    """Ask the gateway about this session."""
    BUSY = "busy"
    """The gateway cannot be asked in time: as it was last known, and say so."""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What the way depends on.

    `asked_at`: when the gateway was last asked about the session itself, on whatever replica. `known`: asked about
    within the freshness window, here, in whatever way. `always_ask`: there is no such window. `turn_seconds`: when a
    turn would come.
    """

    asked_at: datetime | None
    at: datetime
    known: bool
    always_ask: bool
    feed_is_current: bool
    feed_is_busy: bool
    turn_is_free: bool
    turn_seconds: float
    may_ask_again: bool


def way(situation: Situation) -> Way:
    """The way to go: pure, and the only place that decides it."""
    s = situation
    if s.known:
        return Way.WATCH if s.feed_is_busy else Way.KNOWN
    if not s.feed_is_current:
        return Way.ASK if s.turn_seconds <= TURN_SECONDS else Way.BUSY
    if not s.turn_is_free:
        return Way.RIDE
    if s.always_ask or s.asked_at is None:
        return Way.ASK
    overdue = s.at - s.asked_at >= ASKED_AGAIN_AFTER
    return Way.ASK if overdue and s.may_ask_again else Way.RIDE


class Recent:
    """Which payments were asked about within the freshness window in this process, and whether that succeeded."""

    def __init__(self) -> None:
        self._asked: OrderedDict[int, tuple[datetime, bool]] = OrderedDict()
        self._again_at: datetime | None = None

    def __len__(self) -> int:
        return len(self._asked)

    def note(self, payment_id: int, *, at: datetime, answered: bool) -> None:
        """It was asked about at that moment."""
        self._asked[payment_id] = (at, answered)
        self._asked.move_to_end(payment_id)

    def answered(self, payment_id: int, *, since: datetime) -> bool | None:
        """Whether asking about it succeeded; None if nobody has since then. Forgets whatever is older."""
        while self._asked and next(iter(self._asked.values()))[0] <= since:
            self._asked.popitem(last=False)
        at, answered = self._asked.get(payment_id, (since, None))
        return answered if at > since else None

    def may_ask_again(self, at: datetime) -> bool:
        """Whether one of the sessions that the feed covers may be asked about once more."""
        return self._again_at is None or at - self._again_at >= ASKED_AGAIN_EVERY

    def note_again(self, at: datetime) -> None:
        """One was."""
        self._again_at = at


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A payment after an attempt to learn how it stands; `answered` is False if that was not possible."""

    payment: Payment
    answered: bool


class _Apply(Protocol):
    def __call__(self, payment: Payment, outcome: Outcome, *, context: CommandContext) -> Awaitable[Payment]: ...


class Asking:
    """Goes the way that is decided. One per process; calls for the same payment must not overlap."""

    def __init__(
        self,
        *,
        store: Store,
        gateway: Gateway,
        policy: Policy,
        clock: Clock,
        budget: Budget,
        news: News,
        apply: _Apply,
    ) -> None:
        self._store = store
        self._gateway = gateway
        self._policy = policy
        self._clock = clock
        self._budget = budget
        self._news = news
        self._apply = apply
        self._recent = Recent()

    async def ask(self, payment: Payment, *, context: CommandContext) -> Asked:
        """How the pending payment stands, as well as can be said now."""
        now = self._clock.now()
        fresh = timedelta(seconds=self._policy.freshness_seconds)
        answered = self._recent.answered(payment.id, since=now - fresh)
        situation = Situation(
            asked_at=payment.asked_at,
            at=now,
            known=answered is not None,
            always_ask=not fresh,
            feed_is_current=self._feed_is_current,
            feed_is_busy=self._news.feed_is_busy,
            turn_is_free=self._budget.is_free(Endpoint.RETRIEVE),
            turn_seconds=self._budget.wait_seconds(Endpoint.RETRIEVE, priority=Priority.WAITED),
            may_ask_again=self._recent.may_ask_again(now),
        )
        match way(situation):
            case Way.KNOWN:
                return Asked(payment=payment, answered=answered is True)
            case Way.WATCH:
                asked = await self._by_feed(payment)
                return replace(asked, answered=asked.answered or answered is True)
            case Way.RIDE:
                self._news.want_reading()
                asked = await self._by_feed(payment)
            case Way.ASK:
                asked = await self._by_turn(payment, context)
            case Way.BUSY:
                return Asked(payment=payment, answered=False)
        self._recent.note(payment.id, at=now, answered=asked.answered)
        return asked

    @property
    def _feed_is_current(self) -> bool:
        return self._news.last_read_seconds_ago() <= self._policy.feed_trusted_seconds

    async def _by_feed(self, payment: Payment) -> Asked:
        """As the feed's next reading tells, or anybody else before that."""
        heard = await self._news.wait(payment.id, seconds=READING_SECONDS, reading=True)
        if heard is Heard.SETTLED:
            payment = await self._store.payment(payment.id) or payment
        return Asked(payment=payment, answered=heard is not Heard.NOTHING)

    async def _by_turn(self, payment: Payment, context: CommandContext) -> Asked:
        """As the gateway says, if its turn comes before it would be quicker to go with the others."""
        seconds = NEAR_SECONDS if self._feed_is_current else TURN_SECONDS
        try:
            async with self._budget.turn(Endpoint.RETRIEVE, priority=Priority.WAITED, seconds=seconds) as turn:
                return await self._by_gateway(payment, context, turn)
        except NoTurnError:
            if not self._feed_is_current:
                return Asked(payment=payment, answered=False)
        self._news.want_reading()
        return await self._by_feed(payment)

    async def _by_gateway(self, payment: Payment, context: CommandContext, turn: Turn) -> Asked:
        """Look the session up, unless another replica does or has just done so: then as that tells."""
        now = self._clock.now()
        if not await self._store.claim_ask(payment.id, at=now, fresh_seconds=self._policy.freshness_seconds):
            turn.release()
            return await self._by_others(payment, now)
        if payment.asked_at is not None:
            self._recent.note_again(now)
        outcome, asked_at = await self._look_up(payment, now, turn)
        if isinstance(outcome, Unknown):
            await self._store.note_ask_failed(payment.id, at=asked_at)
            return Asked(payment=payment, answered=False)
        return Asked(payment=await self._apply(payment, outcome, context=context), answered=True)

    async def _by_others(self, payment: Payment, now: datetime) -> Asked:
        """As another replica is told, if its answer may still come, or was told before."""
        current = await self._store.payment(payment.id) or payment
        left = (current.asked_at or now) + ANSWERED_WITHIN - now
        if left > timedelta(0) and not current.status.is_final:
            heard = await self._news.wait(payment.id, seconds=left.total_seconds())
            current = current if heard is Heard.NOTHING else await self._store.payment(payment.id) or payment
        in_vain = current.ask_failed_at is not None and current.ask_failed_at == current.asked_at
        return Asked(payment=current, answered=current.status.is_final or not in_vain)

    async def _look_up(self, payment: Payment, at: datetime, turn: Turn) -> tuple[Outcome, datetime]:
        """How the session stands, and when that was last claimed: a claim that a slow call outlives is renewed."""
        seconds = self._policy.gateway_timeout_seconds
        call = asyncio.ensure_future(self._gateway.look_up(payment, timeout_seconds=seconds, turn=turn))
        try:
            while not (await asyncio.wait({call}, timeout=self._policy.freshness_seconds * 0.8 or None))[0]:
                with contextlib.suppress(StoreUnavailableError):
                    at = self._clock.now()
                    await self._store.claim_ask(payment.id, at=at, fresh_seconds=0)
            return call.result(), at
        finally:
            call.cancel()
