"""What create and verify promise, on a real database and the sandbox."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import pytest

from service.adapters.postgres import Database
from tests.integration.sandbox.harness import Running
from tests.integration.service.shops import Ports
from tests.kit.clock import MovableClock
from tests.kit.lifetimes import closing
from tests.kit.scenarios import Scenario, scenarios
from tests.kit.shops import BOOKINGS
from tests.kit.world import a_stripe_gateway


@pytest.fixture
async def shop(database: Database, sandbox: Running) -> AsyncIterator[Ports]:
    clock = MovableClock(datetime.now(UTC))
    async with closing(a_stripe_gateway(sandbox.url, concurrency=64, now=clock.now)) as gateway:
        yield Ports(database=database, gateway=gateway, sandbox=sandbox, clock=clock)


@pytest.mark.parametrize(**scenarios(can_control=True))
async def test_on_real_ports(scenario: Scenario, shop: Ports) -> None:
    await scenario(shop)


async def test_no_connection_is_held_while_stripe_thinks(shop: Ports) -> None:
    session = (await shop.create()).session
    shop.latency_ms = 3000  # so long that every call is on its way before one is answered
    tasks: list[asyncio.Task[object]] = []
    checked_out: Callable[[], int] = shop.database.engine.pool.checkedout  # type: ignore[attr-defined]
    async with shop.slow():
        tasks += [asyncio.create_task(shop.create(bookingId=next(BOOKINGS))) for _ in range(40)]
        tasks.append(asyncio.create_task(shop.create(amount="500", replica=1)))
        tasks.append(asyncio.create_task(shop.verify(session, replica=2)))
        while not await shop.calls() >= Counter(open=41, expire=1, look_up=1):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        held = [checked_out()]
        for _ in range(5):
            await asyncio.sleep(0.01)
            held.append(checked_out())
    assert min(held) == 0
    await asyncio.gather(*tasks)
