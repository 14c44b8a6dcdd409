"""A relay as a process of its own, to be stopped and killed: `python -m ... AMQP_URL DATABASE_URL`."""

import asyncio
import sys

from service.adapters.store import Database, PostgresOutbox, Wakeups
from service.bootstrap import SystemClock
from service.entrypoints.broker import Publisher, rabbit_broker
from service.entrypoints.relay import Relay


async def relay(amqp_url: str, database_url: str) -> None:
    broker = rabbit_broker(amqp_url)
    await broker.connect()
    wakeups = Wakeups(database_url)
    outbox = PostgresOutbox(Database(database_url))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await Relay(outbox=outbox, publisher=Publisher(broker), clock=SystemClock(), alarm=wakeups).run()


if __name__ == "__main__":
    asyncio.run(relay(*sys.argv[1:]))
