"""`payment-service check`: whether the service could start here, for the first step of a deployment."""

import argparse
import asyncio
import json
import sys

from runtime import broker_check, misspelt
from service import pinning
from service.adapters import postgres
from service.adapters.stripe import KeyRefusedError
from service.settings import MigrateSettings, Settings


def needs(_: argparse.Namespace) -> type[Settings]:
    """Its settings."""
    return Settings


async def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Tell every problem of the servers at once, and change nothing; the exit status."""
    database = postgres.Database(settings.database_url.get_secret_value())
    try:
        own = settings.database_listen_url
        account, unknown = await pinning.account_of(settings)
        *found, deaf = await asyncio.gather(
            postgres.problem_of(database, postgres.GRANTED),
            broker_check.problem_of(settings.amqp_url.get_secret_value()),
            pinning.problem_of(database, account, unknown),
            postgres.listening_problem_of(
                None if own is None else own.get_secret_value(), otherwise=settings.database_url.get_secret_value()
            ),
        )
        warnings = [] if own or deaf is None else [deaf]  # without notifications the service works, only later
        problems = [problem for problem in (*found, deaf) if problem is not None and problem not in warnings]
        if unknown is not None and not isinstance(unknown, KeyRefusedError):
            warnings.append(f"Stripe ({settings.stripe_api_base}) does not answer: nothing can be sold until it does.")
        owner = None if problems else await postgres.pinned(database)
    finally:
        await database.close()
    warnings += misspelt.sentences(Settings, MigrateSettings)
    if arguments.json:
        said = {"ok": not problems, "problems": problems, "warnings": warnings, "account": owner and str(owner)}
        sys.stdout.write(json.dumps(said) + "\n")
        return 1 if problems else 0
    sys.stderr.writelines(f"{sentence}\n" for sentence in (*problems, *warnings))
    if not problems:
        usable = "database, RabbitMQ and Stripe" if unknown is None else "database and RabbitMQ"
        sys.stdout.write(f"The settings are valid, and {usable} can be used.\n")
    if owner is not None:
        sys.stdout.write(f"The database belongs to Stripe's {owner}.\n")
    return 1 if problems else 0
