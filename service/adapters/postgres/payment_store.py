"""The store on PostgreSQL. Each method is one transaction, which is committed here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg

from contracts import envelope
from service.adapters.postgres import batch_statements, outbox_store, statements
from service.adapters.postgres.batch_statements import FROZEN, arrays
from service.adapters.postgres.batching import Batching
from service.adapters.postgres.database import TRIES, Database, Row
from service.application.ports import CLOCKS_DIFFER, Begun, CommandContext, JournalEntry, KeyScope, Relation, RequestKey
from service.domain.errors import (
    ConcurrentChangeError,
    CreateInProgressError,
    IdempotencyKeyReusedError,
    MessageIdReusedError,
)
from service.domain.money import Money
from service.domain.payment import Draft, Payment, PaymentStatus, Request
from service.domain.status import Change, ChangeKind
from service.failpoints import FailPoint, hit

_MAX_RACES: Final = 5
_TAKEN: Final = ('"request_keys_pkey"', '"payments_reference_key"')
"""The constraints' names in PostgreSQL's error, whatever its language."""
_PLAIN: Final = [
    member.name for member in fields(Payment) if member.name not in {"id", "money", "status", "gateway_request"}
]
_Parameters = Mapping[str, Any]
_Insert = tuple[_Parameters, Sequence[RequestKey]]
_REUSED: Final = {KeyScope.MESSAGE: MessageIdReusedError, KeyScope.IDEMPOTENCY: IdempotencyKeyReusedError}


class PostgresStore:
    """See the port `Store`."""

    def __init__(self, database: Database, *, on_change: Callable[[Change], None] = lambda _: None) -> None:
        """`on_change` is called with each change after its commit."""
        self._database = database
        self._on_change = on_change
        self._inserts = Batching(self._insert_all)
        self._records = Batching(self._record_all)
        self._claims = Batching(self._claim_all)
        self._reads = Batching(self._read_all)

    async def begin(
        self, draft: Draft, *, keys: Sequence[RequestKey], request_id: str, least_seconds_left: float = 0
    ) -> Begun:
        """The partial unique index decides between concurrent creates of all replicas."""
        for _ in range(_MAX_RACES):
            if payment := await self._insert(draft, keys, request_id):
                self._on_change(Change(payment=payment, kind=ChangeKind.CREATED))
                return Begun(payment=payment, relation=Relation.CREATED)
            if existing := await self.existing(draft, keys=keys, least_seconds_left=least_seconds_left):
                return existing
            # The conflicting payment ended, or its transaction was rolled back.
        raise CreateInProgressError

    async def existing(
        self, request: Request, *, keys: Sequence[RequestKey], least_seconds_left: float = 0
    ) -> Begun | None:
        async with self._database.crowd():
            return await self._existing(request, keys, least_seconds_left)

    async def adopt(self, draft: Draft, *, detail: Mapping[str, str], request_id: str) -> Payment | None:
        """The same statement as a create's, without keys."""
        payment = await self._insert(draft, (), request_id, kind=ChangeKind.ADOPTED, detail=detail)
        if payment is not None:
            self._on_change(Change(payment=payment, kind=ChangeKind.ADOPTED))
        return payment

    async def record(self, change: Change, *, context: CommandContext) -> Payment:
        """Status, journal line and outbox row are one statement."""
        payment = change.payment
        row = {
            **{name: getattr(payment, name) for name in statements.CHANGING},
            "status": payment.status.value,
            "payment_id": payment.id,
            "expected_reference": payment.reference,
            "journal_kind": change.kind.value,
            "journal_detail": change.detail,
            "journal_request_id": context.request_id,
            **outbox_store.parameters(change, context=context),
        }
        if not await self._records.run(row):
            raise ConcurrentChangeError(payment=payment.ref)
        self._on_change(change)
        return payment

    async def renew(self, change: Change, *, context: CommandContext) -> Payment:
        """Terms and journal line are one statement."""
        payment = change.payment
        parameters = {
            **{name: getattr(payment, name) for name in statements.TERMS},
            "payment_id": payment.id,
            "expected_version": payment.version,
            "expected_reference": change.detail["replaced"],
            **_line(change, context),
        }
        if not await self._database.run(statements.RENEW, parameters):
            raise ConcurrentChangeError(payment=payment.ref)
        self._on_change(change)
        return payment

    async def payment(self, payment_id: int) -> Payment | None:
        return await self._one(statements.BY_ID, payment_id=payment_id)

    async def payment_of_session(self, session_id: str) -> Payment | None:
        """Reads under way at the same moment share a statement, too."""
        return await self._reads.run(session_id)

    async def payment_of_reference(self, reference: str) -> Payment | None:
        return await self._one(statements.BY_REFERENCE, reference=reference)

    async def latest_of_booking(self, booking_id: int) -> Payment | None:
        return await self._one(statements.LATEST_OF_BOOKING, booking_id=booking_id)

    async def payment_told_of(self, session_id: str, *, booking_id: int, reference: str | None) -> Payment | None:
        given = {"session_id": session_id, "booking_id": booking_id, "reference": reference}
        return await self._one(statements.TOLD_OF, **given)

    async def final_among(self, payment_ids: Sequence[int]) -> Sequence[Payment]:
        rows = await self._database.run(statements.FINAL_AMONG, {"payment_ids": payment_ids})
        return [_payment(row) for row in rows]

    async def payments_of_booking(self, booking_id: int) -> Sequence[Payment]:
        """Every payment of a booking, oldest first; for operators."""
        rows = await self._database.run(statements.ALL_OF_BOOKING, {"booking_id": booking_id})
        return [_payment(row) for row in rows]

    async def claim_ask(self, payment_id: int, *, at: datetime, fresh_seconds: float) -> bool:
        """The row's lock decides between replicas. Claims under way at the same moment share a statement."""
        fresh, wrong = at - timedelta(seconds=fresh_seconds), at + CLOCKS_DIFFER
        parameters = {"payment_id": payment_id, "at": at, "fresh_since": fresh, "wrong_after": wrong}
        return await self._claims.run(parameters)

    async def note_ask_failed(self, payment_id: int, *, at: datetime) -> None:
        await self._database.run(statements.NOTE_ASK_FAILED, {"payment_id": payment_id, "at": at})

    async def note_outcome(self, payment_id: int, outcome: str | None) -> None:
        await self._database.run(statements.NOTE_OUTCOME, {"payment_id": payment_id, "outcome": outcome})

    async def claim_unfinished(self, *, at: datetime, unopened_before: datetime, limit: int) -> Sequence[Payment]:
        given = {"at": at, "unopened_before": unopened_before, "batch": limit}
        rows = await self._database.run(statements.CLAIM_UNFINISHED, given)
        return sorted((_payment(row) for row in rows), key=lambda payment: payment.created_at)

    async def trace_parent_of(self, payment_id: int) -> str | None:
        rows = await self._database.run(statements.TRACE_PARENT_OF, {"payment_id": payment_id})
        return rows[0].headers.get(envelope.TRACE_PARENT) if rows else None

    async def journal(self, payment_id: int) -> Sequence[JournalEntry]:
        rows = await self._database.run(statements.JOURNAL, {"payment_id": payment_id})
        names = [member.name for member in fields(JournalEntry)]
        return [JournalEntry(**{name: getattr(row, name) for name in names}) for row in rows]

    async def oldest_pending_at(self) -> datetime | None:
        rows = await self._database.run(statements.OLDEST_PENDING, {})
        return rows[0].created_at if rows else None

    async def payments_of_sessions(self, session_ids: Sequence[str]) -> Sequence[Payment]:
        rows = await self._database.run(statements.OF_SESSIONS, {"session_ids": list(session_ids)})
        return [_payment(row) for row in rows]

    async def opened_between(self, after: tuple[datetime, int], until: datetime, *, limit: int) -> Sequence[Payment]:
        given = {"after_at": after[0], "after_id": after[1], "until": until, "batch": limit}
        return [_payment(row) for row in await self._database.run(statements.OPENED_BETWEEN, given)]

    async def newest_opened_at(self) -> datetime | None:
        rows = await self._database.run(statements.NEWEST_OPENED, {})
        return rows[0].created_at if rows else None

    async def prune_keys(self, *, before: datetime, limit: int) -> int:
        return len(await self._database.run(statements.PRUNE_KEYS, {"before": before, "batch": limit}))

    async def _existing(self, request: Request, keys: Sequence[RequestKey], least_seconds_left: float) -> Begun | None:
        for _ in range(_MAX_RACES):
            if payment := await self._payment_of_keys(keys, request):
                await self._remember(keys, payment.id, request.created_at)
                return Begun(payment=payment, relation=Relation.REPEATED)
            live = await self._one(statements.BLOCKING_OF_BOOKING, booking_id=request.booking_id)
            if live is None:
                return None
            if live.status is PaymentStatus.FAILED:
                return Begun(payment=live, relation=Relation.BLOCKING)
            over = live.seems_over(request.created_at, seconds_left=least_seconds_left)
            if over or not live.repeats(request):
                return Begun(payment=live, relation=Relation.OTHER)
            await self._remember(keys, live.id, request.created_at)
            bound = await self._payment_of_keys(keys, request)  # another transaction may have bound one of them first
            if bound is not None and bound.id == live.id:
                return Begun(payment=live, relation=Relation.SAME)
        raise CreateInProgressError

    async def _insert(
        self,
        draft: Draft,
        keys: Sequence[RequestKey],
        request_id: str,
        *,
        kind: ChangeKind = ChangeKind.CREATED,
        detail: Mapping[str, str] | None = None,
    ) -> Payment | None:
        """Insert the draft; None if a key, the booking or the reference has a payment already."""
        row = {
            **{name: getattr(draft, name, None) for name in FROZEN},
            "amount_minor": draft.money.minor,
            "currency": draft.money.currency,
            "journal_kind": kind.value,
            "journal_detail": detail or {},
            "journal_request_id": request_id,
        }
        hit(FailPoint.ROW_NOT_COMMITTED)
        try:
            payment_id = await self._inserts.run((row, keys))
        except asyncpg.UniqueViolationError as error:
            if any(taken in str(error) for taken in _TAKEN):  # by a concurrent transaction
                return None
            raise
        if payment_id is None:
            return None
        # Built from the draft instead of fetched.
        frozen = {member.name: getattr(draft, member.name) for member in fields(Draft)}
        return Payment(**frozen, id=payment_id, status=PaymentStatus.PENDING, version=0, updated_at=draft.created_at)

    async def _insert_all(self, drafts: Sequence[_Insert]) -> Sequence[int | None]:
        """The ids of the payments that were inserted, None for the others."""
        keyed = [(row["reference"], key) for row, keys in drafts for key in keys]
        parameters = {
            **arrays([row for row, _ in drafts]),
            **_arrays([key for _, key in keyed]),
            "key_reference": [reference for reference, _ in keyed],
        }
        async with self._database.crowd():
            rows = await self._database.run(batch_statements.BEGIN, parameters, tries=_tries(drafts))
        ids = {row.reference: row.id for row in rows}
        return [ids.pop(row["reference"], None) for row, _ in drafts]  # of two adoptions of a session one

    async def _record_all(self, rows: Sequence[_Parameters]) -> Sequence[bool]:
        """Whether each change was made."""
        made = await self._database.run(batch_statements.RECORD, arrays(rows), tries=_tries(rows))
        events = {row.outbox_event_id for row in made}
        return [row["outbox_event_id"] in events for row in rows]

    async def _claim_all(self, claims: Sequence[_Parameters]) -> Sequence[bool]:
        """Whether each payment may be asked about."""
        made = await self._database.run(batch_statements.CLAIM_ASK, arrays(claims), tries=_tries(claims))
        left = {(row.id, row.asked_at) for row in made}
        answers = []
        for claim in claims:
            key = (claim["payment_id"], claim["at"])
            answers.append(key in left)
            left.discard(key)  # of two equal claims one is made
        return answers

    async def _read_all(self, session_ids: Sequence[str]) -> Sequence[Payment | None]:
        found = {payment.session_id: payment for payment in await self.payments_of_sessions(session_ids)}
        return [found.get(session_id) for session_id in session_ids]

    async def _payment_of_keys(self, keys: Sequence[RequestKey], request: Request) -> Payment | None:
        """The payment of one of the keys; raises if the key was used with other content."""
        rows = await self._database.run(statements.PAYMENTS_OF_KEYS, _arrays(keys))
        for row in rows:
            if row.fingerprint != keys[0].fingerprint and not _payment(row).repeats(request):
                raise _REUSED[KeyScope(row.scope)]
        return _payment(rows[0]) if rows else None

    async def _remember(self, keys: Sequence[RequestKey], payment_id: int, at: datetime) -> None:
        """Bind to the payment the keys that are not bound yet."""
        await self._database.run(statements.REMEMBER, {**_arrays(keys), "payment_id": payment_id, "created_at": at})

    async def _one(self, statement: Any, **parameters: Any) -> Payment | None:
        rows = await self._database.run(statement, parameters)
        return _payment(rows[0]) if rows else None


def _tries(rows: Sequence[object]) -> int:
    """A batch is tried once, as each of its rows is tried by itself afterwards."""
    return TRIES if len(rows) == 1 else 1


def _line(change: Change, context: CommandContext) -> dict[str, Any]:
    """The journal line of a change."""
    payment = change.payment
    return {
        "journal_version": payment.version,
        "journal_kind": change.kind.value,
        "journal_status": payment.status.value,
        "journal_detail": change.detail,
        "journal_request_id": context.request_id,
        "journal_at": payment.updated_at,
    }


def _arrays(keys: Sequence[RequestKey]) -> dict[str, list[str]]:
    return {
        "key_scope": [key.scope.value for key in keys],
        "key_caller": [key.caller for key in keys],
        "key_key": [key.key for key in keys],
        "key_fingerprint": [key.fingerprint for key in keys],
    }


def _payment(row: Row) -> Payment:
    return Payment(
        id=row.id,
        money=Money(row.amount_minor, row.currency),
        status=PaymentStatus(row.status),
        gateway_request=row.gateway_request,
        **{name: row[name] for name in _PLAIN},  # in half of the time that attributes take
    )
