"""Records of the service with sensible members, a scripted HTTP server, and the statements of a database."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any
from uuid import uuid4

from hypothesis import HealthCheck, settings
from sqlalchemy import event

from contracts.commands import CreateCheckout
from service.adapters.postgres import Database
from service.application.policy import Policy
from service.application.ports import CommandContext, KeyScope, RequestKey
from service.domain.money import Money
from service.domain.payment import Draft, Payment, PaymentStatus
from tests.kit.clock import NOW

SHOP = "https://shop.example"

QUICK = settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
"""Settings of hypothesis that draw the same in every run."""


def policy(**changes: Any) -> Policy:
    members: dict[str, Any] = {
        "currency": "inr",
        "success_url": f"{SHOP}/done",
        "cancel_url": f"{SHOP}/back",
        "origins": frozenset({f"{SHOP}:443"}),
        "window_seconds": 900,
        "reuse_seconds": 60,
        "freshness_seconds": 1.0,
        "gateway_timeout_seconds": 2.0,
        "feed_interval_seconds": 2.0,
    }
    return Policy(**members | changes)


def context(**changes: Any) -> CommandContext:
    """The context of a new command."""
    return CommandContext(**{"message_id": str(uuid4()), "request_id": "request-1"} | changes)


def create(**changes: Any) -> CreateCheckout:
    members = {"bookingId": 7, "userId": 5, "amount": "449.97"}
    return CreateCheckout.model_validate(members | changes)


def a_draft(**changes: Any) -> Draft:
    at = changes.pop("created_at", NOW)
    members: dict[str, Any] = {
        "reference": str(uuid4()),
        "booking_id": 7,
        "user_id": 5,
        "money": Money(44997, "inr"),
        "success_url": f"{SHOP}/done",
        "cancel_url": f"{SHOP}/back",
        "livemode": False,
        "created_at": at,
        "expires_at": at + timedelta(minutes=35),
        "gateway_request": {"mode": "payment", "nested": {"texts": ["ü", "{CHECKOUT_SESSION_ID}"]}},
    }
    return Draft(**members | changes)


def a_payment(**changes: Any) -> Payment:
    """PENDING with an open session, unless changed."""
    draft = a_draft(**{name: changes.pop(name) for name in list(changes) if name in Draft.__dataclass_fields__})
    members: dict[str, Any] = {
        "id": 1,
        "status": PaymentStatus.PENDING,
        "version": 1,
        "updated_at": draft.created_at,
        "session_id": "cs_test_a1",
        "payment_url": "https://pay.example/cs_test_a1#fragment",
    }
    inherited = {name: getattr(draft, name) for name in Draft.__dataclass_fields__}
    return Payment(**inherited | members | changes)


def message_key(key: str | None = None, fingerprint: str = "f1") -> RequestKey:
    return RequestKey(scope=KeyScope.MESSAGE, caller="", key=key or str(uuid4()), fingerprint=fingerprint)


def idempotency_key(key: str, fingerprint: str = "f1", caller: str = "booking-service") -> RequestKey:
    return RequestKey(scope=KeyScope.IDEMPOTENCY, caller=caller, key=key, fingerprint=fingerprint)


class ScriptedServer:
    """An HTTP server with one answer for each request, the last one for ever; it keeps the requests."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self._answers: deque[bytes] = deque()
        self._connections: set[asyncio.Task[Any]] = set()

    def will(self, status: int, body: bytes, **headers: str) -> None:
        named = {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
        lines = [f"HTTP/1.1 {status} X", *(f"{name.replace('_', '-')}: {value}" for name, value in named.items())]
        self._answers.append("\r\n".join([*lines, "", ""]).encode() + body)

    def will_only(self, status: int, body: bytes, **headers: str) -> None:
        self._answers.clear()
        self.will(status, body, **headers)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        self._connections.add(connection)
        try:
            await self._serve(reader, writer)
        finally:
            self._connections.discard(connection)
            writer.close()

    async def close(self) -> None:
        """End the connections that callers have left open."""
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *lines = head.strip().split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                await reader.readexactly(int(headers.get("content-length", "0")))
                method, path, _ = first.split(" ")
                self.requests.append((method, path, headers))
                writer.write(self._answers.popleft() if len(self._answers) > 1 else self._answers[0])
                await writer.drain()


@asynccontextmanager
async def scripted_server() -> AsyncIterator[ScriptedServer]:
    script = ScriptedServer()
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    script.url = f"http://{host}:{port}"
    async with server:
        yield script
        await script.close()


@asynccontextmanager
async def statements_of(database: Database) -> AsyncIterator[list[tuple[str, tuple[Any, ...]]]]:
    """The driver's statements with their arguments, without its own about types, once for each connection."""
    seen: list[tuple[str, tuple[Any, ...]]] = []

    def note(record: Any) -> None:
        if "'jit'" in record.query or "typeinfo" in record.query:
            return
        seen.append((record.query, record.args))

    def taken(_connection: Any, _record: Any, fairy: Any) -> None:
        fairy.driver_connection.add_query_logger(note)  # a set: once is enough

    engine = database.engine.sync_engine
    event.listen(engine, "checkout", taken)
    try:
        yield seen
        await asyncio.sleep(0)  # the driver logs in the next pass of the loop
    finally:
        event.remove(engine, "checkout", taken)
