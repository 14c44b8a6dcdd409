"""`payment-service show`: what happened to a booking's money, for a person at a terminal."""

import sys
from collections.abc import Sequence

from contracts.fields import is_session_id
from service.adapters.store import Database, PostgresStore
from service.application.ports import JournalEntry
from service.domain.payment import Payment
from service.settings import DatabaseSettings


async def show(wanted: str, settings: DatabaseSettings) -> int:
    """Print the payments that `wanted` names: a payment id, a transaction id or `booking:<id>`. 1 if there are none."""
    database = Database(settings.database_url.get_secret_value())
    try:
        store = PostgresStore(database)
        payments = await _find(store, wanted)
        for payment in payments:
            sys.stdout.write(_text(payment, await store.journal(payment.id)))
    finally:
        await database.close()
    if not payments:
        sys.stderr.write("No such payment. Give a payment id, a transaction id (cs_...) or booking:<id>.\n")
    return 0 if payments else 1


async def _find(store: PostgresStore, wanted: str) -> Sequence[Payment]:
    kind, _, number = wanted.rpartition(":")
    if is_session_id(wanted):
        found = await store.payment_of_session(wanted)
    elif kind == "booking" and _is_id(number):
        return await store.payments_of_booking(int(number))
    else:
        found = await store.payment(int(wanted)) if _is_id(wanted) else None
    return [found] if found else []


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text) < 2**63


def _text(payment: Payment, journal: Sequence[JournalEntry]) -> str:
    rows = {
        "payment": payment.id,
        "status": payment.status if payment.reason is None else f"{payment.status} ({payment.reason})",
        "attention": payment.attention,
        "booking": payment.booking_id,
        "user": payment.user_id,
        "amount": payment.money,
        "transaction": payment.session_id,
        "reference": payment.reference,
        "created": payment.created_at.isoformat(timespec="milliseconds"),
        "payable until": payment.expires_at.isoformat(timespec="seconds"),
        "mode": "live" if payment.livemode else "test",
    }
    lines = [f"{name:<14}{value}" for name, value in rows.items() if value is not None]
    lines.append("journal")
    for entry in journal:
        detail = " ".join(f"{name}={value}" for name, value in entry.detail.items())
        at = entry.at.isoformat(timespec="milliseconds")
        lines.append(
            f"  {at}  {entry.version}  {entry.kind:<10} {entry.status:<10} {detail}  {entry.request_id}".rstrip()
        )
    return "\n".join(lines) + "\n\n"
