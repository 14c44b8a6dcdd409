"""`payment-service move-account`: from now on the database belongs to the account of another key."""

import argparse
import json
import sys

from service import pinning
from service.adapters import postgres
from service.settings import Settings


def needs(_: argparse.Namespace) -> type[Settings]:
    """Its settings."""
    return Settings


async def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Pin the database to the account of STRIPE_API_KEY; 1 if its payments, or Stripe's silence, forbid it."""
    database = postgres.Database(settings.database_url.get_secret_value())
    try:
        account, unknown = await pinning.account_of(settings)
        if unknown is not None:
            sys.stderr.write("Stripe does not say whose STRIPE_API_KEY is. Nothing was changed.\n")
            return 1
        before = await postgres.pin(database, account)
        if not before.may_be(account) and not await postgres.move_pin(database, account):
            sys.stderr.write(
                f"The database stays with Stripe's {before}: it holds payments that are PENDING, which only that"
                " account can finish, or payments of the other mode, which would count as paid. Nothing was changed.\n"
            )
            return 1
    finally:
        await database.close()
    if arguments.json:
        sys.stdout.write(json.dumps({"before": str(before), "account": str(account)}) + "\n")
        return 0
    sys.stdout.write(f"The database belonged to Stripe's {before}, and belongs to {account}.\n")
    return 0
