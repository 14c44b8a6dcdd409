"""The ports as small classes in memory. The port suites hold them to what the real adapters do."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from contracts import body, envelope
from contracts.events import PaymentEvent
from service.application import translation
from service.application.ports import (
    CLOCKS_DIFFER,
    Backlog,
    Begun,
    ChargeEvent,
    ChargePage,
    Clock,
    CommandContext,
    EventPage,
    JournalEntry,
    KeyScope,
    LeaderLease,
    OutboxRow,
    Relation,
    RequestKey,
    SessionEvent,
    ToldPage,
    ToldSession,
)
from service.domain.errors import ConcurrentChangeError, IdempotencyKeyReusedError, MessageIdReusedError
from service.domain.outcomes import Expired, Open, Opened, Outcome, Paid, Unknown, UnknownCause
from service.domain.payment import Draft, Payment, PaymentStatus, Request
from service.domain.refunds import Dispute
from service.domain.status import Change, ChangeKind
from service.ratelimit.permit import Priority

_REUSED = {KeyScope.MESSAGE: MessageIdReusedError, KeyScope.IDEMPOTENCY: IdempotencyKeyReusedError}


@dataclass(kw_only=True)
class _Waiting:
    row: OutboxRow
    claimed_until: datetime | None = None
    sent_at: datetime | None = None


class FakeOutbox:
    """Events in a list."""

    def __init__(self) -> None:
        self._waiting: list[_Waiting] = []
        self._ids = itertools.count(1)

    @property
    def events(self) -> list[PaymentEvent]:
        """All that was written and not pruned, oldest first."""
        return [PaymentEvent.model_validate_json(waiting.row.body) for waiting in self._waiting]

    @property
    def rows(self) -> list[OutboxRow]:
        """The same as rows."""
        return [waiting.row for waiting in self._waiting]

    def write(self, change: Change, context: CommandContext) -> None:
        key, event = translation.event(change)
        headers = {envelope.REQUEST_ID: context.request_id}
        if context.trace_parent is not None:
            headers[envelope.TRACE_PARENT] = context.trace_parent
        row = OutboxRow(
            id=next(self._ids),
            event_id=event.id,
            payment_id=change.payment.id,
            sequence=change.payment.version,
            routing_key=key.value,
            headers=headers,
            body=body.write(event),
            created_at=change.payment.updated_at,
            attempts=0,
        )
        self._waiting.append(_Waiting(row=row))

    async def claim(self, *, limit: int, at: datetime, lease_seconds: float) -> Sequence[OutboxRow]:
        await asyncio.sleep(0)
        firsts: dict[int, _Waiting] = {}
        for waiting in self._waiting:
            if waiting.sent_at is None:
                first = firsts.setdefault(waiting.row.payment_id, waiting)
                if waiting.row.sequence < first.row.sequence:
                    firsts[waiting.row.payment_id] = waiting
        free = [waiting for waiting in firsts.values() if waiting.claimed_until is None or waiting.claimed_until < at]
        claimed = sorted(free, key=lambda waiting: waiting.row.id)[:limit]
        for waiting in claimed:
            waiting.claimed_until = at + timedelta(seconds=lease_seconds)
            waiting.row = replace(waiting.row, attempts=waiting.row.attempts + 1)
        return [waiting.row for waiting in claimed]

    async def backlog(self) -> Backlog:
        await asyncio.sleep(0)
        unsent = [waiting.row for waiting in self._waiting if waiting.sent_at is None]
        return Backlog(unsent=len(unsent), oldest_at=unsent[0].created_at if unsent else None)

    def _of(self, *ids: int) -> Sequence[_Waiting]:
        return [waiting for waiting in self._waiting if waiting.row.id in ids]

    async def mark_sent(self, ids: Sequence[int], *, at: datetime) -> None:
        for waiting in self._of(*ids):
            waiting.sent_at = at

    async def put_off(self, row_id: int, *, until: datetime) -> None:
        for waiting in self._of(row_id):
            waiting.claimed_until = until

    async def prune_sent(self, *, before: datetime, limit: int) -> int:
        await asyncio.sleep(0)
        sent = [(waiting.sent_at, waiting.row.id) for waiting in self._waiting if waiting.sent_at is not None]
        pruned = [row_id for sent_at, row_id in sorted(sent) if sent_at < before][:limit]
        self._waiting = [waiting for waiting in self._waiting if waiting.row.id not in pruned]
        return len(pruned)

    async def release(self, ids: Sequence[int]) -> None:
        for waiting in self._of(*ids):
            if waiting.sent_at is None:
                waiting.claimed_until = None
                waiting.row = replace(waiting.row, attempts=max(waiting.row.attempts - 1, 0))


class FakeStore:
    """Payments in a dictionary. Like a transaction, what follows a method's first wait is not interrupted."""

    def __init__(self, outbox: FakeOutbox | None = None) -> None:
        self.outbox = outbox or FakeOutbox()
        self.payments: dict[int, Payment] = {}
        self._ids = itertools.count(1)
        self._keys: dict[tuple[KeyScope, str, str], tuple[str, int, datetime]] = {}
        self._journal: dict[int, list[JournalEntry]] = {}
        self._settle_after: dict[int, datetime] = {}

    def put_back(self, payments: Sequence[Payment]) -> None:
        """An older copy of the record, which has these only."""
        self.payments = {payment.id: payment for payment in payments}
        self._ids = itertools.count(max(self.payments, default=0) + 1)

    async def begin(
        self, draft: Draft, *, keys: Sequence[RequestKey], request_id: str, least_seconds_left: float = 0
    ) -> Begun:
        await asyncio.sleep(0)
        found = self._of_keys(keys, draft) or self._live(draft, least_seconds_left) or self._insert(draft, request_id)
        return self._bound(found, draft, keys)

    async def existing(
        self, request: Request, *, keys: Sequence[RequestKey], least_seconds_left: float = 0
    ) -> Begun | None:
        await asyncio.sleep(0)
        begun = self._of_keys(keys, request) or self._live(request, least_seconds_left)
        return None if begun is None else self._bound(begun, request, keys)

    def _bound(self, begun: Begun, request: Request, keys: Sequence[RequestKey]) -> Begun:
        if begun.relation not in {Relation.OTHER, Relation.BLOCKING}:
            for key in keys:
                binding = (key.fingerprint, begun.payment.id, request.created_at)
                self._keys.setdefault((key.scope, key.caller, key.key), binding)
        return begun

    def _of_keys(self, keys: Sequence[RequestKey], request: Request) -> Begun | None:
        bound = [(key, self._keys.get((key.scope, key.caller, key.key))) for key in keys]
        known = [(key, *binding) for key, binding in bound if binding is not None]
        for key, fingerprint, payment_id, _ in known:
            if fingerprint != key.fingerprint and not self.payments[payment_id].repeats(request):
                raise _REUSED[key.scope]
        return Begun(payment=self.payments[known[0][2]], relation=Relation.REPEATED) if known else None

    def _live(self, request: Request, least_seconds_left: float) -> Begun | None:
        mine = [payment for payment in self.payments.values() if payment.booking_id == request.booking_id]
        for payment in mine:
            if payment.status is PaymentStatus.FAILED and payment.needs_person and not any(map(_is_paid, mine)):
                return Begun(payment=payment, relation=Relation.BLOCKING)
        for payment in mine:
            if payment.status is not PaymentStatus.FAILED:
                over = payment.seems_over(request.created_at, seconds_left=least_seconds_left)
                same = payment.repeats(request) and not over
                return Begun(payment=payment, relation=Relation.SAME if same else Relation.OTHER)
        return None

    def _insert(
        self,
        draft: Draft,
        request_id: str,
        *,
        kind: ChangeKind = ChangeKind.CREATED,
        detail: Mapping[str, str] | None = None,
    ) -> Begun:
        payment = Payment(
            **vars(draft),
            id=next(self._ids),
            status=PaymentStatus.PENDING,
            version=0,
            updated_at=draft.created_at,
        )
        self.payments[payment.id] = payment
        self._write(payment, kind, detail or {}, request_id)
        return Begun(payment=payment, relation=Relation.CREATED)

    def _write(self, payment: Payment, kind: ChangeKind, detail: Mapping[str, Any], request_id: str) -> None:
        entry = JournalEntry(
            at=payment.updated_at,
            version=payment.version,
            kind=kind.value,
            status=payment.status.value,
            detail=detail,
            request_id=request_id,
        )
        self._journal.setdefault(payment.id, []).append(entry)

    async def adopt(self, draft: Draft, *, detail: Mapping[str, str], request_id: str) -> Payment | None:
        await asyncio.sleep(0)
        known = any(payment.reference == draft.reference for payment in self.payments.values())
        if known or self._live(draft, 0) is not None:
            return None
        return self._insert(draft, request_id, kind=ChangeKind.ADOPTED, detail=detail).payment

    async def record(self, change: Change, *, context: CommandContext) -> Payment:
        await asyncio.sleep(0)
        current = self.payments[change.payment.id]
        if (current.version, current.reference) != (change.payment.version - 1, change.payment.reference):
            raise ConcurrentChangeError(payment=change.payment.ref)
        asked = {"asked_at": current.asked_at, "ask_failed_at": current.ask_failed_at}
        self.payments[current.id] = replace(change.payment, **asked)
        self._write(change.payment, change.kind, change.detail, context.request_id)
        self.outbox.write(change, context)
        return change.payment

    async def renew(self, change: Change, *, context: CommandContext) -> Payment:
        await asyncio.sleep(0)
        current = self.payments[change.payment.id]
        expected = (change.payment.version, change.detail["replaced"])
        if not current.is_unopened or (current.version, current.reference) != expected:
            raise ConcurrentChangeError(payment=change.payment.ref)
        self.payments[current.id] = replace(change.payment, settle_attempts=current.settle_attempts)
        self._write(change.payment, change.kind, change.detail, context.request_id)
        return change.payment

    async def payment(self, payment_id: int) -> Payment | None:
        await asyncio.sleep(0)
        return self.payments.get(payment_id)

    async def payment_of_session(self, session_id: str) -> Payment | None:
        await asyncio.sleep(0)
        return next((payment for payment in self.payments.values() if payment.session_id == session_id), None)

    async def payment_of_reference(self, reference: str) -> Payment | None:
        await asyncio.sleep(0)
        return next((payment for payment in self.payments.values() if payment.reference == reference), None)

    async def latest_of_booking(self, booking_id: int) -> Payment | None:
        await asyncio.sleep(0)
        mine = [payment for payment in self.payments.values() if payment.booking_id == booking_id]
        return max(
            mine, key=lambda each: (each.status is not PaymentStatus.FAILED, each.needs_person, each.id), default=None
        )

    async def payment_told_of(self, session_id: str, *, booking_id: int, reference: str | None) -> Payment | None:
        await asyncio.sleep(0)
        wanted = {(ChangeKind.ATTENTION, "session", session_id), (ChangeKind.RENEWED, "replaced", reference)}
        for payment_id, lines in reversed(self._journal.items()):
            named = any(
                each.kind == kind and each.detail.get(name) == value for each in lines for kind, name, value in wanted
            )
            if named and self.payments[payment_id].booking_id == booking_id:
                return self.payments[payment_id]
        return None

    async def final_among(self, payment_ids: Sequence[int]) -> Sequence[Payment]:
        await asyncio.sleep(0)
        found = (self.payments.get(payment_id) for payment_id in payment_ids)
        return [payment for payment in found if payment is not None and payment.status.is_final]

    async def claim_ask(self, payment_id: int, *, at: datetime, fresh_seconds: float) -> bool:
        await asyncio.sleep(0)
        payment = self.payments.get(payment_id)
        if payment is None:
            return False
        fresh_since = at - timedelta(seconds=fresh_seconds)
        if payment.asked_at is not None and fresh_since < payment.asked_at <= at + CLOCKS_DIFFER:
            return False
        self.payments[payment_id] = replace(payment, asked_at=at)
        return True

    async def note_ask_failed(self, payment_id: int, *, at: datetime) -> None:
        await asyncio.sleep(0)
        payment = self.payments[payment_id]
        if payment.asked_at == at:
            self.payments[payment_id] = replace(payment, ask_failed_at=at)

    async def note_outcome(self, payment_id: int, outcome: str | None) -> None:
        await asyncio.sleep(0)
        if not self.payments[payment_id].status.is_final:
            self.payments[payment_id] = replace(self.payments[payment_id], last_outcome=outcome)

    async def claim_unfinished(self, *, at: datetime, unopened_before: datetime, limit: int) -> Sequence[Payment]:
        await asyncio.sleep(0)
        claimed = []
        for payment in sorted(self.payments.values(), key=lambda payment: payment.created_at):
            unopened = payment.session_id is None and payment.created_at <= unopened_before
            due = (unopened or (payment.pay_until or payment.expires_at) <= at) and self._settle_after.get(
                payment.id, at
            ) <= at
            if payment.status is PaymentStatus.PENDING and due and len(claimed) < limit:
                pause = 3600 if payment.needs_person else min(30 * 2**payment.settle_attempts, 300)
                self._settle_after[payment.id] = at + timedelta(seconds=pause)
                self.payments[payment.id] = replace(payment, settle_attempts=payment.settle_attempts + 1)
                claimed.append(self.payments[payment.id])
        return claimed

    async def trace_parent_of(self, payment_id: int) -> str | None:
        await asyncio.sleep(0)
        first = next((row for row in self.outbox.rows if row.payment_id == payment_id), None)
        return None if first is None else first.headers.get(envelope.TRACE_PARENT)

    async def journal(self, payment_id: int) -> Sequence[JournalEntry]:
        await asyncio.sleep(0)
        return list(self._journal.get(payment_id, []))

    async def oldest_pending_at(self) -> datetime | None:
        await asyncio.sleep(0)
        waited_for = (each for each in self.payments.values() if _may_be_paid(each) and not each.needs_person)
        return min((payment.created_at for payment in waited_for), default=None)

    async def payments_of_sessions(self, session_ids: Sequence[str]) -> Sequence[Payment]:
        await asyncio.sleep(0)
        return [each for each in self.payments.values() if each.session_id in session_ids]

    async def opened_between(self, after: tuple[datetime, int], until: datetime, *, limit: int) -> Sequence[Payment]:
        await asyncio.sleep(0)
        opened = [each for each in self.payments.values() if each.session_id is not None and each.created_at < until]
        ordered = sorted(opened, key=lambda each: (each.created_at, each.id))
        return [each for each in ordered if (each.created_at, each.id) > after][:limit]

    async def newest_opened_at(self) -> datetime | None:
        await asyncio.sleep(0)
        opened = (each.created_at for each in self.payments.values() if each.session_id is not None)
        return max(opened, default=None)

    async def prune_keys(self, *, before: datetime, limit: int) -> int:
        await asyncio.sleep(0)
        ages = [(at, key) for key, (_, _, at) in self._keys.items() if at < before]
        pruned = sorted(ages)[:limit]
        for _, key in pruned:
            del self._keys[key]
        return len(pruned)


def _may_be_paid(payment: Payment) -> bool:
    return payment.status is PaymentStatus.PENDING and payment.session_id is not None


def _is_paid(payment: Payment) -> bool:
    return payment.status is PaymentStatus.COMPLETED


class FakeEventCursor:
    """Which replica leads and how far it has read; the lease ends when a test says so."""

    def __init__(self, clock: Clock | None = None) -> None:
        """`clock`: the database's; by default as time goes by."""
        self.clock = clock
        self.leader: str | None = None
        self.read_until: datetime | None = None
        self.charges_read_until: datetime | None = None
        self.advances: list[float] = []
        self.wanted = 0

    async def claim(self, replica: str, *, lease_seconds: float) -> LeaderLease | None:  # noqa: ARG002
        await asyncio.sleep(0)
        self.leader = self.leader or replica
        if self.leader != replica:
            return None
        return LeaderLease(read_until=self.read_until, now=self._now(), charges_read_until=self.charges_read_until)

    async def advance(
        self,
        replica: str,
        *,
        read_until: datetime | None,
        began_seconds_ago: float,
        lease_seconds: float,  # noqa: ARG002
    ) -> bool:
        await asyncio.sleep(0)
        if self.leader != replica:
            return False
        self.read_until = self._farther(self.read_until, read_until)
        self.advances.append(began_seconds_ago)
        return True

    async def release(self, replica: str) -> None:
        await asyncio.sleep(0)
        if self.leader == replica:
            self.leader = None

    async def want(self) -> None:
        await asyncio.sleep(0)
        self.wanted += 1

    async def advance_charges(self, replica: str, *, read_until: datetime) -> None:
        await asyncio.sleep(0)
        if self.leader == replica:
            self.charges_read_until = self._farther(self.charges_read_until, read_until)

    def _farther(self, stored: datetime | None, given: datetime | None) -> datetime | None:
        now = self._now()
        true = None if stored is None or stored > now else stored
        return max(filter(None, (true, given and min(given, now))), default=None)

    def _now(self) -> datetime:
        return datetime.now(UTC) if self.clock is None else self.clock.now()


@dataclass(kw_only=True)
class _Reservation:
    arrived_at: datetime
    due_until: datetime
    kept_until: datetime


class FakeReservations:
    """Reservations in a dictionary."""

    def __init__(self) -> None:
        self.kept: dict[int, _Reservation] = {}

    async def keep(self, booking_id: int, *, arrived_at: datetime, due_until: datetime, kept_until: datetime) -> None:
        await asyncio.sleep(0)
        reservation = _Reservation(arrived_at=arrived_at, due_until=due_until, kept_until=kept_until)
        earlier = self.kept.get(booking_id)
        if earlier is not None and earlier.kept_until >= arrived_at:
            reservation.arrived_at = min(earlier.arrived_at, arrived_at)
        self.kept[booking_id] = reservation

    async def take(self, booking_id: int, *, at: datetime, kept_until: datetime) -> datetime | None:
        await asyncio.sleep(0)
        reservation = self.kept.get(booking_id)
        if reservation is None or reservation.kept_until < at:
            return None
        reservation.due_until, reservation.kept_until = at, max(reservation.kept_until, kept_until)
        return reservation.arrived_at

    async def drop(self, booking_id: int) -> None:
        await asyncio.sleep(0)
        self.kept.pop(booking_id, None)

    async def due(self, *, at: datetime) -> Mapping[int, int]:
        await asyncio.sleep(0)
        return Counter(int(each.arrived_at.timestamp()) for each in self.kept.values() if each.due_until > at)

    async def prune_reservations(self, *, before: datetime, limit: int) -> int:
        await asyncio.sleep(0)
        old = sorted((each.kept_until, booking) for booking, each in self.kept.items() if each.kept_until < before)
        for _, booking in old[:limit]:
            del self.kept[booking]
        return len(old[:limit])


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
