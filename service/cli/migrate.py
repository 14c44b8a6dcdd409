"""`payment-service migrate`: brings the database to the tables that this version needs."""

import argparse
import json
import sys

from runtime import command_start
from service.adapters import postgres
from service.domain.errors import StoreUnavailableError
from service.settings import MigrateSettings


def needs(_: argparse.Namespace) -> type[MigrateSettings]:
    """Its settings."""
    return MigrateSettings


async def run(arguments: argparse.Namespace, settings: MigrateSettings) -> int:
    """Migrate, and grant the application's role what it needs; the exit status."""
    url = settings.migration_database_url or settings.database_url
    try:
        done = await postgres.migrate(
            url.get_secret_value(),
            application=settings.application,
            console=settings.console_database_role,
            currency=settings.payment_currency,
        )
    except StoreUnavailableError as error:
        variable = "DATABASE_URL" if settings.migration_database_url is None else "MIGRATION_DATABASE_URL"
        sys.stderr.write(f"payment-service: the database ({variable}) {postgres.why(error)}.\n")
        return command_start.EXIT_FAILED
    if arguments.json:
        role = settings.application if done.granted else None
        told = {"revision": done.revision, "grantedTo": role, "consoleRole": settings.console_database_role}
        sys.stdout.write(json.dumps(told) + "\n")
        return 0
    sys.stdout.write(f"The database is at revision {done.revision}.\n")
    if settings.console_database_role:
        sys.stdout.write(f"The role {settings.console_database_role} may do what the console needs, and no more.\n")
    if done.granted:
        sys.stdout.write(f"The role {settings.application} may do what the service needs, and no more.\n")
    return 0
