"""Verifies, settlers, payers and new creates race for the same payments on two replicas and a real database."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text

from contracts.commands import VerifyCheckout
from service.adapters.store import Database, PostgresStore
from service.application import handlers
from service.application.budget import Priority, Turn
from service.application.ports import CommandContext
from service.application.steps import Steps
from service.domain.errors import ConcurrentChangeError, PaymentServiceError
from service.domain.outcomes import Expired, Open, Outcome, Paid
from service.domain.payment import Payment, PaymentStatus
from service.domain.status import Change
from service.entrypoints.settler import Settler
from tests.conftest import Migrated
from tests.fakes import FakeGateway
from tests.service_support import MovableClock, context, create, policy

RACES = 200
AT_ONCE = 25


class FarGateway(FakeGateway):
    """Far away: an answer says how the session stood some moments ago."""

    def __init__(self) -> None:
        super().__init__()
        self._random = random.Random(59)  # noqa: S311 - not a secret

    async def look_up(
        self,
        payment: Payment,
        *,
        timeout_seconds: float,
        priority: Priority = Priority.WAITED,
        turn: Turn | None = None,
    ) -> Outcome:
        return await self._late(
            await super().look_up(payment, timeout_seconds=timeout_seconds, priority=priority, turn=turn)
        )

    async def expire(self, payment: Payment, *, timeout_seconds: float) -> Outcome:
        return await self._late(await super().expire(payment, timeout_seconds=timeout_seconds))

    async def _called(self, name: str, timeout_seconds: float) -> Any:
        await self._late(None)
        return await super()._called(name, timeout_seconds)

    async def _late(self, outcome: Any) -> Any:
        await asyncio.sleep(self._random.uniform(0, 0.02))
        return outcome


class CountingStore(PostgresStore):
    """Counts the races that were lost."""

    lost = 0

    async def record(self, change: Change, *, context: CommandContext) -> Payment:
        try:
            return await super().record(change, context=context)
        except ConcurrentChangeError:
            self.lost += 1
            raise


@dataclass(kw_only=True)
class Arena:
    """Two replicas with a database of their own, one gateway, one clock."""

    replicas: Sequence[Steps]
    gateway: FarGateway
    clock: MovableClock
    order: random.Random = field(default_factory=lambda: random.Random(59))  # noqa: S311 - not a secret

    async def opened(self, booking: int) -> str:
        answer = await handlers.create_checkout(create(bookingId=booking), context=context(), steps=self.replicas[0])
        return answer.session_id

    async def race(self, booking: int, session_id: str) -> None:
        """All that can end a payment at once, in some order."""
        racers: list[Callable[[], Awaitable[Any]]] = [lambda: self.pay(session_id)]
        for steps in self.replicas:
            racers += [lambda steps=steps: self.verify(session_id, steps)] * 2  # type: ignore[misc]
            racers.append(lambda steps=steps: self.settle(session_id, steps))  # type: ignore[misc]
        racers.append(lambda: self.create_anew(booking))
        await asyncio.gather(*(self._sooner_or_later(racer) for racer in racers))

    async def pay(self, session_id: str) -> None:
        if self.order.random() < 0.5 and isinstance(self.gateway.made[session_id].stands, Open):
            self.gateway.pay(session_id)

    async def verify(self, session_id: str, steps: Steps) -> None:
        await handlers.verify_checkout(VerifyCheckout(session_id=session_id), context=context(), steps=steps)

    async def settle(self, session_id: str, steps: Steps) -> None:
        """What a settler does once it has claimed the payment; here both have, as if the first had fallen asleep."""
        payment = await steps.store.payment_of_session(session_id)
        assert payment is not None
        await self._dawdle()
        await steps.settle(payment, context=context())

    async def create_anew(self, booking: int) -> None:
        if self.order.random() < 0.3:
            command = create(bookingId=booking, amount="500.00")
            await handlers.create_checkout(command, context=context(), steps=self.replicas[-1])

    async def _sooner_or_later(self, racer: Callable[[], Awaitable[Any]]) -> None:
        await self._dawdle()
        with suppress(PaymentServiceError):  # told to its caller, who repeats
            await racer()

    async def _dawdle(self) -> None:
        await asyncio.sleep(self.order.uniform(0, 0.01))


@pytest.fixture
async def databases(new_migrated: Callable[[], Migrated]) -> AsyncIterator[list[Database]]:
    url = (await asyncio.to_thread(new_migrated)).application
    databases = [Database(url), Database(url)]
    yield databases
    for database in databases:
        await database.close()


async def test_whoever_races_for_a_payment_it_ends_once_and_as_the_gateway_says(
    databases: list[Database], caplog: pytest.LogCaptureFixture
) -> None:
    """F59 Settler x2, settler vs verify vs expiry: one transition."""
    gateway, clock = FarGateway(), MovableClock(datetime.now(UTC))
    stores = [CountingStore(database) for database in databases]
    rules = policy(freshness_seconds=0)
    replicas = [Steps(store=store, gateway=gateway, policy=rules, clock=clock) for store in stores]
    arena = Arena(replicas=replicas, gateway=gateway, clock=clock)

    sessions = await asyncio.gather(*(arena.opened(booking) for booking in range(1, RACES + 1)))
    clock.advance(rules.window_seconds + 1)
    races = list(enumerate(sessions, start=1))
    with caplog.at_level(logging.ERROR):
        for start in range(0, RACES, AT_ONCE):
            await asyncio.gather(*(arena.race(*race) for race in races[start : start + AT_ONCE]))
        clock.advance(3600)
        while await Settler(steps=replicas[0]).settle_next():
            pass
    assert [record.getMessage() for record in caplog.records] == [], "nobody is called for a payment"
    assert sum(store.lost for store in stores) >= RACES / 10, "they did meet"

    ends = set()
    for session_id in sessions:
        payment = await stores[0].payment_of_session(session_id)
        assert payment is not None
        ends.add(payment.status)
        stands = {Paid: PaymentStatus.COMPLETED, Expired: PaymentStatus.FAILED}
        assert payment.status is stands[type(gateway.made[session_id].stands)]
        journal = await stores[0].journal(payment.id)
        assert [line.status for line in journal] == ["PENDING", "PENDING", payment.status.value]
    assert ends == {PaymentStatus.COMPLETED, PaymentStatus.FAILED}
    async with databases[0].transaction() as connection:
        twice_paid = "SELECT booking_id FROM payments WHERE status = 'COMPLETED' GROUP BY 1 HAVING count(*) > 1"
        assert (await connection.execute(text(twice_paid))).all() == []
        astray = (
            "SELECT id FROM payments WHERE version <> (SELECT count(*) FROM outbox WHERE payment_id = payments.id)"
            " OR version <> (SELECT max(version) FROM journal WHERE payment_id = payments.id)"
        )
        assert (await connection.execute(text(astray))).all() == []
