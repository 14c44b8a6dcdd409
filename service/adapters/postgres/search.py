"""Payments as operators look for them: newest first, a page at a time, each by an index however many there are.

Plans are made anew (`Database(plans_once=False)`): they differ for what is rare and what is common, and only with the
values does PostgreSQL see which partial index has them. A query does not repeat the condition of such an index:
PostgreSQL would count it twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Final

import sqlalchemy as sa

from service.adapters.postgres.database import Database, Row
from service.adapters.postgres.reasons import is_too_long
from service.adapters.postgres.tables import journal, operator_journal, outbox, payments
from service.application.ports.search import FoundPayment, OperatorLine, Place, StoredEvent, Wanted
from service.domain.errors import SearchTooLongError, StoreUnavailableError
from service.domain.money import THREE_DECIMAL, ZERO_DECIMAL, Money
from service.domain.payment import PaymentStatus

ANY_ATTENTION: Final = "any"
_NEEDS_PERSON: Final = sa.text("attention IS NOT NULL AND closed_at IS NULL")
_PLAIN: Final = [member.name for member in fields(FoundPayment) if member.name not in {"money", "attention"}]
_OPEN_ATTENTION: Final = sa.case((payments.c.closed_at.is_(None), payments.c.attention)).label("attention")
_FOUND: Final = [
    *(payments.c[name] for name in (*_PLAIN, "amount_minor", "currency")),
    _OPEN_ATTENTION,
]
_EQUAL: Final = ("booking_id", "user_id", "session_id", "status", "reason", "currency")
_EVENTS: Final = (
    sa.select(outbox).where(outbox.c.payment_id == sa.bindparam("payment_id")).order_by(outbox.c.sequence).limit(500)
)
_OPERATOR_LINES: Final = sa.select(operator_journal).order_by(operator_journal.c.id.desc())


class PostgresSearch:
    """Reads only. Every method may raise StoreUnavailableError, and `page` SearchTooLongError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, wanted: Wanted, *, after: Place | None, limit: int) -> Sequence[FoundPayment]:
        """Up to `limit` payments that match, from `after` on, newest first."""
        if wanted.reason is not None and wanted.status not in {None, PaymentStatus.FAILED}:
            return []  # a search would find payment by payment that nothing matches
        if after is not None and wanted.until is not None and after.created_at < wanted.until:
            wanted = replace(wanted, until=None)  # with two ends PostgreSQL begins at the first and walks to the other
        statement = sa.select(*_FOUND).where(*_conditions(wanted.given))
        parameters = {name: value for name, value in wanted.given.items() if name != "amount"} | {"batch": limit}
        if wanted.attention == ANY_ATTENTION:
            del parameters["attention"]
        if wanted.amount is not None:
            parameters |= {f"minor_{digits}": _minor(wanted.amount, digits) for digits in _digits(wanted.currency)}
        if after is not None:
            columns = (payments.c.created_at, payments.c.id)
            place = (sa.bindparam("after_at", type_=columns[0].type), sa.bindparam("after_id", type_=columns[1].type))
            statement = statement.where(sa.tuple_(*columns) < sa.tuple_(*place))
            parameters |= {"after_at": after.created_at, "after_id": after.id}
        statement = statement.order_by(payments.c.created_at.desc(), payments.c.id.desc())
        statement = statement.limit(sa.bindparam("batch", type_=sa.Integer))
        try:
            rows = await self._database.run(statement, parameters)
        except StoreUnavailableError as error:
            if is_too_long(error):
                raise SearchTooLongError from error.__cause__
            raise
        return [_found(row) for row in rows]

    async def events(self, payment_id: int) -> Sequence[StoredEvent]:
        """The payment's events that are still in the outbox."""
        rows = await self._database.run(_EVENTS, {"payment_id": payment_id})
        names = [member.name for member in fields(StoredEvent) if member.name != "trace_parent"]
        return [
            StoredEvent(trace_parent=row.headers.get("traceparent"), **{name: getattr(row, name) for name in names})
            for row in rows
        ]

    async def operator_lines(self, *, before_id: int | None = None, limit: int) -> Sequence[OperatorLine]:
        """The newest lines of the operators' journal."""
        statement, parameters = _OPERATOR_LINES.limit(sa.bindparam("batch", type_=sa.Integer)), {"batch": limit}
        if before_id is not None:
            statement = statement.where(operator_journal.c.id < sa.bindparam("before_id"))
            parameters["before_id"] = before_id
        names = [member.name for member in fields(OperatorLine)]
        rows = await self._database.run(statement, parameters)
        return [OperatorLine(**{name: getattr(row, name) for name in names}) for row in rows]


def _conditions(given: Mapping[str, Any]) -> list[Any]:
    found: list[Any] = [payments.c[name] == sa.bindparam(name) for name in _EQUAL if name in given]
    if "payment_id" in given:
        found.append(payments.c.id == sa.bindparam("payment_id"))
    if "request_id" in given:
        changed = sa.select(journal.c.payment_id).where(journal.c.request_id == sa.bindparam("request_id"))
        found.append(payments.c.id.in_(changed))
    if "attention" in given:
        found.append(_NEEDS_PERSON)
        if given["attention"] != ANY_ATTENTION:
            found.append(payments.c.attention == sa.bindparam("attention"))
    if "amount" in given:
        found.append(_amount(given.get("currency")))
    if "since" in given:
        found.append(payments.c.created_at >= sa.bindparam("since"))
    if "until" in given:
        found.append(payments.c.created_at < sa.bindparam("until"))
    return found


def _amount(currency: str | None) -> sa.ColumnElement[bool]:
    """An amount in major units is another number of minor units in each kind of currency."""
    minor = {digits: payments.c.amount_minor == sa.bindparam(f"minor_{digits}") for digits in _digits(currency)}
    if currency is not None:
        return minor.popitem()[1]
    zero, three = (
        payments.c.currency == sa.any_(sa.literal(sorted(codes), sa.ARRAY(sa.String)))
        for codes in (ZERO_DECIMAL, THREE_DECIMAL)
    )
    return sa.or_(sa.and_(minor[0], zero), sa.and_(minor[3], three), sa.and_(minor[2], ~sa.or_(zero, three)))


def _digits(currency: str | None) -> tuple[int, ...]:
    """How many decimals the currency may have."""
    if currency is None:
        return (0, 2, 3)
    return (0 if currency in ZERO_DECIMAL else 3 if currency in THREE_DECIMAL else 2,)


def _minor(amount: Any, digits: int) -> int:
    """-1, which no payment has, if the amount has more decimals than that."""
    scaled = amount.scaleb(digits)
    return int(scaled) if scaled == int(scaled) and scaled < 2**62 else -1


def _found(row: Row) -> FoundPayment:
    money = Money(row.amount_minor, row.currency)
    return FoundPayment(money=money, attention=row.attention, **{name: getattr(row, name) for name in _PLAIN})
