"""Holds all that the gateway says of our sessions against the payments here, and the reverse.

It goes through time from the oldest session to the newest, one stretch after the other, and keeps the sessions of one
in memory. So what lies before its end is done with, and after an interruption one goes on from there. Any number of
processes may do it at once, beside everything else.
"""

import asyncio
import functools
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar
from uuid import uuid4

from runtime.aio import Backoff
from service.application.differences import Difference, DifferenceKind, difference
from service.application.event_reader import UnreadError
from service.application.own_work import own_work
from service.application.ports import Clock, Gateway, Store, ToldSession
from service.application.told_session import ToldSessions
from service.domain.errors import PaymentServiceError, StoreRefusedError, StoreUnavailableError
from service.domain.outcomes import Unknown, UnknownCause
from service.domain.payment import Payment

_log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")

EVER: Final = datetime(2020, 1, 1, tzinfo=UTC)
"""Before the first payment of all."""
AHEAD: Final = timedelta(hours=1)
"""By which Stripe's clock may be ahead of ours, or behind: what is dated so late may be of now."""
MARGIN: Final = AHEAD + timedelta(minutes=6)
"""Between the creation of a payment and of its session, with what the clocks may differ."""
YOUNG: Final = timedelta(minutes=1)
"""A session's create may still be running."""
SHORTEST: Final = timedelta(seconds=1)
FIRST: Final = timedelta(minutes=10)
LONGEST: Final = timedelta(days=30)
FEW: Final = 100
MANY: Final = 1000
"""Sessions in a stretch: with fewer the next one is longer, with more it is done again in shorter ones."""
ROWS: Final = 100
TRIES: Final = 5
"""Of a page, each as long as the gateway takes: where nobody waits, a permit may be long in coming."""

_CATCHING_UP: Final = {DifferenceKind.PAID_THERE, DifferenceKind.ENDED_THERE, DifferenceKind.NOT_STORED}
"""Whoever else hears of it may be about to write it."""
_OUTDATED: Final = {DifferenceKind.FAILED_OPEN, DifferenceKind.NOT_PAID}
"""The payment may have changed after the session was listed."""


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """What was found in a part of the time: all before `until` is done with."""

    until: datetime
    sessions: int
    payments: int
    differences: Sequence[Difference]


@dataclass(kw_only=True, eq=False)
class _Seen:
    """The sessions of late, by their ids, and until where payments have been compared with them.

    `since` and `until`: the whole time that is compared.
    """

    since: datetime
    until: datetime
    payments_until: tuple[datetime, int]
    sessions: dict[str, datetime] = field(default_factory=dict)

    def forget(self, before: datetime) -> None:
        self.sessions = {name: at for name, at in self.sessions.items() if at >= before}


@dataclass(kw_only=True, eq=False)
class Reconciliation:
    """Compares, and mends what the status table allows.

    `grace_seconds`: within which the event feed has written what was news when a session was listed.
    """

    store: Store
    gateway: Gateway
    told_sessions: ToldSessions
    clock: Clock
    gateway_timeout_seconds: float
    grace_seconds: float
    many: int = MANY

    async def run(self, *, since: datetime, until: datetime, fix: bool) -> AsyncGenerator[Stretch]:
        """What was created from `since` and before `until`, stretch by stretch, oldest first.

        Raises:
            UnreadError: the gateway cannot be asked.
            StoreUnavailableError
        """
        begin, end_of_all, length = since.replace(microsecond=0) - MARGIN, until + MARGIN, FIRST
        seen = _Seen(since=since, until=until, payments_until=(since, 0))
        while begin < end_of_all:
            end = min(begin + length, end_of_all)
            listed = await self._listed(begin, end, most=self.many if length > SHORTEST else None)
            if listed is None:
                length = max(timedelta(seconds=length // SHORTEST // 4), SHORTEST)
                continue
            seen.sessions |= {session.session_id: session.created_at for session in listed}
            ours = [each for each in listed if each.reference is not None and since <= each.created_at < until]
            found = await self._compared(ours, fix=fix)
            done_until = min(end - MARGIN, until)
            payments, more = await self._unseen(seen, done_until, fix=fix)
            yield Stretch(until=done_until, sessions=len(ours), payments=payments, differences=[*found, *more])
            seen.forget(done_until - MARGIN)
            begin, length = end, min(length * 2, LONGEST) if len(listed) < FEW else length

    async def _listed(self, since: datetime, until: datetime, *, most: int | None) -> list[ToldSession] | None:
        """All sessions of a time, oldest first; None if there are more than `most`."""
        listed: list[ToldSession] = []
        after = None
        while True:
            ask = functools.partial(
                self.gateway.told_sessions,
                since=since,
                until=until,
                after=after,
                timeout_seconds=self.gateway_timeout_seconds,
            )
            page = await self._asked(ask)
            listed += page.sessions
            if (after := page.next) is None:
                return listed[::-1]
            if most is not None and len(listed) >= most:
                return None

    async def _asked(self, ask: Callable[[], Awaitable[_Answer | Unknown]]) -> _Answer:
        """What the gateway answers; UnreadError if it does not."""
        backoff = Backoff(first_seconds=0.2, longest_seconds=5.0)
        for _ in range(TRIES):
            answer = await ask()
            if not isinstance(answer, Unknown):
                return answer
            trouble = answer
            if answer.cause is UnknownCause.DENIED:
                break
            await asyncio.sleep(backoff.next_seconds())
        raise UnreadError(trouble)

    async def _retrieved(self, session_id: str) -> ToldSession | None:
        ask: Callable[[], Awaitable[ToldSession | Unknown | None]]
        ask = functools.partial(self.gateway.retrieve, session_id, timeout_seconds=self.gateway_timeout_seconds)
        return await self._asked(ask)

    async def _compared(self, sessions: Sequence[ToldSession], *, fix: bool) -> list[Difference]:
        """The differences of these sessions, oldest first: a booking's sessions follow each other as they were made."""
        suspects = []
        for start in range(0, len(sessions), ROWS):
            some = sessions[start : start + ROWS]
            payments = await self.store.payments_of_sessions([session.session_id for session in some])
            known = {payment.session_id: payment for payment in payments}
            for session in some:
                kind = difference(known.get(session.session_id), session)
                if kind is not None:
                    suspects.append((kind, session))
        if any(kind in _CATCHING_UP for kind, _ in suspects):
            await asyncio.sleep(self.grace_seconds)
        found = [await self._looked_at(session, was=kind, fix=fix) for kind, session in suspects]
        return [each for each in found if each is not None]

    async def _looked_at(
        self, session: ToldSession, *, was: DifferenceKind | None = None, fix: bool
    ) -> Difference | None:
        """The session's difference, now that whoever was about to write it has."""
        if was in _OUTDATED:
            session = await self._retrieved(session.session_id) or session
        payment = await self._payment_of(session)
        kind = difference(payment, session)
        if kind is DifferenceKind.NOT_STORED and payment is not None and self._is_young(payment, session):
            return None
        if kind is None:
            return None
        found = Difference(kind=kind, payment=payment, session=session)
        return await self._mended(found, session) if fix else found

    def _is_young(self, payment: Payment, session: ToldSession) -> bool:
        """By either clock: Stripe's may be behind."""
        now = self.clock.now()
        return any(timedelta() <= now - at < YOUNG for at in (session.created_at, payment.created_at))

    async def _payment_of(self, session: ToldSession) -> Payment | None:
        """The session's payment, or that for which a person was called, or the one that keeps the booking."""
        payment = await self.store.payment_of_session(session.session_id)
        if payment is None and session.reference is not None:
            payment = await self.store.payment_of_reference(session.reference)
        if payment is None and session.booking_id is not None:
            told = await self.store.payment_told_of(
                session.session_id, booking_id=session.booking_id, reference=session.reference
            )
            if told is not None:
                return told
            payment = await self.store.latest_of_booking(session.booking_id)
            if payment is not None and not payment.keeps_booking:
                return None  # the booking is free: the session can become a payment
        return payment

    async def _mended(self, found: Difference, session: ToldSession) -> Difference:
        async with own_work("reconcile", request_id=f"reconcile-{uuid4()}", store=self.store) as context:
            try:
                told = await self._asked(functools.partial(self.told_sessions.apply, session, context=context))
            except PaymentServiceError as error:
                if isinstance(error, StoreUnavailableError) and not isinstance(error, StoreRefusedError):
                    raise
                _log.warning("session %s cannot be applied yet: %s", session.session_id, error.code)
                return replace(found, done=error.code)
        is_mended = told.payment is not None and difference(told.payment, session) is None
        return replace(found, payment=told.payment or found.payment, done=told.result.value, is_mended=is_mended)

    async def _unseen(self, seen: _Seen, until: datetime, *, fix: bool) -> tuple[int, list[Difference]]:
        """Payments created before, whose session was not listed: how many were looked at, and what differs."""
        number = 0
        found: list[Difference | None] = []
        while rows := await self.store.opened_between(seen.payments_until, until, limit=ROWS):
            number += len(rows)
            seen.payments_until = (rows[-1].created_at, rows[-1].id)
            unlisted = [payment for payment in rows if payment.session_id not in seen.sessions]
            found += [await self._unlisted(payment, seen, fix=fix) for payment in unlisted]
        return number, [each for each in found if each is not None]

    async def _unlisted(self, payment: Payment, seen: _Seen, *, fix: bool) -> Difference | None:
        """The difference of a payment whose session was made at another time than it, or is not there."""
        told = await self._retrieved(payment.session_id or "")
        if told is None:
            return Difference(kind=DifferenceKind.MISSING, payment=payment, session=None)
        if seen.since <= told.created_at < seen.until:  # that stretch tells it
            return None
        return await self._looked_at(told, fix=fix)
