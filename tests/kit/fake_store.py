"""Payments, their keys and their journal in memory. The port suites hold it to what the real adapter does."""

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from contracts import envelope
from service.application.ports import CLOCKS_DIFFER, Begun, CommandContext, JournalEntry, KeyScope, Relation, RequestKey
from service.domain.errors import ConcurrentChangeError, IdempotencyKeyReusedError, MessageIdReusedError
from service.domain.payment import Draft, Payment, PaymentStatus, Request
from service.domain.status import Change, ChangeKind
from tests.kit.fake_outbox import FakeOutbox

_REUSED = {KeyScope.MESSAGE: MessageIdReusedError, KeyScope.IDEMPOTENCY: IdempotencyKeyReusedError}


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
            **vars(draft), id=next(self._ids), status=PaymentStatus.PENDING, version=0, updated_at=draft.created_at
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
