"""Collects the facts that `invariants` checks, as plain data: from the database, Stripe's ledger and the queues."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import aio_pika
import asyncpg
import psutil
from aio_pika.abc import AbstractQueue

from contracts import envelope, topology
from contracts.commands import CommandType
from service.adapters.postgres.database import POOL_SIZE
from tools.chaos.chaos_system import WINDOW_SECONDS, System
from tools.chaos.wishes import Command, Operation
from tools.devstack import processes, rabbitmq_install


class Observed(Protocol):
    """The system whose queues are read."""

    @property
    def amqp_url(self) -> str:
        """Of an administrator, at a node that answers."""

    @property
    def services(self) -> Sequence[object]: ...


AUDIT = "chaos.audit"
SAMPLE_SECONDS = 2.0
PEEK_SECONDS = 3.0
BROKER_SECONDS = 60.0
GRACE_SECONDS = 30
"""How late the sweeper may be with a due payment."""
QUIET_SECONDS = 3.0
"""Unused connections are closed after this time."""
SERVICE_CONNECTIONS, BRIDGE_CONNECTIONS = 2, 1
"""Connections of one process to the broker: the service consumes and publishes on separate ones."""
SERVICE_CHANNELS, BRIDGE_CHANNELS = len(topology.COMMAND_QUEUES) + 1 + 3 + 1, 1
"""Channels of one process, of which some are opened only seconds after it is ready.

The service: a consumer for each command queue and the channel with which FastStream begins; one each for events,
answers and copies of commands; one for looks at the topology. The bridge: commands go and replies come by one.
"""
STRIPE_CONCURRENCY = 64


@dataclass(kw_only=True)
class Leaks:
    """Resources after the run; pairs are (measured, allowed)."""

    database_sessions: tuple[int, int] = (0, 0)
    idle_in_transaction_seconds: tuple[float, float] = (0.0, 5.0)
    consumers: dict[str, tuple[int, int]] = field(default_factory=dict)
    growth: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Connections, channels and descriptors, compared with those before the load."""


@dataclass(kw_only=True)
class Facts:
    """The state after a run. `delivered`: (event id, body) in the order of arrival; `dead`: reasons by message id.

    `delivered_before`: what was delivered before the database was last put back to an older copy; `losses`: when that
    copy was made and put back, in seconds from the start of the load. `differences`: what reconcile printed.
    """

    payments: list[dict[str, Any]] = field(default_factory=list)
    journal: list[dict[str, Any]] = field(default_factory=list)
    unsent: int = 0
    sessions: list[dict[str, Any]] = field(default_factory=list)
    most_payable: int = 1
    delivered: list[tuple[str, bytes]] = field(default_factory=list)
    delivered_before: list[tuple[str, bytes]] = field(default_factory=list)
    losses: list[tuple[float, float]] = field(default_factory=list)
    differences: list[dict[str, Any]] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    dead: dict[str, str] = field(default_factory=dict)
    delayed: set[str] = field(default_factory=set)
    leaks: Leaks = field(default_factory=Leaks)

    @property
    def all_delivered(self) -> list[tuple[str, bytes]]:
        """Also what was delivered before the database was put back."""
        return self.delivered_before + self.delivered


async def tables(database_url: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]], int]:
    """Payments, journal and the number of unsent events, as of one moment."""
    connection = await asyncpg.connect(database_url, timeout=60, command_timeout=60)
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
            journal = await connection.fetch(
                "SELECT payment_id, version, kind, status, detail FROM journal ORDER BY id"
            )
            unsent = await connection.fetchval("SELECT count(*) FROM outbox WHERE sent_at IS NULL")
    finally:
        connection.terminate()
    lines = [dict(row) | {"detail": json.loads(row["detail"])} for row in journal]
    return [dict(row) for row in payments], lines, unsent


async def differences(system: System) -> list[dict[str, Any]]:
    """What `payment-service reconcile` tells of the whole run, also of what Stripe dated while its clock was off."""
    until = datetime.now(UTC) + timedelta(hours=1)
    arguments = ("--since", "2h", "--until", until.isoformat(), "--json")
    status, output = await system.operate("reconcile", *arguments)
    printed = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    if not printed or "sessions" not in printed[-1]:
        return [{"kind": f"reconcile ended with status {status}: {output.strip()}"}]
    return [each for each in printed if "kind" in each]


class Sampler:
    """Measures the database's sessions periodically while the database is up.

    Those of the services, and not of operators' commands. A session that is gone at the next look is no leak: the
    server had not noticed yet that a service was killed.
    """

    def __init__(self, system: System) -> None:
        self._system = system
        self._last_sessions = 0
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
                sessions = row["sessions"] - self._system.operators
                self.most_sessions = max(self.most_sessions, min(sessions, self._last_sessions))
                self._last_sessions = sessions
                self.longest_idle_seconds = max(self.longest_idle_seconds, row["idle"])
                await asyncio.sleep(SAMPLE_SECONDS)
        finally:
            connection.terminate()


# --- queues -----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _channel(system: Observed) -> AsyncGenerator[Any]:
    try:
        connection = await aio_pika.connect(system.amqp_url, timeout=5)
    except StopAsyncIteration as error:  # aiormq's, of a broker that ends at the handshake: no generator may raise it
        raise ConnectionError("RabbitMQ ended at the handshake") from error
    async with connection, connection.channel() as channel:
        yield channel


async def bind_audit(system: Observed) -> None:
    """Declares a durable, replicated queue that receives every event from the beginning."""
    async with _channel(system) as channel:
        queue = await channel.declare_queue(AUDIT, durable=True, arguments={"x-queue-type": "quorum"})
        await queue.bind(topology.EVENTS.name, "payment.#")


async def drain_audit(system: Observed, delivered: list[tuple[str, bytes]]) -> None:
    """Takes all messages out of the audit queue."""
    async with _channel(system) as channel:
        queue = await channel.declare_queue(AUDIT, passive=True)
        async for message in _now_in(queue):
            delivered.append((message.message_id or "", message.body))
            await message.ack()


async def drain_audit_in_time(system: Observed, delivered: list[tuple[str, bytes]]) -> None:
    """The same as soon as the broker can be reached, which may be down."""
    deadline = time.monotonic() + BROKER_SECONDS
    while True:
        try:
            return await drain_audit(system, delivered)
        except (aio_pika.exceptions.AMQPError, OSError, TimeoutError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.5)


async def undelivered(system: Observed) -> tuple[dict[str, str], set[str]]:
    """Creates in the dead-letter queue with their reasons, and those in the delay queues; all of them stay there."""
    dead: dict[str, str] = {}
    delayed: set[str] = set()
    create = CommandType.CREATE_CHECKOUT
    async with _channel(system) as channel:  # closing it requeues the messages
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
    """The messages of a queue. Its count may lag behind, so only an empty answer ends the loop."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        message = await queue.get(fail=False, timeout=PEEK_SECONDS)
        if message is None:
            return
        yield message


async def consumers(system: Observed) -> dict[str, tuple[int, int]]:
    """Consumers of each command queue, measured and expected."""
    async with _channel(system) as channel:
        counts = {}
        for data in topology.COMMAND_QUEUES.values():
            queue = await channel.declare_queue(data.name, passive=True)
            counts[data.name] = (queue.declaration_result.consumer_count, len(system.services))
    return counts


# --- resources --------------------------------------------------------------------------------------------------------


async def size(system: System) -> dict[str, int]:
    """Connections through each link, channels, and the open descriptors of each of our processes."""
    await asyncio.sleep(QUIET_SECONDS)
    sizes = {f"connections {name}": link.connections for name, link in system.links.items()}
    for member in system.members.values():
        with suppress(psutil.Error):  # it may be restarting
            sizes[f"descriptors {member.name}"] = psutil.Process(member.pid).num_fds()
    channels = await _channels(system)
    return sizes if channels is None else sizes | {"channels": channels}


async def _channels(system: System) -> int | None:
    """The broker's channels, from `rabbitmqctl`; None where that is not installed."""
    how = rabbitmq_install.installed()
    if how is None:
        return None
    environment = psutil.Process(system.broker_pid).environ()
    options = ["-q", "list_channels", "--no-table-headers", "pid"]
    status, output = await processes.run([how.server.parent / "rabbitmqctl", *options], env=environment)
    return len(output.split()) if status == 0 else None


def allowed(system: System, before: dict[str, int]) -> dict[str, int]:
    """The limit of each size after the run. A pool that grows to its size on first use is no leak."""
    limits = {name: count + (150 if name.startswith("descriptors") else 0) for name, count in before.items()}
    services, bridges = len(system.services), len(system.bridges)
    limits["connections services-broker"] = SERVICE_CONNECTIONS * services
    limits["connections bridges-broker"] = BRIDGE_CONNECTIONS * bridges
    limits["channels"] = SERVICE_CHANNELS * services + BRIDGE_CHANNELS * bridges
    limits["connections services-database"] = before["connections services-database"] + POOL_SIZE * services
    limits["connections services-stripe"] = STRIPE_CONCURRENCY * services
    return limits


def event(body: bytes) -> tuple[int, int, dict[str, Any]]:
    """Payment id, sequence and data of an event."""
    data = json.loads(body)["data"]
    return data["paymentId"], data["sequence"], data


def took_nothing(session: dict[str, Any]) -> bool:
    """Whether it ended unpaid: lost by a restore, it is not adopted if its booking has another payment."""
    return bool(session["status"] == "expired" and session["payment_status"] == "unpaid")


def reference_of(session: dict[str, Any]) -> str:
    """The payment's reference, a UUID that the service puts into the session's metadata."""
    return str(session["metadata"].get("paymentReference", ""))


def booking_of(session: dict[str, Any]) -> int:
    """The booking of a session, 0 if it has none."""
    return int(session["metadata"].get("bookingId") or session["client_reference_id"] or 0)


def short(session_id: str) -> str:
    """The beginning of a session's id."""
    return f"{session_id[:16]}…"
