"""A subscriber to the payment events, to copy: it loses no event, counts none twice, and accepts them in any order.

It needs Python 3.11 and aio-pika, and stores its state in a SQLite file. Yours belongs where your service has its data:
id, state and effect must be written in one transaction, and the event acknowledged after it.

    AMQP_URL=amqp://user:password@host:5672/%2F python subscriber.py
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

log = logging.getLogger("subscriber")

EXCHANGE: Final = "payments.events"
BINDING: Final = "payment.#"
PREFETCH: Final = 100
HEARTBEAT_SECONDS: Final = 10
PAUSE_SECONDS: Final = 2.0
QUIET_SECONDS: Final = 5.0
ATTENTION: Final = "com.bookticket.payment.attention.v1"
TASKS: Final = {"COMPLETED": "confirm the booking", "FAILED": "give the seats back, unless another payment is alive"}
"""What has to be done once when a payment is final. It stands for whatever your service does."""

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS events (id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS payments (
    payment_id INTEGER PRIMARY KEY, booking_id INTEGER, status TEXT, reason TEXT, sequence INTEGER
);
CREATE TABLE IF NOT EXISTS tasks (payment_id INTEGER, task TEXT, PRIMARY KEY (payment_id, task));
"""
NEWER: Final = """
INSERT INTO payments VALUES (:payment_id, :booking_id, :status, :reason, :sequence)
ON CONFLICT (payment_id) DO UPDATE SET status = excluded.status, reason = excluded.reason, sequence = excluded.sequence
WHERE excluded.sequence > payments.sequence
"""


class UnreadableError(Exception):
    """A message that is no payment event; the text says why and quotes nothing of it."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """What this subscriber needs of an event. Unknown members are ignored: later versions may add some."""

    id: str
    type: str
    payment_id: int
    booking_id: int
    status: str
    reason: str | None
    sequence: int


def parse(message: AbstractIncomingMessage, sender: str | None) -> Event:
    """The event in a message.

    Raises:
        UnreadableError: It is no event, has an unknown version, or does not come from `sender`.
    """
    if sender is not None and message.user_id != sender:
        raise UnreadableError("it is not from the payment service")
    try:
        document = json.loads(message.body)
        data = document["data"]
        event = Event(
            id=document["id"],
            type=document["type"],
            payment_id=data["paymentId"],
            booking_id=data["bookingId"],
            status=data["status"],
            reason=data["reason"],
            sequence=data["sequence"],
        )
    except (ValueError, LookupError, TypeError, RecursionError):
        raise UnreadableError("it is no payment event") from None
    numbers = (event.payment_id, event.booking_id, event.sequence)
    texts = (event.id, event.type, event.status, "" if event.reason is None else event.reason)
    if not all(type(number) is int and 0 < number < 2**63 for number in numbers):
        raise UnreadableError("an id or a sequence is not a number")
    if not all(isinstance(text, str) and text.isascii() for text in texts):
        raise UnreadableError("a member is not text")
    if not (event.type.startswith("com.bookticket.payment.") and event.type.endswith(".v1")):
        raise UnreadableError("its type or version is unknown")
    return event


class Store:
    """The state of every payment, and what has to be done about it. Ids may be deleted after some weeks."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, timeout=15)
        self._database.executescript(SCHEMA)

    def apply(self, event: Event) -> bool:
        """Write an event and its effect, all or nothing. False: the event came before."""
        with self._database as transaction:
            if not transaction.execute("INSERT OR IGNORE INTO events VALUES (?)", [event.id]).rowcount:
                return False
            # An event holds the whole state, so the highest sequence is the truth and an older one adds nothing.
            is_newer = transaction.execute(NEWER, vars(event)).rowcount
            if event.type == ATTENTION:  # It changes no status, so it counts in any order.
                self._add_task(event, f"have a person look at it: {event.reason}")
            if is_newer and event.status in TASKS:
                self._add_task(event, TASKS[event.status])
        return True

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _add_task(self, event: Event, task: str) -> None:
        self._database.execute("INSERT OR IGNORE INTO tasks VALUES (?, ?)", [event.payment_id, task])


async def declare(channel: AbstractChannel, name: str) -> AbstractQueue:
    """Our queue, bound to the events, and the one for messages that we cannot parse. Repeating it changes nothing."""
    dead_letters = f"{name}.dead-letter"
    await channel.declare_exchange(dead_letters, "fanout", durable=True)
    # When full, both drop the oldest: a queue that refuses instead would make every other subscriber wait.
    bounds: dict[str, Any] = {"x-queue-type": "quorum", "x-max-length": 1_000_000, "x-overflow": "drop-head"}
    await (await channel.declare_queue(dead_letters, durable=True, arguments=bounds)).bind(dead_letters)
    arguments = bounds | {"x-dead-letter-exchange": dead_letters, "x-delivery-limit": 20}
    queue = await channel.declare_queue(name, durable=True, arguments=arguments)
    await queue.bind(EXCHANGE, routing_key=BINDING)
    return queue


async def handle(message: AbstractIncomingMessage, store: Store, sender: str | None) -> None:
    """Apply a message and then acknowledge it; dead-letter whatever is no event of the payment service."""
    try:
        event = parse(message, sender)
    except UnreadableError as error:
        log.warning("message %.100r is dead-lettered: %s", message.message_id, error)
        await message.reject(requeue=False)
        return
    # If the process ends between these two lines, the event comes again, and `apply` recognises it.
    is_new = store.apply(event)
    await message.ack()
    log.info("payment %d %s (%d)%s", event.payment_id, event.status, event.sequence, "" if is_new else ", known")


async def subscribe(url: str, name: str, store: Store, sender: str | None = None) -> None:
    """Consume until cancelled, connecting again whenever the connection, the channel or the queue is lost.

    `sender` is the RabbitMQ user of the payment service, which RabbitMQ guarantees; None accepts every sender.
    """
    while True:
        try:
            connection = await aio_pika.connect(url, timeout=10, heartbeat=HEARTBEAT_SECONDS)
            async with connection, connection.channel() as channel:
                await channel.set_qos(prefetch_count=PREFETCH)
                queue = await declare(channel, name)
                log.info("waiting for events in %s", name)
                while True:
                    with contextlib.suppress(TimeoutError):
                        async with queue.iterator(timeout=QUIET_SECONDS) as messages:
                            async for message in messages:
                                await handle(message, store, sender)
                    # Quiet, or the queue is gone: aio-pika does not report its deletion, so declare it again.
                    queue = await declare(channel, name)
        except CONNECTION_EXCEPTIONS as error:
            log.warning("no connection to RabbitMQ: %s: %s", type(error).__name__, error)
        await asyncio.sleep(PAUSE_SECONDS)


async def main() -> None:
    """Read the command line and consume until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(description="Keeps a table of payments from their events.")
    parser.add_argument("--queue", default="my-service.payment-events", help="a name of your own")
    parser.add_argument("--store", type=Path, default=Path("payments.sqlite"))
    parser.add_argument("--sender", help="the payment service's RabbitMQ user; events of others are dead-lettered")
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for library in ("aio_pika", "aiormq"):  # `subscribe` logs lost connections itself
        logging.getLogger(library).setLevel(logging.CRITICAL)
    store = Store(chosen.store)
    task = asyncio.create_task(subscribe(os.environ["AMQP_URL"], chosen.queue, store, chosen.sender))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task
    store.close()


if __name__ == "__main__":
    asyncio.run(main())
