"""`payment-service show`: payments with their journal."""

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from contracts.fields import is_session_id
from runtime.process_settings import DatabaseSettings
from service.adapters.postgres import Database, PostgresSearch, PostgresStore
from service.application.ports import JournalEntry
from service.application.ports.search import Wanted
from service.domain.money import Money
from service.domain.payment import Payment

NOT_FOUND: Final = "No such payment. Give a payment id, a transaction id (cs_...), booking:<id> or request:<id>."
MOST_OF_A_REQUEST: Final = 100


def needs(_: argparse.Namespace) -> type[DatabaseSettings]:
    """Its settings."""
    return DatabaseSettings


async def run(arguments: argparse.Namespace, settings: DatabaseSettings) -> int:
    """Print the payments that are named; 1 if there are none."""
    database = Database(settings.database_url.get_secret_value())
    try:
        store = PostgresStore(database)
        payments = await find_payments(store, arguments.id, PostgresSearch(database))
        for payment in payments:
            journal = await store.journal(payment.id)
            said = json.dumps(described(payment, journal)) + "\n" if arguments.json else _text(payment, journal)
            sys.stdout.write(said)
    finally:
        await database.close()
    if not payments:
        sys.stderr.write(f"{NOT_FOUND}\n")
    return 0 if payments else 1


async def find_payments(store: PostgresStore, wanted: str, search: PostgresSearch) -> Sequence[Payment]:
    """The payments that an operator names: by payment id, transaction id, `booking:<id>` or `request:<id>`.

    What is none of the others is a request id too: that of any change of a payment.
    """
    kind, _, name = wanted.partition(":")
    if kind == "booking" and _is_id(name):
        return await store.payments_of_booking(int(name))
    if _is_id(wanted):
        found = [await store.payment(int(wanted))]
    elif is_session_id(wanted):
        found = [await store.payment_of_session(wanted)]
    else:
        request = Wanted(request_id=name if kind == "request" else wanted)
        page = await search.page(request, after=None, limit=MOST_OF_A_REQUEST)
        found = [await store.payment(each.id) for each in reversed(page)]
    return [payment for payment in found if payment is not None]


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text) < 2**63


def described(payment: Payment, journal: Sequence[JournalEntry]) -> dict[str, Any]:
    """A payment with its journal as a JSON object."""
    return {
        "paymentId": payment.id,
        "bookingId": payment.booking_id,
        "userId": payment.user_id,
        "amount": str(payment.money.major),
        "currency": payment.money.currency,
        "status": payment.status.value,
        "reason": payment.reason,
        "attention": payment.open_attention,
        "closedAt": _iso(payment.closed_at),
        "lastOutcome": payment.last_outcome,
        "refundedMinor": payment.refunded_minor,
        "dispute": payment.dispute,
        "transactionId": payment.session_id,
        "paymentUrl": payment.payment_url,
        "reference": payment.reference,
        "createdAt": _iso(payment.created_at),
        "payerHasUntil": _iso(payment.payable_until),
        "pageAtStripeEndsAt": _iso(payment.expires_at),
        "mode": "live" if payment.livemode else "test",
        "sequence": payment.version,
        "journal": [
            {
                "at": _iso(entry.at),
                "sequence": entry.version,
                "kind": entry.kind,
                "status": entry.status,
                "detail": dict(entry.detail),
                "requestId": entry.request_id,
            }
            for entry in journal
        ],
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds")


def _text(payment: Payment, journal: Sequence[JournalEntry]) -> str:
    rows = {
        "payment": payment.id,
        "status": payment.status if payment.reason is None else f"{payment.status} ({payment.reason})",
        "attention": payment.open_attention,
        "closed": payment.closed_at and payment.closed_at.isoformat(timespec="seconds"),
        "last outcome": payment.last_outcome,
        "booking": payment.booking_id,
        "user": payment.user_id,
        "amount": payment.money,
        "refunded": Money(payment.refunded_minor, payment.money.currency) if payment.refunded_minor else None,
        "dispute": payment.dispute,
        "transaction": payment.session_id,
        "reference": payment.reference,
        "created": payment.created_at.isoformat(timespec="milliseconds"),
        "payer has until": payment.payable_until.isoformat(timespec="seconds"),
        "page at Stripe ends": payment.expires_at.isoformat(timespec="seconds"),
        "mode": "live" if payment.livemode else "test",
    }
    lines = [f"{name:<21}{value}" for name, value in rows.items() if value is not None]
    lines.append("journal")
    for entry in journal:
        detail = " ".join(f"{name}={value}" for name, value in entry.detail.items())
        at = entry.at.isoformat(timespec="milliseconds")
        lines.append(
            f"  {at}  {entry.version}  {entry.kind:<10} {entry.status:<10} {detail}  {entry.request_id}".rstrip()
        )
    return "\n".join(lines) + "\n\n"
