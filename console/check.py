"""`payment-console check`: whether the console could work here, for the first step of a deployment."""

import asyncio
import sys

from console.settings import Settings
from runtime import broker_check
from service.adapters import postgres


def check(settings: Settings) -> int:
    """Tell every problem of the servers at once, and change nothing; the exit status."""
    return asyncio.run(_check(settings))


async def _check(settings: Settings) -> int:
    database = postgres.Database(settings.database_url.get_secret_value())
    try:
        problems = await asyncio.gather(
            postgres.problem_of(database, postgres.CONSOLE_GRANTED),
            broker_check.problem_of(settings.amqp_url.get_secret_value()),
        )
    finally:
        await database.close()
    for problem in filter(None, problems):
        sys.stderr.write(f"{problem}\n")
    if any(problems):
        return 1
    sys.stdout.write("The settings are valid, and database and RabbitMQ can be used.\n")
    return 0
