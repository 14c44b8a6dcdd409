"""The account pin: the row that says which of Stripe's accounts, in which mode, the payments here were made with."""

from typing import Any, Final

from sqlalchemy import BindParameter, bindparam, exists, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.sql.base import Executable

from service.adapters.postgres.database import Database
from service.adapters.postgres.tables import PENDING, account_pin, payments
from service.domain.gateway_account import GatewayAccount

_ONLY: Final = 1
_GIVEN: Final[dict[str, BindParameter[Any]]] = {"livemode": bindparam("livemode"), "account": bindparam("account")}


def _pin() -> Executable:
    """The first one pins; later ones only add the id, where it was not known."""
    first = upsert(account_pin).values(id=_ONLY, pinned_at=func.now(), **_GIVEN)
    return first.on_conflict_do_update(
        index_elements=[account_pin.c.id],
        set_={"account": first.excluded.account},
        where=account_pin.c.account.is_(None) & (account_pin.c.livemode == first.excluded.livemode),
    ).returning(account_pin.c.id)


_PIN: Final = _pin()
_PINNED: Final = select(account_pin.c.livemode, account_pin.c.account)
_MOVE: Final = (
    update(account_pin)
    .where(
        ~exists().where(PENDING).select_from(payments),
        ~exists().where(payments.c.livemode != bindparam("livemode")),
    )
    .values(pinned_at=func.now(), **_GIVEN)
    .returning(account_pin.c.id)
)


async def pin(database: Database, account: GatewayAccount) -> GatewayAccount:
    """Pin the database to the account unless it is pinned already; whose it is afterwards."""
    await database.run(_PIN, {"livemode": account.livemode, "account": account.id})
    return await pinned(database) or account


async def pinned(database: Database) -> GatewayAccount | None:
    """Whose the database is; None before a service has started with it."""
    rows = await database.run(_PINNED, {})
    return GatewayAccount(livemode=rows[0].livemode, id=rows[0].account) if rows else None


async def move_pin(database: Database, account: GatewayAccount) -> bool:
    """Pin the database to another account; False if payments forbid it.

    Only the old account can finish what is PENDING, and what was paid in the other mode would still count as paid.
    """
    return bool(await database.run(_MOVE, {"livemode": account.livemode, "account": account.id}))
