"""A relay as a process of its own, to be stopped and killed: `python -m ... AMQP_URL DATABASE_URL`."""

import asyncio
import sys

from service.adapters.postgres import Database, PostgresOutbox
from tests.integration.service.relay.relays import a_listener, publishing
from tests.kit.clock import SystemClock
from tests.kit.workers import a_relay


async def relay(amqp_url: str, database_url: str) -> None:
    async with publishing(amqp_url) as publisher:
        outbox, listener = PostgresOutbox(Database(database_url)), a_listener(database_url)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await a_relay(outbox, publisher, SystemClock(), wakeup=listener).run()


if __name__ == "__main__":
    asyncio.run(relay(*sys.argv[1:]))
