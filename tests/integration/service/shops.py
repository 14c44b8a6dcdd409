"""The backends of the scenarios on a real database and a sandbox: the handlers, and a running service."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType, SimpleNamespace
from typing import Any, ClassVar, Self

from sqlalchemy import text

from service.adapters.postgres import Database, PostgresStore
from service.adapters.stripe import StripeGateway
from service.domain.payment import Payment
from tests.integration.sandbox.harness import Running
from tests.integration.service.messages.rig import CREATE, STATUS, VERIFY, Message, Rig, a_create, until
from tests.kit.clock import MovableClock, Seconds
from tests.kit.service import policy
from tests.kit.shops import BOOKINGS, Answer, Replicas, of_headers
from tests.kit.world import World

_HEALTHY = {"down": False, "error_rate": 0, "rate_limits": {}, "latency_ms": 0}
_FAULTS: dict[str | None, dict[str, Any]] = {
    "down": {"down": True},
    "failing": {"error_rate": 1},
    "busy": {"rate_limits": {"default": 0}},
}
_ENDPOINTS = {"create": "open", "retrieve": "look_up", "expire": "expire"}


class AtSandbox:
    """The provider's side."""

    sandbox: Running
    booking: int
    troubles: Mapping[str, str] = MappingProxyType({"down": "GATEWAY_ERROR", "failing": "GATEWAY_ERROR"})
    latency_ms = 300

    async def pay(self, session: str) -> None:
        await self.sandbox.pay(session)

    async def pay_differently(self, session: str) -> None:
        await self.sandbox.control(f"sessions/{session}/settle", {"outcome": "paid", "amount_total": 1})

    async def begin_to_pay(self, session: str) -> None:
        await self.sandbox.control(f"sessions/{session}/settle", {"outcome": "unpaid"})

    async def let_expire(self, session: str) -> None:
        self.sandbox.sandbox.account.expire(session, {})

    async def fail(self, trouble: str | None) -> None:
        await self.sandbox.control("config", _HEALTHY | _FAULTS.get(trouble, {}))

    async def lose_answer(self) -> None:
        await self.sandbox.control("config", {"lose_responses": 1})

    @asynccontextmanager
    async def slow(self) -> AsyncIterator[float]:
        await self.sandbox.control("config", {"latency_ms": self.latency_ms})
        yield self.latency_ms / 5000
        await self.sandbox.control("config", _HEALTHY)

    async def calls(self) -> Counter[str]:
        counted = (await self.sandbox.control("stats"))["calls"]
        calls = {name: counted[f"checkout.sessions.{endpoint}"]["calls"] for endpoint, name in _ENDPOINTS.items()}
        return Counter({name: number for name, number in calls.items() if number})

    async def sessions(self) -> dict[str, str]:
        assert (await self.sandbox.control("stats"))["max_payable_per_booking"] <= 1
        ledger = await self.sandbox.control("ledger")
        return {each["id"]: each["status"] for each in ledger if each["metadata"]["bookingId"] == str(self.booking)}


class Ports(AtSandbox, Replicas):
    """The handlers on PostgreSQL and on the sandbox through Stripe's SDK."""

    replicas: ClassVar = 3
    conflicts: ClassVar = frozenset({"SERVICE_UNAVAILABLE", "IN_PROGRESS"})
    troubles = MappingProxyType({**AtSandbox.troubles, "busy": "SERVICE_UNAVAILABLE"})

    def __init__(self, *, database: Database, gateway: StripeGateway, sandbox: Running, clock: MovableClock) -> None:
        """`clock`: also the gateway's."""
        super().__init__()
        self.database, self.gateway, self.sandbox = database, gateway, sandbox
        self.store = PostgresStore(database)
        self.clock = clock
        self.worlds = self._worlds()

    def _worlds(self, **rules: Any) -> list[World]:
        parts: dict[str, Any] = {"store": self.store, "gateway": self.gateway, "clock": self.clock}
        rules = {"gateway_timeout_seconds": 5.0} | rules
        return [World(**parts, policy=policy(**rules)) for _ in range(self.replicas)]

    async def refuse(self, *, payments: bool) -> None:
        self.worlds = self._worlds(**({"success_url": "not a url that Stripe would take"} if payments else {}))

    async def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await self.sandbox.control("clock", {"advance_seconds": int(seconds)})

    async def payments(self) -> list[Payment]:
        return sorted(await self.store.payments_of_booking(self.booking), key=lambda each: each.id)

    async def events(self) -> list[str]:
        query = (
            "SELECT routing_key FROM outbox JOIN payments ON payments.id = payment_id"
            " WHERE booking_id = :booking ORDER BY outbox.id"
        )
        async with self.database.transaction() as connection:
            return [row[0] for row in await connection.execute(text(query), {"booking": self.booking})]


class Messages(AtSandbox):
    """A running service, by the messages that it answers. Many shops share one service, one after another."""

    can_control: ClassVar = False
    replicas: ClassVar = 1
    conflicts: ClassVar = frozenset[str]()
    latency_ms = 2500

    def __init__(self, rig: Rig, monotonic: Seconds) -> None:
        self.booking = next(BOOKINGS)
        self.rig, self.sandbox, self._monotonic = rig, rig.sandbox, monotonic
        self._before = Counter[str]()

    async def begin(self) -> Self:
        """From here on calls are counted."""
        self._before = await super().calls()
        return self

    async def create(
        self,
        *,
        replica: int = 0,  # noqa: ARG002 - there is one
        message_id: str | None = None,
        key: str | None = None,
        caller: str = "a",
        seconds: float | None = None,
        **members: Any,
    ) -> Answer:
        properties: dict[str, Any] = {} if message_id is None else {"message_id": message_id}
        if seconds is not None:
            properties |= {"expiration": str(int(seconds * 1000)), "timestamp": int(time.time())}
        headers = {"idempotency-key": key, "x-caller": caller} if key else {}
        command = a_create(bookingId=self.booking) | members
        return _answer(await self.rig.ask(CREATE, command, headers=headers, **properties))

    async def verify(self, session: str, *, replica: int = 0) -> Answer:  # noqa: ARG002 - there is one
        return _answer(await self.rig.ask(VERIFY, {"sessionId": session}))

    async def status(self, session: str) -> Answer:
        return _answer(await self.rig.ask(STATUS, {"transactionId": session}))

    async def drain(self) -> None:
        async def all_opened() -> bool:
            return all(payment.session_id for payment in await self.payments())

        await until(all_opened)

    async def fail(self, trouble: str | None) -> None:
        await super().fail(trouble)
        self._monotonic.now += 60  # what failed before has no part in this

    async def calls(self) -> Counter[str]:
        return await super().calls() - self._before

    async def refuse(self, *, payments: bool) -> None:
        raise NotImplementedError

    async def advance(self, seconds: float) -> None:
        raise NotImplementedError

    async def sweep(self, session: str, *, replica: int) -> None:
        raise NotImplementedError

    def set_rules(self, *, replica: int, **rules: Any) -> None:
        raise NotImplementedError

    async def payments(self) -> list[Any]:
        return [SimpleNamespace(**row) for row in await self.rig.payments_of(self.booking)]

    async def events(self) -> list[str]:
        """As they were delivered."""
        delivered: list[str] = []
        for payment in await self.rig.payments_of(self.booking):
            events = await self.rig.told(payment["id"], events=payment["version"])
            delivered += [event.routing_key for event in events]
        return delivered


def _answer(message: Message) -> Answer:
    return Answer(document=message.document, **of_headers(message.headers))
