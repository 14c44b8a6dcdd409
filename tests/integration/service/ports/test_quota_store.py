"""The quota of several replicas on a real PostgreSQL: together they call as often as Stripe allows them together."""

import asyncio
import itertools
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import text

from service.adapters.postgres import Database, PostgresQuotaStore
from service.ratelimit.permit import Endpoint, Priority
from service.ratelimit.quota import Rates
from tests.integration.service.messages.rig import until
from tests.kit.service import statements_of
from tests.kit.world import a_limiter
from tests.unit.service.ratelimit.callers import most_in_a_second
from tools.devstack.processes import free_ports

RATES = Rates(endpoint=40, everything=160)
BURST = 1.15
"""How far calls that a busy machine delays may gather in the worst second."""


@dataclass(kw_only=True)
class Replica:
    """One process's rate limiter, and when its permits were given."""

    database: Database
    rates: Rates = RATES
    statements: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    began: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.quota_store = PostgresQuotaStore(self.database, rates=self.rates)
        self.limiter = a_limiter(200, self.rates, self.quota_store)

    async def call(self, endpoint: Endpoint = Endpoint.CREATE, priority: Priority = Priority.WRITE) -> None:
        async with self.limiter.permit(endpoint, priority=priority) as permit:
            permit.use()
            self.began.append(time.monotonic())

    async def close(self) -> None:
        await self.limiter.close()
        await self.database.close()


Start = Callable[..., Awaitable[Replica]]


@pytest.fixture
async def start(migrated_url: str, owner: Database) -> AsyncIterator[Start]:
    """Starts replicas; everything they shared before is gone."""
    await owner.run(text("WITH gone AS (DELETE FROM budget_demand) DELETE FROM budget RETURNING 1"), {})
    async with AsyncExitStack() as stack:

        async def starting(rates: Rates = RATES) -> Replica:
            replica = Replica(database=Database(migrated_url), rates=rates)
            stack.push_async_callback(replica.close)
            replica.statements = await stack.enter_async_context(statements_of(replica.database))
            return replica

        yield starting


def most(*replicas: Replica) -> int:
    """How many permits were given within the worst second."""
    return most_in_a_second([at for replica in replicas for at in replica.began])


async def leave(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def crowd(*together: Replica, calls: int, until_began: int, **how: Any) -> None:
    """Each replica has so many callers, and all leave once so many were given a permit."""
    tasks = [asyncio.create_task(replica.call(**how)) for replica in together for _ in range(calls)]
    begun = sum(len(replica.began) for replica in together)
    await until(lambda: sum(len(replica.began) for replica in together) >= begun + until_began, seconds=60)
    await leave(tasks)


async def test_replicas_together_stay_within_the_rate_and_each_gets_its_share(start: Start) -> None:
    together = [await start() for _ in range(3)]
    await crowd(*together, calls=80, until_began=100)
    shares = [len(replica.began) for replica in together]
    assert min(shares) >= sum(shares) / 3 * 0.6
    assert most(*together) <= RATES.endpoint * BURST + 1
    assert sum(len(replica.statements) for replica in together) <= sum(shares)  # several permits a statement


async def test_the_quota_of_a_killed_replica_is_free_again_by_itself(start: Start) -> None:
    killed, other = await start(), await start()
    tasks = [asyncio.create_task(killed.call()) for _ in range(200)]
    await until(lambda: len(killed.began) >= 10)
    await crowd(other, calls=60, until_began=5)
    await leave(tasks)
    await killed.database.close()
    died_at = time.monotonic()
    await crowd(other, calls=60, until_began=60)
    after = [at for at in other.began if at >= died_at]
    assert max(later - earlier for earlier, later in itertools.pairwise([died_at, *after])) <= 5
    assert most(other, killed) <= RATES.endpoint * BURST + 1


async def test_all_endpoints_of_all_replicas_together_keep_to_the_global_rate(start: Start) -> None:
    rates = Rates(endpoint=30, everything=40)
    together = [await start(rates) for _ in range(2)]
    endpoints = (Endpoint.CREATE, Endpoint.RETRIEVE, Endpoint.EVENTS)
    crowds = [
        crowd(replica, calls=60, until_began=20, endpoint=endpoint) for replica in together for endpoint in endpoints
    ]
    await asyncio.gather(*crowds)
    assert most(*together) <= rates.everything * 1.4 + 1


async def test_a_rate_factor_that_one_replica_lowers_is_every_replicas(start: Start) -> None:
    one, other = await start(), await start()
    await one.call()
    one.limiter.throttle(Endpoint.CREATE)
    await until(lambda: any("slowed_at = " in statement for statement, _ in one.statements))
    assert one.limiter.rate_factor(Endpoint.CREATE) < 1

    async def is_slower() -> bool:
        await other.call()
        return other.limiter.rate_factor(Endpoint.CREATE) < 1

    await until(is_slower)
    assert other.limiter.rate_factor(Endpoint.RETRIEVE) == 1


async def test_a_lone_call_costs_one_statement(start: Start) -> None:
    replica = await start()
    await replica.call()  # the first of all makes the rows
    costs = []
    for _ in range(11):
        replica.statements.clear()
        await replica.call()
        costs.append(len(replica.statements))
        await asyncio.sleep(2 / RATES.endpoint)
    assert statistics.median(costs) == 1  # a permit that a busy machine lets pass costs another


async def test_the_other_replicas_know_of_a_wait_queue_and_forget_old_ones(start: Start, owner: Database) -> None:
    long_gone = "VALUES ('create', 'long gone', 5, now() - interval '1 hour')"
    await owner.run(text(f"INSERT INTO budget_demand {long_gone} RETURNING replica"), {})
    one, other = await start(), await start()
    await crowd(one, other, calls=60, until_began=40)
    rows = await owner.run(text("SELECT replica, waiting FROM budget_demand WHERE endpoint = 'create'"), {})
    assert len(rows) == 2
    assert all(row.waiting > 0 for row in rows)
    assert "long gone" not in {row.replica for row in rows}
    lease = await one.quota_store.take("create", permits=0, earliest_seconds=0, horizon_seconds=0, waiting=None)
    assert lease.busy == 1


async def test_without_a_database_a_replica_keeps_to_the_rate_by_itself() -> None:
    (closed,) = free_ports(1)
    replica = Replica(database=Database(f"postgresql://nobody:nothing@127.0.0.1:{closed}/nowhere"))
    await crowd(replica, calls=80, until_began=60)
    assert replica.limiter.is_local
    assert most(replica) <= RATES.endpoint * BURST + 1
    await replica.close()
