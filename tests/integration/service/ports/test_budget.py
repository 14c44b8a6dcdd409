"""Budgets of several replicas on a real PostgreSQL: together they do what Stripe allows them together."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest
from sqlalchemy import event, text

from service.adapters.store import Database, PostgresLeases
from service.application.budget import Budget, Endpoint, Priority
from service.application.leases import Rates
from tests.integration.service.messages.rig import until

RATES = Rates(endpoint=40, everything=160)


@dataclass(kw_only=True)
class Replica:
    """One process's budget, and when its turns began."""

    number: int
    budget: Budget
    database: Database
    leases: PostgresLeases
    statements: list[str] = field(default_factory=list)
    began: list[float] = field(default_factory=list)

    async def call(self, endpoint: Endpoint = Endpoint.CREATE, priority: Priority = Priority.WRITE) -> None:
        async with self.budget.turn(endpoint, priority=priority) as turn:
            turn.used = True
            self.began.append(time.monotonic())


Start = Callable[..., Replica]


@asynccontextmanager
async def replicas(url: str) -> AsyncIterator[Start]:
    """Starts replicas; everything they shared before is gone."""
    async with AsyncExitStack() as stack:
        numbers = iter(range(100))

        def start(rates: Rates = RATES) -> Replica:
            database = Database(url)
            stack.push_async_callback(database.close)
            leases = PostgresLeases(database, rates=rates)
            budget = Budget(concurrency=200, rates=rates, leases=leases)
            stack.push_async_callback(budget.close)
            replica = Replica(number=next(numbers), budget=budget, database=database, leases=leases)

            @event.listens_for(database.engine.sync_engine, "before_cursor_execute")
            def executed(_connection: object, _cursor: object, statement: str, *_: object) -> None:
                replica.statements.append(statement)

            return replica

        yield start


@pytest.fixture
async def start(migrated_url: str, owner: Database) -> AsyncIterator[Start]:
    await owner.run(text("WITH gone AS (DELETE FROM budget_demand) DELETE FROM budget RETURNING 1"), {})
    async with replicas(migrated_url) as starting:
        yield starting


def most_in_a_second(times: Sequence[float]) -> int:
    """How many began within the worst second."""
    ordered, most, first = sorted(times), 0, 0
    for last, at in enumerate(ordered):
        while at - ordered[first] > 1:
            first += 1
        most = max(most, last - first + 1)
    return most


async def test_replicas_together_stay_within_the_rate_and_each_gets_its_share(start: Start) -> None:
    together = [start() for _ in range(3)]
    calls = [asyncio.create_task(replica.call()) for replica in together for _ in range(80)]
    await until(lambda: sum(len(replica.began) for replica in together) >= 140, seconds=8)
    counts = Counter({replica.number: len(replica.began) for replica in together})
    began = [at for replica in together for at in replica.began]
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert min(counts.values()) >= sum(counts.values()) * 0.2
    assert most_in_a_second(began) <= RATES.endpoint * 1.15 + 1
