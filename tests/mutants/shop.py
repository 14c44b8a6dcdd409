"""The service's real parts in the test's hands, to be stopped between any two steps."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy.sql.base import Executable

from contracts import topology
from contracts.commands import CommandType
from service.adapters.postgres import Database, PostgresOutbox, PostgresStore, Row
from service.adapters.stripe import StripeGateway
from service.application.closing import CloseRefusedError, Closing
from service.application.differences import described
from service.domain.errors import PaymentServiceError, StoreUnavailableError
from service.entrypoints.publisher import Publisher
from service.workers.relay import LEASE_SECONDS, Relay
from tests.integration.sandbox.harness import KEY
from tests.integration.service.crash.programs import Programs, starting
from tests.integration.service.messages.rig import Rig, around, until
from tests.integration.service.relay.relays import MovableClock, publishing
from tests.kit.lifetimes import closing
from tests.kit.service import context, create, policy
from tests.kit.workers import a_relay
from tests.kit.world import World, a_stripe_gateway
from tools.chaos import facts
from tools.chaos.facts import Facts
from tools.chaos.wishes import Attempt, Command, Operation

_EMPTY = """
    ALTER TABLE journal DISABLE TRIGGER journal_append_only;
    ALTER TABLE operator_acts DISABLE TRIGGER operator_acts_keep_rows;
    TRUNCATE payments, request_keys, journal, outbox, operator_acts;
    ALTER TABLE operator_acts ENABLE TRIGGER operator_acts_keep_rows;
    ALTER TABLE journal ENABLE TRIGGER journal_append_only;
"""
_LAST = "payment.last"
"""The routing key of a message behind the last event: when it has arrived, all have."""


class DyingDatabase(Database):
    """Its process dies after so many round trips: only what is committed by then stays."""

    def __init__(self, url: str, *, trips: int) -> None:
        super().__init__(url)
        self._left = trips

    async def run(self, statement: Executable, parameters: Mapping[str, Any], **options: int) -> Sequence[Row]:
        if not self._left:
            raise StoreUnavailableError
        self._left -= 1
        return await super().run(statement, parameters, **options)


class DyingOutbox(PostgresOutbox):
    """Its relay dies after the broker's confirm, before the row is marked."""

    async def mark_sent(self, ids: Sequence[int], *, at: Any) -> None:  # noqa: ARG002
        raise StoreUnavailableError


@dataclass(kw_only=True)
class Shop:
    """Callers, payers and replicas. The answers are kept, to be compared with the facts."""

    rig: Rig
    programs: Programs
    database: Database
    gateway: StripeGateway
    publisher: Publisher
    clock: MovableClock = field(default_factory=MovableClock)
    operations: list[Operation] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    delivered: list[tuple[str, bytes]] | None = None
    """What the scenario's own subscriber received, if it has one."""
    delivered_before: list[tuple[str, bytes]] = field(default_factory=list)
    losses: list[tuple[float, float]] = field(default_factory=list)

    def replica(self, *, database: Database | None = None, gateway: StripeGateway | None = None) -> World:
        return World(
            store=PostgresStore(database or self.database),
            gateway=gateway or self.gateway,
            policy=policy(freshness_seconds=0, gateway_timeout_seconds=8.0),
            clock=self.clock,
        )

    async def create(
        self, booking: int, amount: str = "449.97", *, message_id: str = "", replica: World | None = None
    ) -> str:
        """The session of the answer; empty for another answer."""
        operation = Operation(kind="create", booking=booking, began=0.0, minor=int(Decimal(amount) * 100))
        command = create(bookingId=booking, amount=amount)
        try:
            answer = await (replica or self.replica()).create(command, context(message_id=message_id or str(uuid4())))
        except PaymentServiceError as error:
            self._answered(operation, 409, {"paymentStatus": error.code})
            return ""
        self._answered(operation, 200, {"sessionId": answer.session_id, "amount": float(answer.amount)})
        return answer.session_id

    async def verify(self, session_id: str, *, replica: World | None = None) -> None:
        operation = Operation(kind="verify", booking=0, began=0.0, asked=session_id)
        state, _ = await (replica or self.replica()).verify(session_id)
        self._answered(operation, 200, {"paymentStatus": state.payment_status, "message": state.message})

    async def close(self, session_id: str) -> None:
        """What an operator does once the money was dealt with; not done where nobody was called."""
        world = self.replica()
        closing = Closing(**world.parts("store", "gateway", "outcomes", "clock"), timeout_seconds=8.0)
        payment = await world.store.payment_of_session(session_id)
        with suppress(CloseRefusedError):
            await closing.close(payment, by="an operator", why="dealt with", context=context())

    async def after_paid(self, session_id: str, what: str, details: dict[str, Any]) -> None:
        """Something happens to a paid session at Stripe, and the feed's leader reads of it."""
        await self.rig.sandbox.control(f"sessions/{session_id}/{what}", details)
        operation = Operation(kind=what, booking=0, began=0.0, asked=session_id)
        self._answered(operation, 200, {})
        await self.replica().after_paid.read(None, now=self.clock.now() + timedelta(seconds=60))

    async def put_back(self) -> None:
        """An empty copy of the database takes over, and reconcile mends what is lost with the rest."""
        await self.publish()
        self.delivered_before = await self._all_delivered()
        self.rig.events.clear()
        async with self.rig.database.acquire() as connection:
            await connection.execute(_EMPTY)
        self.losses = [(-1.0, 1.0)]
        await self._differences(fix=True)

    async def _differences(self, *, fix: bool) -> list[dict[str, Any]]:
        now, hour = datetime.now(UTC), timedelta(hours=1)
        stretches = self.replica().reconciliation.run(since=now - 2 * hour, until=now + hour, fix=fix)
        return [described(each) async for stretch in stretches for each in stretch.differences]

    def _answered(self, operation: Operation, status: int, answer: dict[str, Any]) -> None:
        operation.attempts.append(Attempt(at=0.0, seconds=0.0, status=status))
        operation.answer = answer
        self.operations.append(operation)

    async def everybody_pays(self, booking: int) -> None:
        """Pay on every open page; then the callers verify all of the booking's payments."""
        for session in await self.rig.sessions_of(booking):
            if session["status"] == "open":
                await self.rig.sandbox.pay(session["id"])
        for payment in await self.rig.payments_of(booking):
            if payment["session_id"]:
                await self.verify(payment["session_id"])

    def relay(self, outbox: PostgresOutbox | None = None) -> Relay:
        return a_relay(outbox or PostgresOutbox(self.database), self.publisher, self.clock)

    async def publish(self) -> None:
        """Publish every committed event, also those that another relay claimed or put off."""
        self.clock.ahead += timedelta(seconds=2 * LEASE_SECONDS)
        await self.relay().flush()

    async def facts(self) -> Facts:
        """The facts, once everything has come to rest."""
        await self.publish()
        payments, journal, unsent = await facts.tables(self.rig.database_url)
        stats = await self.rig.sandbox.control("stats")
        dead = {
            each.properties.message_id: each.headers
            for each in await self.rig.dead_letters(CommandType.CREATE_CHECKOUT)
        }
        return Facts(
            payments=payments,
            journal=journal,
            unsent=unsent,
            sessions=await self.rig.sandbox.control("ledger"),
            most_payable=stats["max_payable_per_booking"],
            delivered=self.delivered if self.delivered is not None else await self._all_delivered(),
            delivered_before=self.delivered_before,
            losses=self.losses,
            differences=await self._differences(fix=False),
            operations=self.operations,
            commands=self.commands,
            dead={str(message_id): str(headers.get("x-reason", "")) for message_id, headers in dead.items()},
        )

    async def _all_delivered(self) -> list[tuple[str, bytes]]:
        await self.rig.channel.basic_publish(b"", exchange=topology.EVENTS.name, routing_key=_LAST)
        await until(lambda: any(each.routing_key == _LAST for each in self.rig.events))
        events = [each for each in self.rig.events if each.routing_key != _LAST]
        return [(each.properties.message_id or "", each.body) for each in events]


@asynccontextmanager
async def open_shop(amqp_url: str, database_url: str, folder: Path) -> AsyncIterator[Shop]:
    async with (
        around(amqp_url, database_url) as rig,
        closing(Database(database_url)) as database,
        closing(a_stripe_gateway(rig.sandbox.url, api_key=KEY)) as gateway,
        publishing(amqp_url) as publisher,
        starting(rig, logs=folder, command=("tests.mutants", "")) as programs,
    ):
        yield Shop(rig=rig, programs=programs, database=database, gateway=gateway, publisher=publisher)
