"""The relay by itself, any number of times, between the rig's outbox and broker; and rows for it to publish."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg

from contracts import topology
from service.adapters.postgres import Database, PostgresListener, PostgresOutbox
from service.entrypoints.broker import connected
from service.entrypoints.publisher import Publisher
from service.workers.relay import Relay
from tests.integration.service.messages.rig import Message, Rig
from tests.kit import workers
from tests.kit.clock import SystemClock
from tests.kit.lifetimes import closing

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
    listener: PostgresListener
    clock: MovableClock


def a_listener(database_url: str) -> PostgresListener:
    return PostgresListener(database_url, on_notification={}, on_reconnect=lambda: None)


@asynccontextmanager
async def publishing(amqp_url: str) -> AsyncIterator[Publisher]:
    connection = await connected(amqp_url)
    publisher = Publisher(connection, now=SystemClock().now)
    try:
        yield publisher
    finally:
        await publisher.close()
        await connection.close()


@asynccontextmanager
async def a_relay(rig: Rig, *, amqp_url: str = "") -> AsyncIterator[Parts]:
    listener, clock = a_listener(rig.database_url), MovableClock()
    async with publishing(amqp_url or rig.amqp_url) as publisher, closing(Database(rig.database_url)) as database:
        relay = workers.a_relay(PostgresOutbox(database), publisher, clock, wakeup=listener)
        yield Parts(relay=relay, listener=listener, clock=clock)


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


@asynccontextmanager
async def full_subscriber(rig: Rig, key: str) -> AsyncIterator[str]:
    """A queue that takes one event and refuses all others; its name."""
    name = f"full-{uuid4()}"
    arguments: Any = {"x-max-length": 1, "x-overflow": "reject-publish"}
    await rig.channel.queue_declare(name, exclusive=True, arguments=arguments)
    await rig.channel.queue_bind(name, topology.EVENTS.name, key)
    try:
        yield name
    finally:
        await rig.channel.queue_delete(name)
