"""The ports as small classes in memory. The port suites hold them to what the real adapters do."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from contracts import body, envelope
from contracts.events import PaymentEvent
from service.application import translation
from service.application.budget import Priority, Turn
from service.application.ports import (
    Backlog,
    Begun,
    CheckoutTerms,
    Clock,
    CommandContext,
    JournalEntry,
    KeyScope,
    Lead,
    OutboxRow,
    Page,
    Relation,
    RequestKey,
    Told,
)
from service.domain.errors import ConcurrentChangeError, IdempotencyKeyReusedError, MessageIdReusedError
from service.domain.outcomes import Expired, Open, Opened, Outcome, Paid, Refused, Unknown, UnknownCause
from service.domain.payment import Draft, Payment, PaymentStatus
from service.domain.status import Change, ChangeKind

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

    async def mark_sent(self, ids: Sequence[int], *, at: datetime) -> None:
        for waiting in self._waiting:
            if waiting.row.id in ids:
                waiting.sent_at = at

    async def put_off(self, row_id: int, *, until: datetime) -> None:
        for waiting in self._waiting:
            if waiting.row.id == row_id:
                waiting.claimed_until = until

    async def prune_sent(self, *, before: datetime, limit: int) -> int:
        await asyncio.sleep(0)
        sent = [(waiting.sent_at, waiting.row.id) for waiting in self._waiting if waiting.sent_at is not None]
        pruned = [row_id for sent_at, row_id in sorted(sent) if sent_at < before][:limit]
        self._waiting = [waiting for waiting in self._waiting if waiting.row.id not in pruned]
        return len(pruned)

    async def release(self, ids: Sequence[int]) -> None:
        for waiting in self._waiting:
            if waiting.row.id in ids and waiting.sent_at is None:
                waiting.claimed_until = None
                waiting.row = replace(waiting.row, attempts=max(waiting.row.attempts - 1, 0))


class FakeStore:
    """Payments in a dictionary. Like a transaction, what follows a method's first wait is not interrupted."""

    def __init__(self, outbox: FakeOutbox | None = None) -> None:
        self.outbox = outbox or FakeOutbox()
        self.payments: dict[int, Payment] = {}
        self._keys: dict[tuple[KeyScope, str, str], tuple[str, int, datetime]] = {}
        self._journal: dict[int, list[JournalEntry]] = {}
        self._settle_after: dict[int, datetime] = {}

    async def begin(self, draft: Draft, *, keys: Sequence[RequestKey], request_id: str) -> Begun:
        await asyncio.sleep(0)
        return self._bound(self._of_keys(keys) or self._live(draft) or self._insert(draft, request_id), draft, keys)

    async def existing(self, draft: Draft, *, keys: Sequence[RequestKey]) -> Begun | None:
        await asyncio.sleep(0)
        begun = self._of_keys(keys) or self._live(draft)
        return None if begun is None else self._bound(begun, draft, keys)

    def _bound(self, begun: Begun, draft: Draft, keys: Sequence[RequestKey]) -> Begun:
        if begun.relation is not Relation.OTHER:
            for key in keys:
                binding = (key.fingerprint, begun.payment.id, draft.created_at)
                self._keys.setdefault((key.scope, key.caller, key.key), binding)
        return begun

    def _of_keys(self, keys: Sequence[RequestKey]) -> Begun | None:
        bound = [(key, self._keys.get((key.scope, key.caller, key.key))) for key in keys]
        known = [(key, *binding) for key, binding in bound if binding is not None]
        for key, fingerprint, *_ in known:
            if fingerprint != key.fingerprint:
                raise _REUSED[key.scope]
        return Begun(payment=self.payments[known[0][2]], relation=Relation.REPEATED) if known else None

    def _live(self, draft: Draft) -> Begun | None:
        for payment in self.payments.values():
            if payment.booking_id == draft.booking_id and payment.status is not PaymentStatus.FAILED:
                same = payment.content == draft.content and not payment.seems_over(draft.created_at)
                return Begun(payment=payment, relation=Relation.SAME if same else Relation.OTHER)
        return None

    def _insert(self, draft: Draft, request_id: str) -> Begun:
        payment = Payment(
            **{member.name: getattr(draft, member.name) for member in fields(Draft)},
            id=len(self.payments) + 1,
            status=PaymentStatus.PENDING,
            version=0,
            updated_at=draft.created_at,
        )
        self.payments[payment.id] = payment
        self._write(payment, ChangeKind.CREATED, {}, request_id)
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

    async def record(self, change: Change, *, context: CommandContext) -> Payment:
        await asyncio.sleep(0)
        current = self.payments[change.payment.id]
        if current.version != change.payment.version - 1:
            raise ConcurrentChangeError(payment=change.payment)
        asked = {"asked_at": current.asked_at, "ask_failed_at": current.ask_failed_at}
        self.payments[current.id] = replace(change.payment, **asked)
        self._write(change.payment, change.kind, change.detail, context.request_id)
        self.outbox.write(change, context)
        return change.payment

    async def payment(self, payment_id: int) -> Payment | None:
        await asyncio.sleep(0)
        return self.payments.get(payment_id)

    async def payment_of_session(self, session_id: str) -> Payment | None:
        await asyncio.sleep(0)
        return next((payment for payment in self.payments.values() if payment.session_id == session_id), None)

    async def claim_ask(self, payment_id: int, *, at: datetime, fresh_seconds: float) -> bool:
        await asyncio.sleep(0)
        payment = self.payments.get(payment_id)
        if payment is None:
            return False
        if payment.asked_at is not None and payment.asked_at > at - timedelta(seconds=fresh_seconds):
            return False
        self.payments[payment_id] = replace(payment, asked_at=at)
        return True

    async def note_ask_failed(self, payment_id: int, *, at: datetime) -> None:
        await asyncio.sleep(0)
        payment = self.payments[payment_id]
        if payment.asked_at == at:
            self.payments[payment_id] = replace(payment, ask_failed_at=at)

    async def claim_unsettled(
        self, *, at: datetime, unopened_before: datetime, unpaid_before: datetime, limit: int
    ) -> Sequence[Payment]:
        await asyncio.sleep(0)
        claimed = []
        for payment in sorted(self.payments.values(), key=lambda payment: payment.created_at):
            before = unopened_before if payment.session_id is None else unpaid_before
            due = self._settle_after.get(payment.id, at) <= at
            if (
                payment.status is PaymentStatus.PENDING
                and payment.created_at <= before
                and due
                and len(claimed) < limit
            ):
                self._settle_after[payment.id] = at + timedelta(seconds=min(30 * 2**payment.settle_attempts, 300))
                self.payments[payment.id] = replace(payment, settle_attempts=payment.settle_attempts + 1)
                claimed.append(self.payments[payment.id])
        return claimed

    async def journal(self, payment_id: int) -> Sequence[JournalEntry]:
        await asyncio.sleep(0)
        return list(self._journal.get(payment_id, []))

    async def oldest_pending_at(self) -> datetime | None:
        await asyncio.sleep(0)
        return min((payment.created_at for payment in self.payments.values() if _may_be_paid(payment)), default=None)

    async def pending_of_sessions(self, session_ids: Sequence[str]) -> Sequence[Payment]:
        await asyncio.sleep(0)
        return [each for each in self.payments.values() if _may_be_paid(each) and each.session_id in session_ids]

    async def prune_keys(self, *, before: datetime, limit: int) -> int:
        await asyncio.sleep(0)
        ages = [(at, key) for key, (_, _, at) in self._keys.items() if key[0] is KeyScope.IDEMPOTENCY and at < before]
        pruned = sorted(ages)[:limit]
        for _, key in pruned:
            del self._keys[key]
        return len(pruned)


def _may_be_paid(payment: Payment) -> bool:
    return payment.status is PaymentStatus.PENDING and payment.session_id is not None


class FakeFeedRecord:
    """Who leads and how far it has read; the lease ends when a test says so."""

    def __init__(self) -> None:
        self.leader: str | None = None
        self.read_until: datetime | None = None
        self.told: list[float] = []
        self.wanted = 0

    async def claim(self, replica: str, *, lease_seconds: float) -> Lead | None:  # noqa: ARG002
        await asyncio.sleep(0)
        self.leader = self.leader or replica
        return Lead(read_until=self.read_until) if self.leader == replica else None

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
        self.read_until = max(filter(None, (self.read_until, read_until)), default=None)
        self.told.append(began_seconds_ago)
        return True

    async def release(self, replica: str) -> None:
        await asyncio.sleep(0)
        if self.leader == replica:
            self.leader = None

    async def want(self) -> None:
        await asyncio.sleep(0)
        self.wanted += 1


@dataclass(kw_only=True)
class _Place:
    arrived_at: datetime
    due_until: datetime
    kept_until: datetime


class FakePlaces:
    """Kept places in a dictionary."""

    def __init__(self) -> None:
        self.kept: dict[int, _Place] = {}

    async def keep(self, booking_id: int, *, arrived_at: datetime, due_until: datetime, kept_until: datetime) -> None:
        await asyncio.sleep(0)
        place = _Place(arrived_at=arrived_at, due_until=due_until, kept_until=kept_until)
        earlier = self.kept.get(booking_id)
        if earlier is not None and earlier.kept_until >= arrived_at:
            place.arrived_at = min(earlier.arrived_at, arrived_at)
        self.kept[booking_id] = place

    async def take(self, booking_id: int, *, at: datetime, kept_until: datetime) -> datetime | None:
        await asyncio.sleep(0)
        place = self.kept.get(booking_id)
        if place is None or place.kept_until < at:
            return None
        place.due_until, place.kept_until = at, max(place.kept_until, kept_until)
        return place.arrived_at

    async def drop(self, booking_id: int) -> None:
        await asyncio.sleep(0)
        self.kept.pop(booking_id, None)

    async def due(self, *, at: datetime) -> Mapping[int, int]:
        await asyncio.sleep(0)
        return Counter(int(place.arrived_at.timestamp()) for place in self.kept.values() if place.due_until > at)

    async def prune_places(self, *, before: datetime, limit: int) -> int:
        await asyncio.sleep(0)
        old = sorted((place.kept_until, booking) for booking, place in self.kept.items() if place.kept_until < before)
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
        self._told: list[Told] = []
        self.calls: list[str] = []
        self.fault: UnknownCause | None = None
        """While set, calls do nothing and end like this."""
        self.lost_answers = 0
        """So many calls do their work, and nobody hears of it."""
        self.sticky = False
        """An error is kept under every usual key."""
        self.refusal: Outcome | None = None
        self.refuses_end_before: datetime | None = None
        """A session must end later than this, as the gateway's own clock demands."""
        self.silent: asyncio.Event | None = None
        """While set, calls wait for this event before they do anything."""
        self.before_expiry: Any = None
        """Called with the session id between the wish to expire it and its execution."""

    def checkout_request(self, terms: CheckoutTerms) -> Mapping[str, Any]:
        return {"reference": terms.reference, "expires_at": int(terms.expires_at.timestamp())}

    async def open(
        self, payment: Payment, *, timeout_seconds: float, proven_absent: bool = False, turn: Turn | None = None
    ) -> Outcome:
        if turn is not None:
            turn.used = True
        if trouble := await self._called("open under a second key" if proven_absent else "open", timeout_seconds):
            return trouble
        if self.sticky and not proven_absent:
            return Unknown(cause=UnknownCause.FAILED)
        if self.refusal is not None:
            return self.refusal
        if self.refuses_end_before is not None and payment.expires_at < self.refuses_end_before:
            return Refused(detail="expires_at")
        return self._answer(self._opened(payment))

    async def find(self, payment: Payment, *, timeout_seconds: float) -> Opened | Unknown | None:
        if trouble := await self._called("find", timeout_seconds):
            return trouble
        found = [session.opened for session in self.made.values() if session.payment.reference == payment.reference]
        return found[0] if found else None

    async def look_up(
        self,
        payment: Payment,
        *,
        timeout_seconds: float,
        priority: Priority = Priority.WAITED,  # noqa: ARG002
        turn: Turn | None = None,
    ) -> Outcome:
        if turn is not None:
            turn.used = True
        if trouble := await self._called("look_up", timeout_seconds):
            return trouble
        return self._answer(self.made[payment.session_id or ""].stands)

    async def expire(self, payment: Payment, *, timeout_seconds: float) -> Outcome:
        if trouble := await self._called("expire", timeout_seconds):
            return trouble
        session = self.made[payment.session_id or ""]
        if self.before_expiry is not None:
            self.before_expiry(payment.session_id)
        if isinstance(session.stands, Open):
            self.stand(payment.session_id or "", Expired())
        return self._answer(session.stands)

    async def events(self, *, since: datetime, after: str | None = None, timeout_seconds: float) -> Page | Unknown:
        return await self._called("events", timeout_seconds) or self._page(self._told, since, after)

    async def sessions(self, *, since: datetime, after: str | None = None, timeout_seconds: float) -> Page | Unknown:
        told = [
            _told(session_id, session.payment.created_at, session_id, session.stands)
            for session_id, session in self.made.items()
        ]
        return await self._called("sessions", timeout_seconds) or self._page(told, since, after)

    def _page(self, told: Sequence[Told], since: datetime, after: str | None) -> Page:
        newest_first = [each for each in reversed(told) if each.at >= since.replace(microsecond=0)]
        ids = [each.id for each in newest_first]
        start = 0 if after is None else ids.index(after) + 1
        page = newest_first[start : start + self.page]
        return Page(told=page, next=page[-1].id if len(ids) > start + len(page) else None)

    def pay(self, session_id: str, **differently: Any) -> None:
        """What a payer does on the page."""
        session = self.made[session_id]
        assert isinstance(session.stands, Open), "the page takes no payment any more"
        fitting = Paid(money=session.payment.money, reference=session.payment.reference, livemode=False)
        self.stand(session_id, replace(fitting, **differently))

    def let_expire(self, session_id: str) -> None:
        self.stand(session_id, Expired())

    def stand(self, session_id: str, outcome: Outcome) -> None:
        """Let the session stand like this, and an event tell of it."""
        self.made[session_id].stands = outcome
        at = datetime.now(UTC) if self._clock is None else self._clock.now()
        self._told.append(_told(f"evt_{uuid4().hex}", at, session_id, outcome))

    @property
    def payable(self) -> int:
        """Sessions that took money or still may."""
        return sum(isinstance(session.stands, Open | Paid) for session in self.made.values())

    def _opened(self, payment: Payment) -> Opened:
        for session in self.made.values():
            if session.payment.reference == payment.reference:
                return session.opened
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


def _told(told_id: str, at: datetime, session_id: str, outcome: Outcome) -> Told:
    concluded = outcome if isinstance(outcome, Paid | Expired) else None
    return Told(id=told_id, at=at.replace(microsecond=0), session_id=session_id, outcome=concluded)
