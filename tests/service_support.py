"""What tests of the service are made of: a clock that moves, records with sensible members, bad servers."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from hypothesis import HealthCheck, settings
from sqlalchemy import event

from contracts.commands import CreateCheckout
from service.adapters.store import Database
from service.application.policy import Policy
from service.application.ports import CommandContext, KeyScope, RequestKey
from service.domain.money import Money
from service.domain.payment import Draft, Payment, PaymentStatus

NOW = datetime(2026, 3, 2, 12, 0, 0, tzinfo=UTC)
SHOP = "https://shop.example"

QUICK = settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
"""Hypothesis, the same in every run."""


class MovableClock:
    """Stands still until it is moved."""

    def __init__(self, now: datetime = NOW) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> datetime:
        self._now += timedelta(seconds=seconds)
        return self._now


class Seconds:
    """A monotonic clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def policy(**changes: Any) -> Policy:
    members: dict[str, Any] = {
        "currency": "inr",
        "success_url": f"{SHOP}/done",
        "cancel_url": f"{SHOP}/back",
        "origins": frozenset({f"{SHOP}:443"}),
        "window_seconds": 900,
        "freshness_seconds": 1.0,
        "gateway_timeout_seconds": 2.0,
        "feed_interval_seconds": 2.0,
    }
    return Policy(**members | changes)


def context(**changes: Any) -> CommandContext:
    """Of a command that nobody sent before."""
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
    """PENDING with an open session, unless told otherwise."""
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
    """HTTP that answers what it is told to, one answer per request, the last one for ever; keeps what was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self._answers: deque[bytes] = deque()

    def will(self, status: int, body: bytes, **headers: str) -> None:
        named = {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
        lines = [f"HTTP/1.1 {status} X", *(f"{name.replace('_', '-')}: {value}" for name, value in named.items())]
        self._answers.append("\r\n".join([*lines, "", ""]).encode() + body)

    def will_only(self, status: int, body: bytes, **headers: str) -> None:
        self._answers.clear()
        self.will(status, body, **headers)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
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
        writer.close()


@asynccontextmanager
async def scripted_server() -> AsyncIterator[ScriptedServer]:
    script = ScriptedServer()
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    script.url = f"http://{host}:{port}"
    async with server:
        yield script


@asynccontextmanager
async def statements_of(database: Database) -> AsyncIterator[list[tuple[str, tuple[Any, ...]]]]:
    """What the driver sends meanwhile, with its arguments; not what it asks itself about types, once a connection."""
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
        await asyncio.sleep(0)  # the driver tells in the next turn of the loop
    finally:
        event.remove(engine, "checkout", taken)
