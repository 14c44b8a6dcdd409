"""The service's real parts in the test's own hands, so that they can be stopped between any two steps."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

from faststream.rabbit import RabbitBroker
from sqlalchemy.sql.base import Executable

from contracts import topology
from contracts.commands import CommandType, VerifyCheckout
from deploy.local import processes
from service.adapters.store import Database, PostgresOutbox, PostgresStore, Row
from service.adapters.stripe import StripeGateway
from service.application import handlers
from service.application.steps import Steps
from service.domain.errors import PaymentServiceError, StoreUnavailableError
from service.entrypoints.broker import Publisher, rabbit_broker
from service.entrypoints.relay import LEASE_SECONDS, Relay
from tests.chaos import facts
from tests.chaos.facts import Facts
from tests.chaos.load import Attempt, Command, Operation
from tests.integration.sandbox.harness import KEY
from tests.integration.service.messages.relays import MovableClock
from tests.integration.service.messages.rig import Rig, around, until
from tests.service_support import context, create, policy

_LAST = "payment.last"
"""The routing key of a message behind the last event: when it has arrived, all have."""


class DyingDatabase(Database):
    """Its process dies after so many round trips: what is committed by then is, and nothing else ever will be."""

    def __init__(self, url: str, *, trips: int) -> None:
        super().__init__(url)
        self._left = trips

    async def run(self, statement: Executable, parameters: Mapping[str, Any]) -> Sequence[Row]:
        if not self._left:
            raise StoreUnavailableError
        self._left -= 1
        return await super().run(statement, parameters)


class DyingOutbox(PostgresOutbox):
    """Its relay dies after the broker's confirm, before the row is marked."""

    async def mark_sent(self, ids: Sequence[int], *, at: Any) -> None:  # noqa: ARG002
        raise StoreUnavailableError


@dataclass(kw_only=True)
class Shop:
    """Callers, payers and replicas. What callers hear is kept, to be compared with what is so."""

    rig: Rig
    folder: Path
    database: Database
    gateway: StripeGateway
    broker: RabbitBroker
    clock: MovableClock = field(default_factory=MovableClock)
    mutant: str = ""
    """The broken part, for processes that a scenario starts."""
    processes: list[int] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    delivered: list[tuple[str, bytes]] | None = None
    """What a subscriber of the scenario's own has got, if it has one."""

    @property
    def database_url(self) -> str:
        return self.rig.settings.database_url.get_secret_value()

    def replica(self, *, database: Database | None = None, gateway: StripeGateway | None = None) -> Steps:
        return Steps(
            store=PostgresStore(database or self.database),
            gateway=gateway or self.gateway,
            policy=policy(freshness_seconds=0, gateway_timeout_seconds=8.0),
            clock=self.clock,
        )

    async def create(
        self, booking: int, amount: str = "449.97", *, message_id: str = "", replica: Steps | None = None
    ) -> str:
        """The session that was answered; empty if there was another answer."""
        operation = Operation(kind="create", booking=booking, began=0.0, minor=int(Decimal(amount) * 100))
        command = create(bookingId=booking, amount=amount)
        try:
            answer = await handlers.create_checkout(
                command, context=context(message_id=message_id or str(uuid4())), steps=replica or self.replica()
            )
        except PaymentServiceError as error:
            self._told(operation, 409, {"paymentStatus": error.code})
            return ""
        self._told(operation, 200, {"sessionId": answer.session_id, "amount": float(answer.amount)})
        return answer.session_id

    async def verify(self, session_id: str, *, replica: Steps | None = None) -> None:
        operation = Operation(kind="verify", booking=0, began=0.0, asked=session_id)
        command = VerifyCheckout(session_id=session_id)
        state, _ = await handlers.verify_checkout(command, context=context(), steps=replica or self.replica())
        self._told(operation, 200, {"paymentStatus": state.payment_status})

    def _told(self, operation: Operation, status: int, answer: dict[str, Any]) -> None:
        operation.attempts.append(Attempt(at=0.0, seconds=0.0, status=status))
        operation.answer = answer
        self.operations.append(operation)

    async def everybody_pays(self, booking: int) -> None:
        """On every page that takes the money; then the callers ask about all of the booking's payments."""
        for session in await self.rig.sessions_of(booking):
            if session["status"] == "open":
                await self.rig.sandbox.pay(session["id"])
        for payment in await self.rig.payments_of(booking):
            if payment["session_id"]:
                await self.verify(payment["session_id"])

    def relay(self, outbox: PostgresOutbox | None = None) -> Relay:
        outbox = outbox or PostgresOutbox(self.database)
        alarm: Any = None  # only a relay that runs by itself waits
        return Relay(outbox=outbox, publisher=Publisher(self.broker), clock=self.clock, alarm=alarm)

    async def publish(self) -> None:
        """All events that are committed, those that another relay claimed or had to put off included."""
        self.clock.ahead += timedelta(seconds=2 * LEASE_SECONDS)
        await self.relay().flush()

    async def end_processes(self) -> None:
        """With `kill -9`."""
        while self.processes:
            await processes.kill(self.processes.pop())

    async def facts(self) -> Facts:
        """What is so when everything has come to rest."""
        await self.publish()
        payments, journal, unsent = await facts.tables(self.database_url)
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
    async with around(amqp_url, database_url) as rig:
        database = Database(database_url)
        gateway = StripeGateway(api_key=KEY, api_base=rig.sandbox.url, concurrency=8)
        broker = rabbit_broker(amqp_url)
        await broker.connect()
        shop = Shop(rig=rig, folder=folder, database=database, gateway=gateway, broker=broker)
        try:
            yield shop
        finally:
            await shop.end_processes()
            await broker.stop()
            await gateway.close()
            await database.close()
