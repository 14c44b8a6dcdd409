"""Stripe in memory, as the gateway's port shows it. The port suites hold it to what the real adapter does."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from service.application.ports import ChargeEvent, ChargePage, Clock, EventPage, SessionEvent, ToldPage, ToldSession
from service.domain.outcomes import Expired, Open, Opened, Outcome, Paid, Unknown, UnknownCause
from service.domain.payment import Draft, Payment
from service.domain.refunds import Dispute, Refund, RefundStatus
from service.ratelimit.permit import Priority


@dataclass(kw_only=True)
class FakeSession:
    """A checkout session at the fake gateway."""

    opened: Opened
    payment: Payment
    stands: Outcome


class FakeGateway:
    """A gateway whose sessions are paid and whose faults are set by hand."""

    livemode = False

    def __init__(self, clock: Clock | None = None) -> None:
        """`clock`: when events happen; by default as time goes by."""
        self.made: dict[str, FakeSession] = {}
        self.page = 100
        """How much a page of a list holds."""
        self._clock = clock
        self.ahead = timedelta()
        """Of ours, its clock, as it was measured."""
        self._told: list[SessionEvent] = []
        self.charges: list[ChargeEvent] = []
        """What happened to money that was paid."""
        self.calls: list[str] = []
        self.fault: UnknownCause | None = None
        """While set, calls do nothing and end like this."""
        self.lost_answers = 0
        """So many calls do their work, and their answer is lost."""
        self.kept = set[str]()
        """References under whose keys an error is kept."""
        self.refusal: Outcome | None = None
        self.refuses_end_before: datetime | None = None
        """A session must end later than this, as the gateway's own clock demands."""
        self.silent: asyncio.Event | None = None
        """While set, calls wait for this event before they do anything."""
        self.forgotten: set[str] = set()
        """Sessions that it does not know, as if they were another account's."""
        self.never_ends = False
        """Sessions stay open, whoever expires them."""
        self.before_opening: Any = None
        """Called between the wish to make a session and its execution."""
        self.before_expiry: Any = None
        """Called with the session id between the wish to expire it and its execution."""

    def checkout_request(self, draft: Draft) -> Mapping[str, Any]:
        return {"reference": draft.reference, "expires_at": int(draft.expires_at.timestamp())}

    async def open(self, payment: Payment, *, timeout_seconds: float) -> Outcome:
        if trouble := await self._called("open", timeout_seconds):
            return trouble
        if self.before_opening is not None:
            await self.before_opening()
        if payment.reference in self.kept:
            return Unknown(cause=UnknownCause.KEPT)
        if self.refusal is not None:
            return self.refusal
        if self.refuses_end_before is not None and payment.expires_at < self.refuses_end_before:
            made = self._made_before(payment)
            return Unknown(cause=UnknownCause.LAPSED) if made is None else self._answer(made)
        return self._answer(self._opened(payment))

    async def find(self, payment: Payment, *, timeout_seconds: float) -> Opened | Unknown | None:
        if trouble := await self._called("find", timeout_seconds):
            return trouble
        return self._made_before(payment)

    async def look_up(
        self,
        payment: Payment,
        *,
        timeout_seconds: float,
        priority: Priority = Priority.WAITED,  # noqa: ARG002
    ) -> Outcome:
        if trouble := await self._called("look_up", timeout_seconds):
            return trouble
        if payment.session_id in self.forgotten:
            return Unknown(cause=UnknownCause.NO_SESSION)
        return self._answer(self.made[payment.session_id or ""].stands)

    async def retrieve(self, session_id: str, *, timeout_seconds: float) -> ToldSession | Unknown | None:
        trouble = await self._called("retrieve", timeout_seconds)
        return trouble or (told(self.made[session_id]) if session_id in self.made else None)

    async def expire(self, payment: Payment, *, timeout_seconds: float) -> Outcome:
        if trouble := await self._called("expire", timeout_seconds):
            return trouble
        if payment.session_id in self.forgotten:
            return Unknown(cause=UnknownCause.NO_SESSION)
        session = self.made[payment.session_id or ""]
        if self.before_expiry is not None:
            self.before_expiry(payment.session_id)
        if isinstance(session.stands, Open) and not self.never_ends:
            self.stand(payment.session_id or "", Expired())
        return self._answer(session.stands)

    async def events(self, *, since: datetime, after: str | None = None, timeout_seconds: float) -> EventPage | Unknown:
        return await self._called("events", timeout_seconds) or self._page(self._told, since, after)

    async def sessions(
        self, *, since: datetime, after: str | None = None, timeout_seconds: float
    ) -> EventPage | Unknown:
        events = [_event(session_id, session.payment.created_at, session) for session_id, session in self.made.items()]
        return await self._called("sessions", timeout_seconds) or self._page(events, since, after)

    async def told_sessions(
        self, *, since: datetime, until: datetime, after: str | None = None, timeout_seconds: float
    ) -> ToldPage | Unknown:
        if trouble := await self._called("told_sessions", timeout_seconds):
            return trouble
        listed = [told(each) for each in self.made.values() if since <= each.payment.created_at < until]
        newest_first = sorted(listed, key=lambda each: each.created_at)[::-1]
        start = 0 if after is None else [each.session_id for each in newest_first].index(after) + 1
        page = newest_first[start : start + self.page]
        return ToldPage(sessions=page, next=page[-1].session_id if len(newest_first) > start + len(page) else None)

    async def charge_events(
        self, *, since: datetime, after: str | None = None, timeout_seconds: float
    ) -> ChargePage | Unknown:
        if trouble := await self._called("charge_events", timeout_seconds):
            return trouble
        newest_first = [each for each in reversed(self.charges) if each.at >= since]
        start = 0 if after is None else [each.id for each in newest_first].index(after) + 1
        page = newest_first[start : start + self.page]
        return ChargePage(events=page, next=page[-1].id if len(newest_first) > start + len(page) else None)

    async def session_of_intent(self, payment_intent: str, *, timeout_seconds: float) -> ToldSession | Unknown | None:
        session = self.made.get(payment_intent.removeprefix("pi_"))
        trouble = await self._called("session_of_intent", timeout_seconds)
        return trouble or (None if session is None else told(session))

    def refund(self, session_id: str, total_minor: int) -> None:
        """So much was given back in all."""
        session = self.made[session_id]
        is_whole = isinstance(session.stands, Paid) and total_minor >= session.stands.money.minor
        reference = session.payment.reference
        self._charge(session_id, reference=reference, refunded_minor=total_minor, is_whole=is_whole)

    def tell_refund(
        self, session_id: str, minor: int, *, name: str = "re_1", status: RefundStatus = RefundStatus.STANDS
    ) -> None:
        """How one refund stands."""
        self._charge(session_id, reference=None, refund=Refund(id=name, minor=minor, status=status))

    def fail_refund(self, session_id: str, minor: int, *, name: str = "re_1") -> None:
        """The payer's bank sent it back."""
        self.tell_refund(session_id, minor, name=name, status=RefundStatus.FAILED)

    def dispute(self, session_id: str, status: str, *, name: str = "du_1") -> None:
        dispute = Dispute(id=name, status=status, reason="fraudulent", minor=100)
        self._charge(session_id, reference=None, dispute=dispute)

    def _charge(self, session_id: str, **members: Any) -> None:
        at = datetime.now(UTC) if self._clock is None else self._clock.now()
        event = ChargeEvent(id=f"evt_{uuid4().hex}", at=at, payment_intent=f"pi_{session_id}", **members)
        self.charges.append(event)

    def _page(self, events: Sequence[SessionEvent], since: datetime, after: str | None) -> EventPage:
        newest_first = [each for each in reversed(events) if each.at >= since.replace(microsecond=0)]
        ids = [each.id for each in newest_first]
        start = 0 if after is None else ids.index(after) + 1
        page = newest_first[start : start + self.page]
        return EventPage(events=page, next=page[-1].id if len(ids) > start + len(page) else None)

    def pay(self, session_id: str, **differently: Any) -> None:
        """What a payer does on the page."""
        session = self.made[session_id]
        assert isinstance(session.stands, Open), "the page takes no payment any more"
        fitting = Paid(money=session.payment.money, reference=session.payment.reference, livemode=False)
        self.stand(session_id, replace(fitting, **differently))

    def let_expire(self, session_id: str) -> None:
        self.stand(session_id, Expired())

    def stand(self, session_id: str, outcome: Outcome) -> None:
        """Let the session stand like this, and an event report it."""
        self.made[session_id].stands = outcome
        at = datetime.now(UTC) if self._clock is None else self._clock.now()
        self._told.append(_event(f"evt_{uuid4().hex}", at, self.made[session_id]))

    @property
    def payable(self) -> int:
        """Sessions that took money or still may."""
        return sum(isinstance(session.stands, Open | Paid) for session in self.made.values())

    def _made_before(self, payment: Payment) -> Opened | None:
        for session in self.made.values():
            if session.payment.reference == payment.reference:
                return session.opened
        return None

    def _opened(self, payment: Payment) -> Opened:
        if (made := self._made_before(payment)) is not None:
            return made
        session_id = f"cs_test_{uuid4().hex}"
        url = f"https://pay.example/{session_id}#fragment"
        opened = Opened(session_id=session_id, payment_url=url, expires_at=payment.expires_at)
        self.made[session_id] = FakeSession(opened=opened, payment=payment, stands=Open())
        return opened

    def _answer(self, outcome: Outcome) -> Outcome:
        if self.lost_answers:
            self.lost_answers -= 1
            return Unknown(cause=UnknownCause.TIMEOUT)
        return outcome

    async def _called(self, name: str, timeout_seconds: float) -> Unknown | None:
        self.calls.append(name)
        await asyncio.sleep(0)
        if self.silent is not None:
            try:
                async with asyncio.timeout(timeout_seconds):
                    await self.silent.wait()
            except TimeoutError:
                return Unknown(cause=UnknownCause.TIMEOUT)
        return None if self.fault is None else Unknown(cause=self.fault)


def told(session: FakeSession) -> ToldSession:
    """All that the gateway says of it."""
    payment = session.payment
    frozen = ("reference", "livemode", "created_at", "booking_id", "user_id", "money", "success_url", "cancel_url")
    return ToldSession(
        session_id=session.opened.session_id,
        outcome=session.stands,
        payment_url=session.opened.payment_url if isinstance(session.stands, Open) else None,
        expires_at=session.opened.expires_at,
        **{name: getattr(payment, name) for name in frozen},
    )


def _event(event_id: str, at: datetime, session: FakeSession) -> SessionEvent:
    concluded = session.stands if isinstance(session.stands, Paid | Expired) else None
    return SessionEvent(
        id=event_id,
        at=at.replace(microsecond=0),
        session_id=session.opened.session_id,
        outcome=concluded,
        reference=session.payment.reference,
    )
