"""The statements of the hot path, built once: each is one round trip and, being one statement, one transaction.

Building and compiling a statement anew costs more than PostgreSQL takes to run it.
"""

from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    BindParameter,
    Column,
    ColumnElement,
    Integer,
    String,
    Table,
    TextClause,
    and_,
    any_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.sql.base import Executable

from service.adapters.store.tables import journal, outbox, payments, places, request_keys

OUTBOX_CHANNEL: Final = "payment_outbox"
"""The NOTIFY channel that tells of payments that are final now, by their ids; it wakes the relays, too."""

LIVE: Final = text("status IN ('PENDING', 'COMPLETED')")
"""As in the partial unique index, to the letter: PostgreSQL finds the index by it."""

CHANGING: Final = ("status", "reason", "attention", "session_id", "payment_url", "expires_at", "version", "updated_at")
"""The columns that a change may touch. All others are frozen at the insert."""

SETTLE_SECONDS: Final = 30.0
"""Between the settler's first two tries of a payment: longer than a try takes. It doubles with each, with jitter."""
MAX_SETTLE_SECONDS: Final = 300.0

_TIME: Final = payments.c.created_at.type
_KEY_COLUMNS: Final = ("scope", "caller", "key", "fingerprint")


def _parameters(table: Table, *names: str, prefix: str = "") -> dict[str, BindParameter[Any]]:
    """Bound parameters with the types of the table's columns."""
    return {name: bindparam(f"{prefix}{name}", type_=table.c[name].type) for name in names}


def _arrays(*names: str) -> list[BindParameter[Any]]:
    return [bindparam(f"key_{name}", type_=ARRAY(String)) for name in names]


def _begin() -> Executable:
    """Insert payment, keys and first journal line; no row if a key or the booking has a payment already.

    A key that another transaction takes at the same moment breaks the primary key of `request_keys`, and with it the
    whole statement.
    """
    names = [column.name for column in payments.columns if column.name not in {"id", "settle_attempts", "settle_after"}]
    given = func.unnest(*_arrays(*_KEY_COLUMNS)).table_valued(*_KEY_COLUMNS).render_derived("given")
    taken = exists().where(
        request_keys.c.scope == given.c.scope,
        request_keys.c.caller == given.c.caller,
        request_keys.c.key == given.c.key,
    )
    values = _parameters(payments, *names)
    created = (
        upsert(payments)
        .from_select(names, select(*values.values()).where(~taken))
        .on_conflict_do_nothing(index_elements=[payments.c.booking_id], index_where=LIVE)
        .returning(payments.c.id, payments.c.version, payments.c.status, payments.c.created_at)
        .cte("created")
    )
    keyed = insert(request_keys).from_select(
        [*_KEY_COLUMNS, "payment_id", "created_at"],
        select(*(given.c[name] for name in _KEY_COLUMNS), created.c.id, created.c.created_at).select_from(
            created.join(given, text("true"))
        ),
    )
    extra = _parameters(journal, "kind", "detail", "request_id", prefix="journal_")
    journaled = insert(journal).from_select(
        ["payment_id", "version", "status", "at", *extra],
        select(created.c.id, created.c.version, created.c.status, created.c.created_at, *extra.values()),
    )
    return select(created.c.id).add_cte(keyed.cte("keyed"), journaled.cte("journaled"))


def _record() -> Executable:
    """Change the payment if its version is still the expected one; journal line and outbox row come along."""
    changed = (
        update(payments)
        .where(payments.c.id == bindparam("payment_id"), payments.c.version == bindparam("expected_version"))
        .values(_parameters(payments, *CHANGING))
        .returning(payments.c.id)
        .cte("changed")
    )
    line = _parameters(journal, "version", "kind", "status", "detail", "request_id", "at", prefix="journal_")
    journaled = insert(journal).from_select(["payment_id", *line], select(changed.c.id, *line.values()))
    names = ("event_id", "sequence", "routing_key", "headers", "body", "created_at")
    row = _parameters(outbox, *names, prefix="outbox_")
    written = insert(outbox).from_select(["payment_id", *row], select(changed.c.id, *row.values()))
    # Whoever notifies commits alone, with its wait for the disk: only what others wait for is worth that.
    settled = bindparam("settled", type_=String)
    told = case((settled != "", func.pg_notify(OUTBOX_CHANNEL, settled)))
    return select(told, changed.c.id).add_cte(journaled.cte("journaled"), written.cte("written"))


_fresh_since = bindparam("fresh_since", type_=_TIME)

BEGIN: Final = _begin()
RECORD: Final = _record()
BY_ID: Final = select(payments).where(payments.c.id == bindparam("payment_id"))
BY_SESSION: Final = select(payments).where(payments.c.session_id == bindparam("session_id"))
FINAL_AMONG: Final = select(payments).where(
    payments.c.id == any_(bindparam("payment_ids", type_=ARRAY(BigInteger))), text("status <> 'PENDING'")
)
LIVE_OF_BOOKING: Final = select(payments).where(and_(payments.c.booking_id == bindparam("booking_id"), LIVE))
ALL_OF_BOOKING: Final = select(payments).where(payments.c.booking_id == bindparam("booking_id")).order_by(payments.c.id)
JOURNAL: Final = select(journal).where(journal.c.payment_id == bindparam("payment_id")).order_by(journal.c.id)
CLAIM_ASK: Final = (
    update(payments)
    .where(
        payments.c.id == bindparam("payment_id"),
        or_(payments.c.asked_at.is_(None), payments.c.asked_at <= _fresh_since),
    )
    .values(asked_at=bindparam("at", type_=_TIME))
    .returning(payments.c.id)
)
NOTE_ASK_FAILED: Final = (
    update(payments)
    .where(payments.c.id == bindparam("payment_id"), payments.c.asked_at == bindparam("at"))
    .values(ask_failed_at=bindparam("at", type_=_TIME))
    .returning(payments.c.id)
)


def _claim_unsettled() -> Executable:
    """Like the outbox: claimed by state, skipping rows that another replica is claiming in this moment."""
    moments = _moments("at", "unopened_before", "unpaid_before")
    unopened = and_(payments.c.session_id.is_(None), payments.c.created_at <= moments["unopened_before"])
    due = or_(payments.c.settle_after.is_(None), payments.c.settle_after <= moments["at"])
    chosen = (
        select(payments.c.id)
        .where(text("status = 'PENDING'"), due, or_(unopened, payments.c.created_at <= moments["unpaid_before"]))
        .order_by(payments.c.created_at)
        .limit(bindparam("batch", type_=Integer))
        .with_for_update(skip_locked=True)
        .cte("chosen")
    )
    doubled = func.least(SETTLE_SECONDS * func.pow(2, func.least(payments.c.settle_attempts, 10)), MAX_SETTLE_SECONDS)
    jittered = func.make_interval(0, 0, 0, 0, 0, 0, doubled * (0.75 + func.random() / 2))
    return (
        update(payments)
        .where(payments.c.id == chosen.c.id)
        .values(settle_attempts=payments.c.settle_attempts + 1, settle_after=moments["at"] + jittered)
        .returning(payments)
    )


OLDEST_PENDING: Final = (
    select(payments.c.created_at)
    .where(text("status = 'PENDING'"), payments.c.session_id.is_not(None))
    .order_by(payments.c.created_at)
    .limit(1)
)
PENDING_OF_SESSIONS: Final = select(payments).where(
    payments.c.session_id == any_(bindparam("session_ids", type_=ARRAY(String))), text("status = 'PENDING'")
)


def _moments(*names: str) -> dict[str, BindParameter[Any]]:
    return {name: bindparam(name, type_=_TIME) for name in names}


CLAIM_UNSETTLED: Final = _claim_unsettled()


def _payments_of_keys() -> Executable:
    columns = _KEY_COLUMNS[:-1]
    given = func.unnest(*_arrays(*columns)).table_valued(*columns).render_derived("given")
    same = and_(*(request_keys.c[name] == given.c[name] for name in columns))
    return (
        select(payments, request_keys.c.scope, request_keys.c.fingerprint)
        .join(request_keys, request_keys.c.payment_id == payments.c.id)
        .join(given, same)
        .order_by(payments.c.id)
    )


def _remember() -> Executable:
    """Bind those of the keys to a payment that are bound to none."""
    given = func.unnest(*_arrays(*_KEY_COLUMNS)).table_valued(*_KEY_COLUMNS).render_derived("given")
    bound = _parameters(request_keys, "payment_id", "created_at")
    values = select(*(given.c[name] for name in _KEY_COLUMNS), *bound.values())
    return (
        upsert(request_keys)
        .from_select([*_KEY_COLUMNS, *bound], values)
        .on_conflict_do_nothing()
        .returning(request_keys.c.payment_id)
    )


def _prune(table: Table, column: Column[Any], *conditions: ColumnElement[bool] | TextClause) -> Executable:
    """Delete the rows whose `column` lies before `:before`, `:batch` of the oldest at most; a row answered for each.

    Deleted where they were found and locked, by their place: joined by a key, PostgreSQL may read the whole table.
    """
    place: ColumnElement[Any] = literal_column(f"{table.name}.ctid")
    old = (
        select(place)
        .select_from(table)
        .where(*conditions, column < bindparam("before", type_=_TIME))
        .order_by(column)
        .limit(bindparam("batch", type_=Integer))
        .with_for_update(skip_locked=True)
    )
    return delete(table).where(place == any_(func.array(old.scalar_subquery()))).returning(column)


PAYMENTS_OF_KEYS: Final = _payments_of_keys()
# The scope is spelled out as in the partial index: PostgreSQL finds the index by it.
PRUNE_KEYS: Final = _prune(request_keys, request_keys.c.created_at, text("scope = 'idempotency'"))
PRUNE_SENT: Final = _prune(outbox, outbox.c.sent_at)
PRUNE_PLACES: Final = _prune(places, places.c.kept_until)
REMEMBER: Final = _remember()
