"""Budgets of several replicas on a real PostgreSQL: together they do what Stripe allows them together."""

import asyncio
import itertools
import statistics
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import event, text

from deploy.local.processes import free_ports
from service.adapters.store import Database, PostgresLeases
from service.application.budget import Budget, Endpoint, Priority
from service.application.leases import Rates
from tests.integration.service.messages.rig import until

RATES = Rates(endpoint=40, everything=160)


@dataclass(kw_only=True)
class Replica:
    """One process's budget, and when its turns began."""

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

        def start(rates: Rates = RATES) -> Replica:
            database = Database(url)
            stack.push_async_callback(database.close)
            leases = PostgresLeases(database, rates=rates)
            budget = Budget(concurrency=200, rates=rates, leases=leases)
            stack.push_async_callback(budget.close)
            replica = Replica(budget=budget, database=database, leases=leases)

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


async def crowd(together: Sequence[Replica], *, calls: int, until_began: int, **how: Any) -> None:
    """Each replica has so many callers in line, and all leave once so many have had their turn."""
    tasks = [asyncio.create_task(replica.call(**how)) for replica in together for _ in range(calls)]
    begun = sum(len(replica.began) for replica in together)
    await until(lambda: sum(len(replica.began) for replica in together) >= begun + until_began, seconds=60)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_replicas_together_stay_within_the_rate_and_each_gets_its_share(start: Start) -> None:
    together = [start() for _ in range(3)]
    await crowd(together, calls=80, until_began=100)
    shares = [len(replica.began) for replica in together]
    assert min(shares) >= sum(shares) / 3 * 0.6
    assert most_in_a_second([at for replica in together for at in replica.began]) <= RATES.endpoint * 1.15 + 1
    assert sum(len(replica.statements) for replica in together) <= sum(shares)  # several turns a statement


async def test_what_a_killed_replica_had_leased_passes_by_itself(start: Start) -> None:
    killed, other = start(), start()
    tasks = [asyncio.create_task(killed.call()) for _ in range(200)]
    await until(lambda: len(killed.began) >= 10)
    asking = asyncio.create_task(crowd([other], calls=60, until_began=5))
    await asking
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await killed.database.close()
    died_at = time.monotonic()
    await crowd([other], calls=60, until_began=60)
    after = [at for at in other.began if at >= died_at]
    assert max(later - earlier for earlier, later in itertools.pairwise([died_at, *after])) <= 5
    assert most_in_a_second(other.began + killed.began) <= RATES.endpoint * 1.15 + 1


async def test_all_endpoints_of_all_replicas_together_keep_to_the_global_rate(start: Start) -> None:
    rates = Rates(endpoint=30, everything=40)
    together = [start(rates) for _ in range(2)]
    endpoints = (Endpoint.CREATE, Endpoint.RETRIEVE, Endpoint.EVENTS)
    await asyncio.gather(
        *(
            crowd([replica], calls=60, until_began=20, endpoint=endpoint)
            for replica in together
            for endpoint in endpoints
        )
    )
    assert most_in_a_second([at for replica in together for at in replica.began]) <= rates.everything * 1.4 + 1


async def test_a_pace_that_one_replica_lowers_is_every_replicas(start: Start) -> None:
    one, other = start(), start()
    await one.call()
    one.budget.slow(Endpoint.CREATE)
    await until(lambda: any("slowed_at = " in statement for statement in one.statements))
    await other.call()
    assert one.budget.pace(Endpoint.CREATE) < 1
    assert await until(lambda: _paced(other)) < 1
    assert other.budget.pace(Endpoint.RETRIEVE) == 1


async def _paced(replica: Replica) -> float | None:
    """Its pace, once it has heard of one that is not the full."""
    await replica.call()
    pace = replica.budget.pace(Endpoint.CREATE)
    return pace if pace < 1 else None


async def test_a_lone_call_costs_one_statement(start: Start) -> None:
    replica = start()
    await replica.call()  # the first of all makes the rows
    costs = []
    for _ in range(11):
        replica.statements.clear()
        await replica.call()
        costs.append(len(replica.statements))
        await asyncio.sleep(2 / RATES.endpoint)
    assert statistics.median(costs) == 1  # a turn that a busy machine lets pass costs another


async def test_the_other_replicas_know_of_a_line_and_forget_old_ones(start: Start, owner: Database) -> None:
    long_gone = "VALUES ('create', 'long gone', 5, now() - interval '1 hour')"
    await owner.run(text(f"INSERT INTO budget_demand {long_gone} RETURNING replica"), {})
    one, other = start(), start()
    await crowd([one, other], calls=60, until_began=40)
    rows = await owner.run(text("SELECT replica, waiting FROM budget_demand WHERE endpoint = 'create'"), {})
    assert len(rows) == 2
    assert all(row.waiting > 0 for row in rows)
    assert "long gone" not in {row.replica for row in rows}
    lease = await one.leases.lease("create", turns=0, earliest_seconds=0, horizon_seconds=0, waiting=None)
    assert lease.busy == 1


async def test_without_a_database_a_replica_paces_itself() -> None:
    (closed,) = free_ports(1)
    database = Database(f"postgresql://nobody:nothing@127.0.0.1:{closed}/nowhere")
    budget = Budget(concurrency=200, rates=RATES, leases=PostgresLeases(database, rates=RATES))
    replica = Replica(budget=budget, database=database, leases=PostgresLeases(database, rates=RATES))
    await crowd([replica], calls=80, until_began=60)
    assert budget.is_alone
    assert most_in_a_second(replica.began) <= RATES.endpoint * 1.15 + 1
    await budget.close()
    await database.close()
