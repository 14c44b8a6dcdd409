"""The acts that operators ask for: the console writes them, a replica of the service claims and answers each."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final

import sqlalchemy as sa

from service.adapters.postgres.database import Database, Row
from service.adapters.postgres.tables import operator_acts, outbox
from service.application.ports.operator_acts import ActKind, OperatorAct

LEASE_SECONDS: Final = 60
_COLUMNS: Final = [member.name for member in fields(OperatorAct)]
_ASK: Final = sa.insert(operator_acts).returning(operator_acts.c.id)
_NEWEST: Final = (
    sa.select(operator_acts).order_by(operator_acts.c.id.desc()).limit(sa.bindparam("batch", type_=sa.Integer))
)
_OF_PAYMENT: Final = _NEWEST.where(operator_acts.c.payment_id == sa.bindparam("payment_id"))
_NOW: Final = sa.func.now()


def _claim() -> Any:
    free = sa.or_(operator_acts.c.claimed_until.is_(None), operator_acts.c.claimed_until < _NOW)
    chosen = (
        sa.select(operator_acts.c.id)
        .where(sa.text("done_at IS NULL"), free)
        .order_by(operator_acts.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .cte("chosen")
    )
    return (
        sa.update(operator_acts)
        .where(operator_acts.c.id == chosen.c.id)
        .values(claimed_until=_NOW + sa.func.make_interval(0, 0, 0, 0, 0, 0, LEASE_SECONDS))
        .returning(operator_acts)
    )


_CLAIM: Final = _claim()
_ANSWER: Final = (
    sa.update(operator_acts)
    .where(operator_acts.c.id == sa.bindparam("act_id"), sa.text("done_at IS NULL"))
    .values(done_at=_NOW, is_done=sa.bindparam("done", type_=sa.Boolean), answer=sa.bindparam("said"))
    .returning(operator_acts.c.id)
)
_NEWEST_EVENT: Final = (
    sa.select(outbox.c.id)
    .where(outbox.c.payment_id == sa.bindparam("of_payment"))
    .order_by(outbox.c.sequence.desc())
    .limit(1)
)
_RESEND: Final = (
    sa.update(outbox)
    .where(outbox.c.id == _NEWEST_EVENT.scalar_subquery())
    .values(sent_at=None, claimed_until=None)
    .returning(outbox.c.routing_key)
)


class PostgresActs:
    """Every method may raise StoreUnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ask(self, kind: ActKind, payment_id: int, *, actor: str, why: str) -> int:
        """Write down what is asked for; its id."""
        given = {"kind": kind.value, "payment_id": payment_id, "actor": actor, "why": why}
        (row,) = await self._database.run(_ASK, given)
        return int(row.id)

    async def newest(self, *, limit: int) -> Sequence[OperatorAct]:
        """The newest first."""
        return [_act(row) for row in await self._database.run(_NEWEST, {"batch": limit})]

    async def of_payment(self, payment_id: int, *, limit: int) -> Sequence[OperatorAct]:
        """The newest of a payment first."""
        given = {"payment_id": payment_id, "batch": limit}
        return [_act(row) for row in await self._database.run(_OF_PAYMENT, given)]

    async def claim(self) -> OperatorAct | None:
        """The oldest that nobody has answered; no other replica gets it for `LEASE_SECONDS`."""
        rows = await self._database.run(_CLAIM, {})
        return _act(rows[0]) if rows else None

    async def answer(self, act_id: int, *, is_done: bool, answer: str) -> None:
        """Say how it went, once."""
        await self._database.run(_ANSWER, {"act_id": act_id, "done": is_done, "said": answer})

    async def resend(self, payment_id: int) -> str | None:
        """Have the relay publish the payment's newest event once more; its routing key, None if it was deleted."""
        rows = await self._database.run(_RESEND, {"of_payment": payment_id})
        return str(rows[0].routing_key) if rows else None


def _act(row: Row) -> OperatorAct:
    return OperatorAct(**{name: getattr(row, name) for name in _COLUMNS})
