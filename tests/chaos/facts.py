"""Gathering what is so: from the database, from Stripe's ledger, from the queues. Plain data for `invariants`."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aio_pika
import asyncpg
import psutil
from aio_pika.abc import AbstractQueue

from contracts import envelope, topology
from contracts.commands import CommandType
from deploy.local import processes, rabbitmq_install
from service.adapters.store.database import POOL_SIZE
from tests.chaos.load import Command, Operation
from tests.chaos.system import WINDOW_SECONDS, System

AUDIT = "chaos.audit"
SAMPLE_SECONDS = 2.0
PEEK_SECONDS = 3.0
GRACE_SECONDS = 30
"""How late the settler may be with a payment that is due."""
QUIET_SECONDS = 3.0
"""Connections that nobody needs any more are gone after this."""
SERVICE_CONNECTIONS, BRIDGE_CONNECTIONS = 2, 1
"""To the broker, of one process each: the service consumes and publishes on separate ones."""
STRIPE_CONCURRENCY = 64


@dataclass(kw_only=True)
class Leaks:
    """Pairs are (measured, allowed)."""

    database_sessions: tuple[int, int] = (0, 0)
    idle_in_transaction_seconds: tuple[float, float] = (0.0, 5.0)
    consumers: dict[str, tuple[int, int]] = field(default_factory=dict)
    growth: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Connections, channels and descriptors after everything is healed, and what was there before the load."""


@dataclass(kw_only=True)
class Facts:
    """`delivered`: (event id, body) in the order of arrival; `dead`: reasons by message id."""

    payments: list[dict[str, Any]] = field(default_factory=list)
    journal: list[dict[str, Any]] = field(default_factory=list)
    unsent: int = 0
    sessions: list[dict[str, Any]] = field(default_factory=list)
    most_payable: int = 1
    delivered: list[tuple[str, bytes]] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    dead: dict[str, str] = field(default_factory=dict)
    delayed: set[str] = field(default_factory=set)
    leaks: Leaks = field(default_factory=Leaks)


async def tables(database_url: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]], int]:
    """Payments, journal and the number of unsent events, as of one moment."""
    connection = await asyncpg.connect(database_url, timeout=5, command_timeout=30)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            payments = await connection.fetch(
                "SELECT id, booking_id, reference, amount_minor, currency, status, reason, attention, session_id,"
                " version, created_at::text, status = 'PENDING'"
                "  AND created_at < now() - make_interval(secs => CASE WHEN session_id IS NULL THEN 0 ELSE $1 END + $2)"
                "  AND coalesce(settle_after, created_at) < now() - make_interval(secs => $2) AS neglected"
                " FROM payments ORDER BY id",
                float(WINDOW_SECONDS),
                float(GRACE_SECONDS),
            )
            journal = await connection.fetch("SELECT payment_id, version, kind, status FROM journal ORDER BY id")
            unsent = await connection.fetchval("SELECT count(*) FROM outbox WHERE sent_at IS NULL")
    finally:
        connection.terminate()
    return [dict(row) for row in payments], [dict(row) for row in journal], unsent


class Sampler:
    """Looks at the database's sessions every now and then, as long as it is up."""

    def __init__(self, system: System) -> None:
        self._system = system
        self.most_sessions = 0
        self.longest_idle_seconds = 0.0

    async def run(self) -> None:
        while True:
            with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await self._look()
            await asyncio.sleep(SAMPLE_SECONDS)

    async def _look(self) -> None:
        connection = await asyncpg.connect(self._system.database_url, timeout=3, command_timeout=3)
        try:
            while True:
                row = await connection.fetchrow(
                    "SELECT count(*) FILTER (WHERE application_name = 'payment-service') AS sessions,"
                    " coalesce(extract(epoch FROM max(now() - state_change)"
                    " FILTER (WHERE state LIKE 'idle in transaction%')), 0)::float AS idle"
                    " FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
                self.most_sessions = max(self.most_sessions, row["sessions"])
                self.longest_idle_seconds = max(self.longest_idle_seconds, row["idle"])
                await asyncio.sleep(SAMPLE_SECONDS)
        finally:
            connection.terminate()


# --- queues -----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _channel(system: System) -> AsyncGenerator[Any]:
    async with await aio_pika.connect(system.amqp_url, timeout=5) as connection, connection.channel() as channel:
        yield channel


async def bind_audit(system: System) -> None:
    """A subscriber's queue for every event, from the beginning: durable and replicated, as a careful one would be."""
    async with _channel(system) as channel:
        queue = await channel.declare_queue(AUDIT, durable=True, arguments={"x-queue-type": "quorum"})
        await queue.bind(topology.EVENTS.name, "payment.#")


async def drain_audit(system: System, delivered: list[tuple[str, bytes]]) -> None:
    """Take what lies in the audit queue now."""
    async with _channel(system) as channel:
        queue = await channel.declare_queue(AUDIT, passive=True)
        async for message in _now_in(queue):
            delivered.append((message.message_id or "", message.body))
            await message.ack()


async def parked(system: System) -> tuple[dict[str, str], set[str]]:
    """Creates in the dead-letter queue with their reasons, and those in the delay queues; all are left there."""
    dead: dict[str, str] = {}
    delayed: set[str] = set()
    create = CommandType.CREATE_CHECKOUT
    async with _channel(system) as channel:  # closing it returns what was taken
        queue = await channel.declare_queue(topology.DEAD_LETTER_QUEUES[create].name, passive=True)
        async for message in _now_in(queue):
            dead[message.message_id or ""] = _reason(message.headers)
        for delay in topology.DELAY_QUEUES[create]:
            queue = await channel.declare_queue(delay.name, passive=True)
            async for message in _now_in(queue):
                delayed.add(message.message_id or "")
    return dead, delayed


def _reason(headers: dict[str, Any]) -> str:
    if headers.get(envelope.REASON):
        return f"{headers[envelope.REASON]} {headers.get(envelope.FAULT_CODE, '')}".strip()
    deaths = headers.get("x-death") or []
    return str(deaths[0].get("reason", "")) if deaths else ""


async def _now_in(queue: AbstractQueue) -> AsyncGenerator[Any]:
    """What the queue holds at this moment. The count may lag behind, so an empty answer decides."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        message = await queue.get(fail=False, timeout=PEEK_SECONDS)
        if message is None:
            return
        yield message


async def consumers(system: System) -> dict[str, tuple[int, int]]:
    """Consumers of each command queue, and how many there should be."""
    async with _channel(system) as channel:
        counts = {}
        for data in topology.COMMAND_QUEUES.values():
            queue = await channel.declare_queue(data.name, passive=True)
            counts[data.name] = (queue.declaration_result.consumer_count, len(system.services))
    return counts


# --- what must not grow -----------------------------------------------------------------------------------------------


async def size(system: System) -> dict[str, int]:
    """Connections through each link, channels, and the open descriptors of each of our processes."""
    await asyncio.sleep(QUIET_SECONDS)
    sizes = {f"connections {name}": link.connections for name, link in system.links.items()}
    for member in system.members.values():
        with suppress(psutil.Error):  # it may be down at the moment
            sizes[f"descriptors {member.name}"] = psutil.Process(member.pid).num_fds()
    channels = await _channels(system)
    return sizes if channels is None else sizes | {"channels": channels}


async def _channels(system: System) -> int | None:
    """As `rabbitmqctl` counts them; None if there is none beside the server."""
    how = rabbitmq_install.installed()
    if how is None:
        return None
    environment = psutil.Process(system.broker_pid).environ()
    command = [how.server.parent / "rabbitmqctl", "-q", "list_channels", "--no-table-headers", "pid"]
    status, said = await processes.run(command, env=environment)
    return len(said.split()) if status == 0 else None


def allowed(system: System, before: dict[str, int]) -> dict[str, int]:
    """How much each may be afterwards. A pool grows to its size when it is first used and keeps it: no leak."""
    limits = {name: count + (150 if name.startswith("descriptors") else 0) for name, count in before.items()}
    services, bridges = len(system.services), len(system.bridges)
    limits["connections services-broker"] = SERVICE_CONNECTIONS * services
    limits["connections bridges-broker"] = BRIDGE_CONNECTIONS * bridges
    limits["connections services-database"] = before["connections services-database"] + POOL_SIZE * services
    limits["connections services-stripe"] = STRIPE_CONCURRENCY * services
    return limits


def event(body: bytes) -> tuple[int, int, dict[str, Any]]:
    """Payment id, sequence and data of an event."""
    data = json.loads(body)["data"]
    return data["paymentId"], data["sequence"], data
