"""`payment-service list`: payments that match, the newest first, a page at a time."""

import argparse
import json
import sys
from datetime import timedelta
from typing import Any, Final

from runtime.process_settings import DatabaseSettings
from service.adapters.postgres import Database, PostgresSearch, PostgresStore, database_now
from service.application.ports.search import FoundPayment, Place, Wanted
from service.cli.argument_types import resolved
from service.domain.errors import SearchTooLongError

_FILTERS: Final = (*("booking_id", "user_id", "status", "reason", "attention", "amount", "currency", "since", "until"),)
_TIMES: Final = ("since", "until")
_COLUMNS: Final = "{:<24}  {:>16}  {:>19}  {:>19}  {:>16}  {:<22}  {:<19}  {}"


def needs(_: argparse.Namespace) -> type[DatabaseSettings]:
    """Its settings."""
    return DatabaseSettings


async def run(arguments: argparse.Namespace, settings: DatabaseSettings) -> int:
    """Print a page of payments; 1 if none matches."""
    database = Database(settings.database_url.get_secret_value(), plans_once=False)
    try:
        wanted = await _wanted(arguments, database)
        after = None
        if arguments.after is not None:
            last = await PostgresStore(database).payment(arguments.after)
            if last is None:
                sys.stderr.write(f"payment-service list: there is no payment {arguments.after} to go on after.\n")
                return 1
            after = Place(created_at=last.created_at, id=last.id)
        page = await PostgresSearch(database).page(wanted, after=after, limit=arguments.limit)
    except SearchTooLongError:
        sys.stderr.write(
            "payment-service list: the search took too long. Name a booking or a user, or a shorter time with --since "
            "and --until.\n"
        )
        return 1
    finally:
        await database.close()
    if arguments.json:
        sys.stdout.writelines(json.dumps(_described(payment)) + "\n" for payment in page)
    elif page:
        names = ("created", "payment", "booking", "user", "amount", "status", "attention", "transaction")
        sys.stdout.write(_COLUMNS.format(*names).rstrip() + "\n")
        sys.stdout.writelines(_line(payment) + "\n" for payment in page)
    if not page:
        sys.stderr.write("No such payments.\n")
    elif len(page) == arguments.limit:
        sys.stderr.write(f"There may be more: --after {page[-1].id}\n")
    return 0 if page else 1


async def _wanted(arguments: argparse.Namespace, database: Database) -> Wanted:
    given = {name: getattr(arguments, name) for name in _FILTERS}
    if any(isinstance(given[name], timedelta) for name in _TIMES):
        now = await database_now(database)
        given |= {name: resolved(given[name], now) for name in _TIMES if given[name] is not None}
    return Wanted(**given)


def _line(payment: FoundPayment) -> str:
    return _COLUMNS.format(
        payment.created_at.isoformat(timespec="seconds"),
        payment.id,
        payment.booking_id,
        payment.user_id,
        str(payment.money),
        payment.status if payment.reason is None else f"{payment.status} ({payment.reason})",
        payment.attention or "-",
        payment.session_id or "-",
    )


def _described(payment: FoundPayment) -> dict[str, Any]:
    return {
        "paymentId": payment.id,
        "bookingId": payment.booking_id,
        "userId": payment.user_id,
        "amount": str(payment.money.major),
        "currency": payment.money.currency,
        "status": payment.status,
        "reason": payment.reason,
        "attention": payment.attention,
        "transactionId": payment.session_id,
        "refundedMinor": payment.refunded_minor,
        "dispute": payment.dispute,
        "createdAt": payment.created_at.isoformat(timespec="milliseconds"),
        "updatedAt": payment.updated_at.isoformat(timespec="milliseconds"),
    }
