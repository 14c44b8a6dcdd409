"""The service as `payment-service run` builds it, in this process, with a real broker, database and sandbox around it.

The other end is a plain AMQP client of the test's own: what it sends and sees is what any program on the broker can.
"""

import asyncio
import itertools
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from uuid import uuid4

import aiormq
import asyncpg
import httpx
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from contracts import envelope, topology
from contracts.commands import CommandType
from service.bootstrap import Service, built
from service.entrypoints import broker as brokers
from service.settings import Settings
from tests.integration.sandbox.harness import KEY, Running, running_sandbox
from tests.integration.service.messages.raw import RawProperties
from tests.kit import canary
from tests.kit.until import PATIENCE_SECONDS, until

CREATE, VERIFY, STATUS = CommandType.CREATE_CHECKOUT, CommandType.VERIFY_CHECKOUT, CommandType.PAYMENT_STATUS
MARK = "mark"
"""A header by which a test finds its message again, whatever it did to the properties."""

PATIENT = "240000"
"""A deadline, in milliseconds, that no busy machine reaches."""

_bookings = itertools.count(os.getpid() * 1_000_000 + 1)


def a_create(**changes: Any) -> dict[str, Any]:
    """A good create, for a booking that nobody used before."""
    members = {"bookingId": next(_bookings), "userId": 42, "amount": 449.97, "successUrl": None, "cancelUrl": None}
    return members | changes


@dataclass(frozen=True, kw_only=True)
class Message:
    """What arrived at a queue."""

    body: bytes
    properties: Basic.Properties
    routing_key: str = ""

    @cached_property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def type(self) -> str | None:
        return self.properties.message_type

    @property
    def headers(self) -> dict[str, Any]:
        return dict(self.properties.headers or {})


def _message(delivered: DeliveredMessage) -> Message:
    properties: Any = delivered.header.properties
    return Message(body=bytes(delivered.body), properties=properties, routing_key=delivered.routing_key or "")


@asynccontextmanager
async def serving(settings: Settings, **parts: Any) -> AsyncIterator[Service]:
    """The service, served through its ASGI lifespan as uvicorn does it. `parts`: as `built` takes them."""
    box: list[Service] = []
    started, stop = asyncio.Event(), asyncio.Event()
    phases = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> dict[str, str]:
        phase = next(phases)
        if phase == "lifespan.shutdown":
            await stop.wait()
        return {"type": phase}

    async def send(message: Mapping[str, Any]) -> None:
        if message["type"] == "lifespan.startup.complete":
            started.set()

    async def serve() -> None:
        async with built(settings, **parts) as service:
            box.append(service)
            await service.asgi({"type": "lifespan"}, receive, send)

    task = asyncio.create_task(serve(), name="service")
    starting = asyncio.create_task(started.wait())
    await asyncio.wait({task, starting}, return_when=asyncio.FIRST_COMPLETED)
    starting.cancel()
    if not started.is_set():
        await task
        raise AssertionError("the service ended at its start")
    try:
        yield box[0]
    finally:
        stop.set()
        await task


@dataclass(kw_only=True)
class Rig:
    """Everything around the service, and the test's own client."""

    settings: Settings
    sandbox: Running
    database: asyncpg.Pool
    connection: aiormq.abc.AbstractConnection
    channel: aiormq.abc.AbstractChannel
    looking: aiormq.abc.AbstractChannel
    service: Service | None = None
    replies: list[Message] = field(default_factory=list)
    events: list[Message] = field(default_factory=list)
    _dead_letters: dict[CommandType, list[Message]] = field(default_factory=lambda: {each: [] for each in CommandType})

    @property
    def amqp_url(self) -> str:
        return self.settings.amqp_url.get_secret_value()

    @property
    def database_url(self) -> str:
        return self.settings.database_url.get_secret_value()

    # --- sending ---------------------------------------------------------------------------------------------------

    async def send(self, command: CommandType, body: Any, *, routing_key: str | None = None, **changes: Any) -> str:
        """Publish a command; its mark. Properties are those of a good one, unless changed; None leaves one out."""
        mark = str(uuid4())
        headers = changes.pop("headers", {})
        if isinstance(headers, dict):
            headers = {MARK: mark, envelope.REQUEST_ID: f"request-{mark}", **headers}
        properties: dict[str, Any] = {
            "message_id": mark,
            "correlation_id": mark,
            "content_type": "application/json",
            "type": command.value,
            "timestamp": int(time.time()),
            "headers": headers,
            "delivery_mode": 2,
        }
        confirmed = await self.channel.basic_publish(
            body if isinstance(body, bytes) else json.dumps(body).encode(),
            exchange=topology.COMMANDS.name,
            routing_key=routing_key or command.value,
            properties=RawProperties(**properties | changes),
            mandatory=True,
        )
        assert isinstance(confirmed, Basic.Ack), confirmed
        return mark

    async def ask_later(self, command: CommandType, body: Any, **changes: Any) -> str:
        """Send with a reply address; the mark that `reply_to` takes."""
        return await self.send(command, body, reply_to=envelope.DIRECT_REPLY_TO, **changes)

    async def ask(self, command: CommandType, body: Any, **changes: Any) -> Message:
        """Send with a reply address and wait for the answer."""
        mark = await self.ask_later(command, body, **changes)
        return await self.reply_to(changes.get("correlation_id", mark))

    async def served(self, command: CommandType, body: Any, **changes: Any) -> Message:
        """Ask until it is done: a machine that is too busy refuses some of many for now."""
        while (reply := await self.ask(command, body, expiration=PATIENT, **changes)).type == "fault":
            assert reply.document["code"] in {"SERVICE_UNAVAILABLE", "DEADLINE_EXCEEDED"}, reply.body
            assert reply.document["retryable"] is True
            await asyncio.sleep(0.1)
        return reply

    async def reply_to(self, correlation_id: str) -> Message:
        def found() -> Message | None:
            return next((each for each in self.replies if each.properties.correlation_id == correlation_id), None)

        reply: Message = await until(found)
        return reply

    async def created(self, **members: Any) -> dict[str, Any]:
        """The reply to a good create."""
        reply = await self.ask(CREATE, a_create(**members))
        assert reply.type == "checkout.create.reply", reply.body
        document: dict[str, Any] = reply.document
        return document

    async def verified(self, session_id: str) -> dict[str, Any]:
        reply = await self.ask(VERIFY, {"sessionId": session_id})
        assert reply.type == "checkout.verify.reply", reply.body
        document: dict[str, Any] = reply.document
        return document

    # --- looking ---------------------------------------------------------------------------------------------------

    async def dead_letters(self, command: CommandType) -> list[Message]:
        """All dead letters of the command so far, in order."""
        queue = topology.DEAD_LETTER_QUEUES[command].name
        while (message := await self.take(queue)) is not None:
            self._dead_letters[command].append(message)
        return self._dead_letters[command]

    async def parked(self, command: CommandType, mark: str) -> Message:
        """The one dead letter with this mark."""

        async def found() -> list[Message]:
            return [each for each in await self.dead_letters(command) if each.headers.get(MARK) == mark]

        [message] = await until(found)
        return message

    async def delayed(self, command: CommandType, *, delay: int) -> list[Message]:
        """What lies in one of the command's delay queues; it is taken out of there."""
        messages = []
        while (message := await self.take(topology.DELAY_QUEUES[command][delay].name)) is not None:
            messages.append(message)
        return messages

    async def retried(self, command: CommandType, mark: str, *, delay: int = 0) -> Message:
        """The message with this mark, once it lies in that delay queue, which is empty then."""

        async def found() -> list[Message]:
            return [each for each in await self.delayed(command, delay=delay) if each.headers.get(MARK) == mark]

        [message] = await until(found)
        return message

    async def ready_in(self, queue: str) -> int:
        """How many messages are ready; RabbitMQ does not count those that consumers have not acknowledged."""
        return (await self.looking.queue_declare(queue, passive=True)).message_count or 0

    async def queue_empty(self, command: CommandType, *, seconds: float = PATIENCE_SECONDS) -> None:
        async def empty() -> bool:
            return await self.ready_in(topology.COMMAND_QUEUES[command].name) == 0

        await until(empty, seconds)

    async def consumers(self, command: CommandType) -> int:
        declared = await self.looking.queue_declare(topology.COMMAND_QUEUES[command].name, passive=True)
        return declared.consumer_count or 0

    async def take(self, queue: str) -> Message | None:
        answer = await self.looking.basic_get(queue, no_ack=True)
        return None if isinstance(answer.delivery, Basic.GetEmpty) else _message(answer)

    async def leaks(self) -> list[str]:
        """Where a secret is in what this rig received and in all that is left in any queue, which is empty then."""
        said = [*self.replies, *self.events, *(each for letters in self._dead_letters.values() for each in letters)]
        looking = await self.connection.channel(publisher_confirms=False)
        for queue in topology.QUEUES:
            while not isinstance((answer := await looking.basic_get(queue.name, no_ack=True)).delivery, Basic.GetEmpty):
                said.append(_message(answer))
        return [
            leak
            for each in said
            for leak in canary.leaks(f"message {each.type}", canary.message_parts(each.body, each.properties))
        ]

    async def sql(self, query: str, *arguments: Any) -> list[Any]:
        rows: list[Any] = await self.database.fetch(query, *arguments)
        return rows

    async def until_rows(self, count: int, query: str, *arguments: Any) -> None:
        """Wait until a query has so many rows."""

        async def found() -> bool:
            return len(await self.sql(query, *arguments)) == count

        await until(found)

    async def all_sent(self) -> None:
        await self.until_rows(0, "SELECT 1 FROM outbox WHERE sent_at IS NULL")

    async def payment(self, session_id: str) -> Any:
        [row] = await self.sql("SELECT * FROM payments WHERE session_id = $1", session_id)
        return row

    async def payments_of(self, booking_id: int) -> list[Any]:
        return await self.sql("SELECT * FROM payments WHERE booking_id = $1 ORDER BY id", booking_id)

    async def an_hour_passes(self, sessions: Sequence[str]) -> None:
        """For these payments; the rig's role has to own the tables, which refuse it to everybody."""
        async with self.database.acquire() as connection, connection.transaction():
            await connection.execute("ALTER TABLE payments DISABLE TRIGGER USER")
            await connection.execute(
                "UPDATE payments SET created_at = created_at - interval '1 hour',"
                " pay_until = pay_until - interval '1 hour' WHERE session_id = ANY($1)",
                sessions,
            )
            await connection.execute("ALTER TABLE payments ENABLE TRIGGER USER")

    async def read_no_events(self) -> None:
        """From now on some other replica leads the feed, and reads nothing: what is paid waits for whoever verifies."""
        await self.sql(
            "INSERT INTO feed (id, leader, leader_until) VALUES (1, 'a test', now() + interval '1 day')"
            " ON CONFLICT (id) DO UPDATE SET leader = excluded.leader, leader_until = excluded.leader_until"
        )

    async def read_events(self) -> None:
        """Whoever runs reads Stripe's events again."""
        await self.sql("UPDATE feed SET leader_until = NULL")

    def events_of(self, payment_id: int) -> list[Message]:
        """Every event of a payment that was delivered, in order of arrival."""
        return [each for each in self.events if each.document["subject"] == str(payment_id)]

    async def told(self, payment_id: int, *, events: int) -> list[Message]:
        """The payment's events as soon as there are so many."""
        await until(lambda: len(self.events_of(payment_id)) >= events)
        return self.events_of(payment_id)

    async def stripe_counts(self) -> list[dict[str, int]]:
        """What Stripe counted of each endpoint that commands and the sweeper call."""
        stats = await self.sandbox.control("stats")
        others = {"events.list", "account.retrieve"}
        return [counts for endpoint, counts in stats["calls"].items() if endpoint not in others]

    async def stripe_calls(self) -> int:
        return sum(each["calls"] for each in await self.stripe_counts())

    @asynccontextmanager
    async def stripe_with(self, **trouble: Any) -> AsyncIterator[None]:
        """The sandbox is slow, fails or is down for so long."""
        await self.sandbox.control("config", trouble)
        try:
            yield
        finally:
            await self.sandbox.control("config", {name: type(value)(0) for name, value in trouble.items()})

    async def sessions_of(self, booking_id: int) -> list[Any]:
        ledger = await self.sandbox.control("ledger")
        return [each for each in ledger if each["metadata"].get("bookingId") == str(booking_id)]

    @contextmanager
    def replies_since(self) -> Iterator[Callable[[], list[Message]]]:
        """The replies that arrive from here on."""
        before = len(self.replies)
        yield lambda: self.replies[before:]

    @asynccontextmanager
    async def nothing_done(self) -> AsyncIterator[None]:
        """What happens meanwhile must not reach Stripe, the database or the subscribers."""
        before = await self._done()
        yield
        assert await self._done() == before

    async def _done(self) -> tuple[int, ...]:
        [row] = await self.sql(
            "SELECT (SELECT count(*) FROM payments) AS payments, (SELECT count(*) FROM request_keys) AS keys,"
            " (SELECT count(*) FROM journal) AS journal, (SELECT count(*) FROM outbox) AS outbox"
        )
        return (*row, await self.stripe_calls())

    async def is_ready(self) -> bool:
        return (await self.ready()).is_success

    async def ready(self) -> httpx.Response:
        assert self.service is not None
        transport: Any = httpx.ASGITransport(self.service.asgi)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await client.get("/actuator/health/readiness")


def settings_of(amqp_url: str, database_url: str, sandbox_url: str, **changes: Any) -> Settings:
    members: dict[str, Any] = {
        "amqp_url": amqp_url,
        "database_url": database_url,
        "stripe_api_key": KEY,
        "stripe_api_base": sandbox_url,
        "stripe_requests_per_second": 0,
        "verify_freshness_seconds": 0,
        "payment_success_url": "https://shop.example/done?session={CHECKOUT_SESSION_ID}",
        "payment_cancel_url": "https://shop.example/back",
        "payment_url_origins": None,
        "log_format": "json",
        "log_level": "info",
    }
    return Settings(**members | changes)


@asynccontextmanager
async def around(
    amqp_url: str, database_url: str, *, service_url: str | None = None, **changes: Any
) -> AsyncIterator[Rig]:
    """The rig without the service. `service_url`: the broker by the service's user, who may do less."""
    async with running_sandbox() as sandbox, asyncpg.create_pool(database_url, min_size=1, max_size=3) as database:
        await brokers.declare(amqp_url)
        connection = await aiormq.connect(amqp_url)
        channel = await connection.channel(publisher_confirms=True)
        await _purge(channel)
        settings = settings_of(service_url or amqp_url, database_url, sandbox.url, **changes)
        rig = Rig(
            settings=settings,
            sandbox=sandbox,
            database=database,
            connection=connection,
            channel=channel,
            looking=await connection.channel(publisher_confirms=False),
        )

        async def reply(delivered: DeliveredMessage) -> None:
            rig.replies.append(_message(delivered))

        async def event(delivered: DeliveredMessage) -> None:
            rig.events.append(_message(delivered))

        await channel.basic_consume(envelope.DIRECT_REPLY_TO, reply, no_ack=True)
        audit = await channel.queue_declare(f"audit-{uuid4()}", exclusive=True)
        await channel.queue_bind(audit.queue or "", topology.EVENTS.name, "#")
        await channel.basic_consume(audit.queue or "", event, no_ack=True)
        try:
            yield rig
            assert not await rig.leaks()
        finally:
            await _purge(channel)
            await connection.close()


async def _purge(channel: aiormq.abc.AbstractChannel) -> None:
    for queue in topology.QUEUES:
        await channel.queue_purge(queue.name)


@asynccontextmanager
async def running(amqp_url: str, database_url: str, **changes: Any) -> AsyncIterator[Rig]:
    """The rig with the service."""
    async with around(amqp_url, database_url, **changes) as rig, serving(rig.settings) as service:
        rig.service = service
        yield rig
