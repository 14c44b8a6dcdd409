"""The relay by itself, any number of times, between the rig's outbox and broker; and rows for it to publish."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg

from service.adapters.store import Database, PostgresOutbox, Wakeups
from service.bootstrap import SystemClock
from service.entrypoints.broker import Publisher, rabbit_broker
from service.entrypoints.relay import Relay
from tests.integration.service.messages.rig import Message, Rig

PAYMENT = """
    INSERT INTO payments (reference, booking_id, user_id, amount_minor, currency, success_url, cancel_url, livemode,
                          gateway_request, status, version, created_at, updated_at, expires_at)
    VALUES ($1, (random() * 1e15)::bigint + 1, 1, 1, 'inr', 's', 'c', false, '{}', 'PENDING', 0, now(), now(), now())
    RETURNING id
"""
EVENT = """
    INSERT INTO outbox (event_id, payment_id, sequence, routing_key, headers, body, created_at)
    VALUES ($1, $2, $3, $4, '{"x-request-id": "r-1"}', $5, now()) RETURNING id
"""


class MovableClock(SystemClock):
    """The machine's clock, moved."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> Any:
        return super().now() + self.ahead


@dataclass(kw_only=True)
class Parts:
    relay: Relay
    alarm: Wakeups
    clock: MovableClock
    publisher: Publisher


@asynccontextmanager
async def a_relay(rig: Rig, *, publisher: type[Publisher] = Publisher, amqp_url: str = "") -> AsyncIterator[Parts]:
    database = Database(rig.settings.database_url.get_secret_value())
    broker = rabbit_broker(amqp_url or rig.settings.amqp_url.get_secret_value())
    await broker.connect()
    alarm, clock = Wakeups(rig.settings.database_url.get_secret_value()), MovableClock()
    publishing = publisher(broker)
    relay = Relay(outbox=PostgresOutbox(database), publisher=publishing, clock=clock, alarm=alarm)
    try:
        yield Parts(relay=relay, alarm=alarm, clock=clock, publisher=publishing)
    finally:
        await broker.stop()
        await database.close()


@asynccontextmanager
async def at_work(parts: Parts) -> AsyncIterator[None]:
    task = asyncio.create_task(parts.relay.run())
    try:
        yield
    finally:
        parts.relay.stop()
        await task


async def a_payment(rig: Rig) -> int:
    [row] = await rig.sql(PAYMENT, str(uuid4()))
    payment_id: int = row["id"]
    return payment_id


async def written(
    rig: Rig | asyncpg.Connection, payment_id: int, sequence: int, key: str = "payment.pending", body: bytes = b""
) -> bytes:
    """An event in the outbox; its bytes."""
    content = body or b'{"subject":"%d","sequence":%d}' % (payment_id, sequence)
    query = rig.sql if isinstance(rig, Rig) else rig.fetch
    await query(EVENT, str(uuid4()), payment_id, sequence, key, content)
    return content


def bodies(messages: list[Message]) -> list[bytes]:
    return [message.body for message in messages]


async def unsent(rig: Rig) -> int:
    [row] = await rig.sql("SELECT count(*) AS n FROM outbox WHERE sent_at IS NULL")
    count: int = row["n"]
    return count


async def none_unsent(rig: Rig) -> bool:
    return await unsent(rig) == 0
