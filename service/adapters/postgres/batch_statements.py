"""The writing statements of a create and of a verify, for one row or many: each is one round trip and one transaction.

Each parameter is an array with one value for each row. Rows are written in the order of their ids, so that the batches
of two replicas wait for each other and never deadlock.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.sql.base import Executable

from service.adapters.postgres.database import json_text
from service.adapters.postgres.statements import BLOCKING, CHANGING, KEY_COLUMNS, OUTBOX_CHANNEL
from service.adapters.postgres.tables import LIVE, journal, outbox, payments, request_keys

_BEGUN: Final = (
    *("reference", "booking_id", "user_id", "amount_minor", "currency", "success_url", "cancel_url", "livemode"),
    *("gateway_request", "created_at", "expires_at", "pay_until", "sent", "sent_at"),
)
FROZEN: Final = {name: payments.c[name] for name in _BEGUN}
"""The columns that a payment begins with, beside those that say that it has begun."""
_LINE: Final = {f"journal_{name}": journal.c[name] for name in ("kind", "detail", "request_id")}
_EVENT: Final = {f"outbox_{name}": outbox.c[name] for name in ("event_id", "routing_key", "headers", "body")}
_KEY: Final = {f"key_{name}": request_keys.c[name] for name in KEY_COLUMNS}
_JSON: Final = {name for name, column in {**FROZEN, **_LINE, **_EVENT}.items() if isinstance(column.type, sa.JSON)}

Columns = Mapping[str, sa.Column[Any]]
"""Parameters, by their names, and the columns that they are for."""


def arrays(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Rows of parameters as the arrays that a statement takes. JSON goes as text: the driver has no arrays of it."""
    return {
        name: [json_text(row[name]) for row in rows] if name in _JSON else [row[name] for row in rows]
        for name in rows[0]
    }


def _given(name: str, columns: Columns, *, order: Sequence[str]) -> sa.CTE:
    """The arrays as rows."""
    types: dict[str, Any] = {
        each: sa.String() if isinstance(column.type, sa.String | sa.JSON) else column.type
        for each, column in columns.items()
    }
    values = (sa.bindparam(each, type_=sa.ARRAY(kind)) for each, kind in types.items())
    rows = sa.func.unnest(*values).table_valued(*map(sa.column, types, types.values())).render_derived()
    return sa.select(rows).order_by(*(rows.c[each] for each in order)).cte(name)


def _values(given: sa.FromClause, columns: Columns) -> dict[str, sa.ColumnElement[Any]]:
    """What each of the `columns` gets, by its name in the table."""
    return {
        column.name: sa.cast(given.c[name], sa.JSON) if isinstance(column.type, sa.JSON) else given.c[name]
        for name, column in columns.items()
    }


def _inserted(table: sa.Table, values: Mapping[str, sa.ColumnElement[Any]], source: sa.FromClause) -> sa.CTE:
    return (
        sa.insert(table)
        .from_select([*values], sa.select(*values.values()).select_from(source))
        .cte(f"{table.name}_rows")
    )


def _begin() -> Executable:
    """Insert payments, keys and first journal lines; no row for a payment whose keys or booking have one already.

    If a concurrent transaction inserts one of the keys, the statement fails on the primary key of `request_keys`.
    """
    given = _given("given", {**FROZEN, **_LINE}, order=["booking_id"])
    keys = _given("keys", {"key_reference": payments.c.reference, **_KEY}, order=[*_KEY])
    taken = sa.exists().where(
        keys.c.key_reference == given.c.reference,
        *(column == keys.c[name] for name, column in _KEY.items() if name != "key_fingerprint"),
    )
    blocked = sa.exists().where(payments.c.booking_id == given.c.booking_id, BLOCKING)
    begun: dict[str, Any] = {"status": sa.text("'PENDING'"), "version": sa.text("0"), "updated_at": given.c.created_at}
    values: dict[str, Any] = {**_values(given, FROZEN), **begun}
    created = (
        upsert(payments)
        .from_select([*values], sa.select(*values.values()).where(~taken, ~blocked))
        .on_conflict_do_nothing(index_elements=[payments.c.booking_id], index_where=LIVE)
        .returning(payments.c.id, payments.c.reference, payments.c.version, payments.c.status, payments.c.created_at)
        .cte("created")
    )
    of_payment = {"payment_id": created.c.id, "created_at": created.c.created_at}
    keyed = _inserted(
        request_keys,
        {**_values(keys, _KEY), **of_payment},
        keys.join(created, created.c.reference == keys.c.key_reference),
    )
    state = {
        "payment_id": created.c.id,
        "version": created.c.version,
        "status": created.c.status,
        "at": created.c.created_at,
    }
    journaled = _inserted(
        journal,
        {**state, **_values(given, _LINE)},
        created.join(given, given.c.reference == created.c.reference),
    )
    return sa.select(created.c.id, created.c.reference).add_cte(keyed, journaled)


def _record() -> Executable:
    """Change each payment whose version and reference are still the expected ones, with journal line and outbox row.

    Of two changes of one payment one is made, with its own line and row.
    """
    expected = {"payment_id": payments.c.id, "expected_reference": payments.c.reference}
    changing = {name: payments.c[name] for name in CHANGING}
    given = _given("given", {**expected, **changing, **_LINE, **_EVENT}, order=["payment_id"])
    changed = (
        sa.update(payments)
        .where(
            payments.c.id == given.c.payment_id,
            payments.c.version == given.c.version - sa.text("1"),
            # In words that no index answers: with many payments the row would be looked for by this random text.
            payments.c.reference.is_not_distinct_from(given.c.expected_reference),
        )
        .values(_values(given, changing))
        .returning(*(given.c[name] for name in ("payment_id", "version", "status", "updated_at", *_LINE, *_EVENT)))
        .cte("changed")
    )
    of_payment = {"payment_id": changed.c.payment_id}
    state = {"version": changed.c.version, "status": changed.c.status, "at": changed.c.updated_at}
    journaled = _inserted(journal, {**of_payment, **state, **_values(changed, _LINE)}, changed)
    event = {"sequence": changed.c.version, "created_at": changed.c.updated_at}
    written = _inserted(outbox, {**of_payment, **event, **_values(changed, _EVENT)}, changed)
    # Transactions that NOTIFY commit one after the other, each with its own flush: only final statuses are worth it.
    final = sa.cast(changed.c.payment_id, sa.String)
    notified = sa.case((sa.text("changed.status <> 'PENDING'"), sa.func.pg_notify(OUTBOX_CHANNEL, final)))
    return sa.select(changed.c.outbox_event_id, notified).add_cte(journaled, written)


def _claim_ask() -> Executable:
    """Note when the gateway is asked about each payment, unless it was asked since `fresh_since`.

    Of two claims of one payment one is made, and says which. What is after `wrong_after` was noted by a wrong clock.
    """
    times = dict.fromkeys(("at", "fresh_since", "wrong_after"), payments.c.asked_at)
    given = _given("given", {"payment_id": payments.c.id, **times}, order=["payment_id"])
    asked_at = payments.c.asked_at
    is_due = sa.or_(asked_at.is_(None), asked_at <= given.c.fresh_since, asked_at > given.c.wrong_after)
    return (
        sa.update(payments)
        .where(payments.c.id == given.c.payment_id, is_due)
        .values(asked_at=given.c.at)
        .returning(payments.c.id, payments.c.asked_at)
    )


BEGIN: Final = _begin()
RECORD: Final = _record()
CLAIM_ASK: Final = _claim_ask()
