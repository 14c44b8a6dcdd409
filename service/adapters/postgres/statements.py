"""The statements of the hot path: each is one round trip and one transaction.

They are built once, as to build and compile a statement costs more than PostgreSQL takes to run it.
"""

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.sql.base import Executable

from service.adapters.postgres.tables import (
    LIVE,
    PENDING,
    journal,
    outbox,
    payments,
    request_keys,
    reservations,
)

OUTBOX_CHANNEL: Final = "payment_outbox"
"""The NOTIFY channel for payments that have become final, by their ids; it wakes the relays, too."""

CHANGING: Final = (
    *("status", "reason", "attention", "closed_at", "last_outcome", "session_id", "payment_url", "expires_at"),
    *("version", "updated_at", "refunded_minor", "dispute"),
)
"""The columns that a change may update. All others are frozen at the insert."""
TERMS: Final = ("reference", "gateway_request", "created_at", "expires_at", "pay_until", "updated_at")
"""The columns that are renewed together while no session was made, or can be."""

SWEEP_SECONDS: Final = 30.0
"""Between the sweeper's first two tries of a payment: longer than a try takes. It doubles with each, with jitter."""
MAX_SWEEP_SECONDS: Final = 300.0
ATTENDED_SWEEP_SECONDS: Final = 3600.0
"""Between the tries of a payment that needs a person: hardly anything but that person can change how it stands."""

_TIME: Final = payments.c.created_at.type
KEY_COLUMNS: Final = ("scope", "caller", "key", "fingerprint")


_NEEDS_PERSON: Final = sa.and_(
    payments.c.attention.is_not(None),
    payments.c.closed_at.is_(None),
    sa.or_(payments.c.attention != "unsettled", payments.c.last_outcome.is_not(None)),
)
"""As `Payment.needs_person`."""
BLOCKING: Final = sa.and_(sa.text("status = 'FAILED'"), _NEEDS_PERSON)
"""A failed payment that keeps its booking from being checked out again."""


def _parameters(table: sa.Table, *names: str, prefix: str = "") -> dict[str, sa.BindParameter[Any]]:
    """Bound parameters with the types of the table's columns."""
    return {name: sa.bindparam(f"{prefix}{name}", type_=table.c[name].type) for name in names}


def _given(*names: str) -> sa.TableValuedAlias:
    """The given request keys as rows, from one array for each column."""
    arrays = (sa.bindparam(f"key_{name}", type_=sa.ARRAY(sa.String)) for name in names)
    return sa.func.unnest(*arrays).table_valued(*names).render_derived("given")


def _renew() -> Executable:
    """Give an unopened payment new terms, if it still has the replaced ones, with a journal line and no event."""
    changed = (
        sa.update(payments)
        .where(
            payments.c.id == sa.bindparam("payment_id"),
            payments.c.version == sa.bindparam("expected_version"),
            payments.c.reference == sa.bindparam("expected_reference"),
            payments.c.session_id.is_(None),
            PENDING,
        )
        .values(_parameters(payments, *TERMS))
        .returning(payments.c.id)
        .cte("changed")
    )
    line = _parameters(journal, "version", "kind", "status", "detail", "request_id", "at", prefix="journal_")
    earlier = sa.select(sa.func.count()).where(journal.c.payment_id == changed.c.id, journal.c.renewal > 0)
    values = sa.select(changed.c.id, *line.values(), earlier.scalar_subquery() + 1)
    journaled = sa.insert(journal).from_select(["payment_id", *line, "renewal"], values)
    return sa.select(changed.c.id).add_cte(journaled.cte("journaled"))


RENEW: Final = _renew()
BY_ID: Final = sa.select(payments).where(payments.c.id == sa.bindparam("payment_id"))
BY_REFERENCE: Final = sa.select(payments).where(payments.c.reference == sa.bindparam("reference"))
LATEST_OF_BOOKING: Final = (
    sa.select(payments)
    .where(payments.c.booking_id == sa.bindparam("booking_id"))
    .order_by(sa.case((LIVE, 0), (BLOCKING, 1), else_=2), payments.c.id.desc())
    .limit(1)
)
TOLD_OF: Final = (
    sa.select(payments)
    .join(journal, journal.c.payment_id == payments.c.id)
    .where(
        payments.c.booking_id == sa.bindparam("booking_id"),
        sa.or_(
            sa.and_(
                journal.c.kind == "attention",
                journal.c.detail["session"].as_string() == sa.bindparam("session_id"),
            ),
            sa.and_(
                journal.c.kind == "renewed",
                journal.c.detail["replaced"].as_string() == sa.bindparam("reference", type_=payments.c.reference.type),
            ),
        ),
    )
    .order_by(payments.c.id.desc())
    .limit(1)
)
FINAL_AMONG: Final = sa.select(payments).where(
    payments.c.id == sa.any_(sa.bindparam("payment_ids", type_=sa.ARRAY(sa.BigInteger))), sa.text("status <> 'PENDING'")
)
BLOCKING_OF_BOOKING: Final = (
    sa.select(payments)
    .where(payments.c.booking_id == sa.bindparam("booking_id"), sa.or_(LIVE, BLOCKING))
    .order_by(sa.case({"COMPLETED": 0, "FAILED": 1}, value=payments.c.status, else_=2), payments.c.id.desc())
    .limit(1)
)
"""What a create finds in its way: a payment that is paid, else one that needs a person, else one that is pending."""
ALL_OF_BOOKING: Final = (
    sa.select(payments).where(payments.c.booking_id == sa.bindparam("booking_id")).order_by(payments.c.id)
)
JOURNAL: Final = sa.select(journal).where(journal.c.payment_id == sa.bindparam("payment_id")).order_by(journal.c.id)
TRACE_PARENT_OF: Final = (
    sa.select(outbox.c.headers)
    .where(outbox.c.payment_id == sa.bindparam("payment_id"))
    .order_by(outbox.c.sequence)
    .limit(1)
)
NOTE_ASK_FAILED: Final = (
    sa.update(payments)
    .where(payments.c.id == sa.bindparam("payment_id"), payments.c.asked_at == sa.bindparam("at"))
    .values(ask_failed_at=sa.bindparam("at", type_=_TIME))
    .returning(payments.c.id)
)
NOTE_OUTCOME: Final = (
    sa.update(payments)
    .where(payments.c.id == sa.bindparam("payment_id"), PENDING)
    .values(last_outcome=sa.bindparam("outcome", type_=payments.c.last_outcome.type))
    .returning(payments.c.id)
)


def _claim_unfinished() -> Executable:
    """Claims by state, as the outbox does, and skips rows that another replica is claiming."""
    moments = {name: sa.bindparam(name, type_=_TIME) for name in ("at", "unopened_before")}
    unopened = sa.and_(payments.c.session_id.is_(None), payments.c.created_at <= moments["unopened_before"])
    unpaid = sa.func.coalesce(payments.c.pay_until, payments.c.expires_at) <= moments["at"]
    due = sa.or_(payments.c.settle_after.is_(None), payments.c.settle_after <= moments["at"])
    chosen = (
        sa.select(payments.c.id)
        .where(PENDING, due, sa.or_(unopened, unpaid))
        .order_by(payments.c.created_at)
        .limit(sa.bindparam("batch", type_=sa.Integer))
        .with_for_update(skip_locked=True)
        .cte("chosen")
    )
    doubled = sa.func.least(
        SWEEP_SECONDS * sa.func.pow(2, sa.func.least(payments.c.settle_attempts, 10)), MAX_SWEEP_SECONDS
    )
    pause = sa.case((_NEEDS_PERSON, ATTENDED_SWEEP_SECONDS), else_=doubled)
    jittered = sa.func.make_interval(0, 0, 0, 0, 0, 0, pause * (0.75 + sa.func.random() / 2))
    return (
        sa.update(payments)
        .where(payments.c.id == chosen.c.id)
        .values(settle_attempts=payments.c.settle_attempts + 1, settle_after=moments["at"] + jittered)
        .returning(payments)
    )


OLDEST_PENDING: Final = (
    sa.select(payments.c.created_at)
    .where(PENDING, payments.c.session_id.is_not(None), sa.not_(_NEEDS_PERSON))
    .order_by(payments.c.created_at)
    .limit(1)
)
OF_SESSIONS: Final = sa.select(payments).where(
    payments.c.session_id == sa.any_(sa.bindparam("session_ids", type_=sa.ARRAY(sa.String)))
)
OPENED_BETWEEN: Final = (
    sa.select(payments)
    .where(
        payments.c.session_id.is_not(None),
        sa.tuple_(payments.c.created_at, payments.c.id)
        > sa.tuple_(sa.bindparam("after_at", type_=_TIME), sa.bindparam("after_id", type_=sa.BigInteger)),
        payments.c.created_at < sa.bindparam("until", type_=_TIME),
    )
    .order_by(payments.c.created_at, payments.c.id)
    .limit(sa.bindparam("batch", type_=sa.Integer))
)
NEWEST_OPENED: Final = (
    sa.select(payments.c.created_at)
    .where(payments.c.session_id.is_not(None))
    .order_by(payments.c.created_at.desc())
    .limit(1)
)
CLAIM_UNFINISHED: Final = _claim_unfinished()


def _payments_of_keys() -> Executable:
    columns = KEY_COLUMNS[:-1]
    given = _given(*columns)
    same = sa.and_(*(request_keys.c[name] == given.c[name] for name in columns))
    return (
        sa.select(payments, request_keys.c.scope, request_keys.c.fingerprint)
        .join(request_keys, request_keys.c.payment_id == payments.c.id)
        .join(given, same)
        .order_by(payments.c.id)
    )


def _remember() -> Executable:
    """Bind to the payment the keys that are not bound yet."""
    given = _given(*KEY_COLUMNS)
    bound = _parameters(request_keys, "payment_id", "created_at")
    values = sa.select(*(given.c[name] for name in KEY_COLUMNS), *bound.values())
    return (
        upsert(request_keys)
        .from_select([*KEY_COLUMNS, *bound], values)
        .on_conflict_do_nothing()
        .returning(request_keys.c.payment_id)
    )


def _prune(table: sa.Table, column: sa.Column[Any], *conditions: sa.ColumnElement[bool] | sa.TextClause) -> Executable:
    """Delete the oldest rows, at most `:batch`, whose `column` is before `:before`; it returns one row for each.

    They are deleted by their `ctid`, as with a join on a key PostgreSQL may scan the whole table.
    """
    place: sa.ColumnElement[Any] = sa.literal_column(f"{table.name}.ctid")
    old = (
        sa.select(place)
        .select_from(table)
        .where(*conditions, column < sa.bindparam("before", type_=_TIME))
        .order_by(column)
        .limit(sa.bindparam("batch", type_=sa.Integer))
        .with_for_update(skip_locked=True)
    )
    return sa.delete(table).where(place == sa.any_(sa.func.array(old.scalar_subquery()))).returning(column)


PAYMENTS_OF_KEYS: Final = _payments_of_keys()
PRUNE_KEYS: Final = _prune(request_keys, request_keys.c.created_at)
PRUNE_SENT: Final = _prune(outbox, outbox.c.sent_at)
PRUNE_RESERVATIONS: Final = _prune(reservations, reservations.c.kept_until)
REMEMBER: Final = _remember()
