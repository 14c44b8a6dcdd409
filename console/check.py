"""`payment-console check`: whether the console could work here, for the first step of a deployment."""

import argparse
import asyncio
import json
import sys

from console.settings import Settings
from runtime import broker_check, misspelt
from service.adapters import postgres


def check(settings: Settings, arguments: argparse.Namespace) -> int:
    """Tell every problem of the servers at once, and change nothing; the exit status."""
    problems = asyncio.run(_problems(settings))
    warnings = misspelt.sentences(Settings)
    if arguments.json:
        sys.stdout.write(json.dumps({"ok": not problems, "problems": problems, "warnings": warnings}) + "\n")
    else:
        sys.stderr.writelines(f"{sentence}\n" for sentence in (*problems, *warnings))
        if not problems:
            sys.stdout.write("The settings are valid, and database and RabbitMQ can be used.\n")
    return 1 if problems else 0


async def _problems(settings: Settings) -> list[str]:
    database = postgres.Database(settings.database_url.get_secret_value())
    try:
        found = await asyncio.gather(
            postgres.problem_of(database, postgres.CONSOLE_GRANTED),
            broker_check.problem_of(settings.amqp_url.get_secret_value()),
        )
    finally:
        await database.close()
    return [problem for problem in found if problem is not None]
