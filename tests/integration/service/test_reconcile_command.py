"""`payment-service reconcile` as an operator runs it, with a real database and Stripe's SDK."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from service.adapters.postgres import Database, PostgresStore
from service.cli import reconcile
from service.cli.parser import parser
from service.settings import Settings
from tests.integration.faults.stack import breakable
from tests.integration.sandbox.harness import KEY, Running, running_sandbox
from tests.kit.clock import SystemClock
from tests.kit.databases import Migrated
from tests.kit.until import until
from tests.kit.world import World, a_stripe_gateway
from tools.chaos.proxy import Mode

LOSE = """
    ALTER TABLE journal DISABLE TRIGGER ALL; ALTER TABLE outbox DISABLE TRIGGER ALL;
    ALTER TABLE request_keys DISABLE TRIGGER ALL;
    DELETE FROM journal; DELETE FROM outbox; DELETE FROM request_keys; DELETE FROM payments;
    ALTER TABLE journal ENABLE TRIGGER ALL; ALTER TABLE outbox ENABLE TRIGGER ALL;
    ALTER TABLE request_keys ENABLE TRIGGER ALL"""


@dataclass(kw_only=True)
class Ended:
    """The exit status, the lines of stdout as objects, and stderr."""

    status: int
    lines: list[dict[str, Any]]
    err: str

    @property
    def kinds(self) -> dict[int, str]:
        """By booking."""
        return {line["bookingId"]: line["kind"] for line in self.lines if "kind" in line}


@dataclass(kw_only=True)
class Desk:
    sandbox: Running
    world: World
    owner: asyncpg.Connection
    settings: Settings
    capsys: pytest.CaptureFixture[str]

    async def buy(self, booking: int, *, paid: bool = False) -> str:
        session = (await self.world.create(bookingId=booking, userId=7, amount="12.50")).session_id
        if paid:
            await self.sandbox.pay(session)
        return str(session)

    async def says(self, *words: str) -> Ended:
        """`payment-service reconcile --json <words>`."""
        status = await reconcile.run(parser().parse_args(["reconcile", "--json", *words]), self.settings)
        out, err = self.capsys.readouterr()
        return Ended(status=status, lines=[json.loads(line) for line in out.splitlines()], err=err)


@pytest.fixture
async def desk(new_migrated: Callable[[], Migrated], capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Desk]:
    migrated = await asyncio.to_thread(new_migrated)
    database = Database(migrated.application)
    owner = await asyncpg.connect(migrated.owner)
    async with running_sandbox() as sandbox:
        settings = Settings.model_validate(
            {
                "database_url": migrated.application,
                "stripe_api_key": KEY,
                "stripe_api_base": sandbox.url,
                "feed_interval_seconds": 0.1,
                "stripe_requests_per_second": 200,
            }
        )
        gateway = a_stripe_gateway(sandbox.url, api_key=KEY)
        world = World(store=PostgresStore(database), gateway=gateway, clock=SystemClock())
        yield Desk(sandbox=sandbox, world=world, owner=owner, settings=settings, capsys=capsys)
        await gateway.close()
    await owner.close()
    await database.close()


async def test_it_tells_every_difference_and_fix_mends_what_may_be_mended(desk: Desk) -> None:
    await desk.buy(1)
    agreeing = await desk.says("--since", "1h")
    assert (agreeing.status, agreeing.kinds, agreeing.lines[-1]["sessions"]) == (0, {}, 1)
    await desk.owner.execute(LOSE)
    await desk.buy(2, paid=True)
    late = await desk.buy(3)
    await desk.owner.execute(
        "UPDATE payments SET status = 'FAILED', reason = 'expired', version = version + 1 WHERE session_id = $1", late
    )
    await desk.sandbox.pay(late)
    told = await desk.says("--since", "1h")
    assert (told.status, told.kinds) == (1, {1: "unknown_here", 2: "paid_there", 3: "failed_here_paid_there"})
    fixed = await desk.says("--since", "1h", "--fix")
    assert (fixed.status, fixed.kinds) == (1, told.kinds)
    assert [line["mended"] for line in fixed.lines[:-1]] == [True, True, False]
    again = await desk.says("--since", "1h")
    assert (again.status, again.kinds) == (1, {3: "failed_here_paid_there"})
    [attention] = [line["attention"] for line in again.lines if "attention" in line]
    assert attention == "paid_after_failed"
    rows = await desk.owner.fetch("SELECT booking_id, status FROM payments ORDER BY 1")
    assert [tuple(row) for row in rows] == [(1, "PENDING"), (2, "COMPLETED"), (3, "FAILED")]


async def test_all_mended_is_exit_status_0_and_two_at_once_are_safe(desk: Desk) -> None:
    for booking in range(1, 131):
        await desk.buy(booking, paid=booking % 3 == 0)
    await desk.owner.execute(LOSE)
    first, second = await asyncio.gather(desk.says("--fix"), desk.says("--fix"))
    assert (first.status, second.status) == (0, 0)
    rows = await desk.owner.fetch("SELECT status, count(*) AS n FROM payments GROUP BY 1 ORDER BY 1")
    assert [tuple(row) for row in rows] == [("COMPLETED", 43), ("PENDING", 87)]
    assert await desk.owner.fetchval("SELECT count(*) FROM outbox") == 130 + 43
    assert (await desk.says()).status == 0


async def test_a_session_that_stripe_does_not_know_is_told(desk: Desk) -> None:
    await desk.buy(1)
    await desk.sandbox.control("reset", {})
    told = await desk.says("--fix")
    assert (told.status, told.kinds) == (1, {1: "missing_there"})


async def test_stripe_that_is_down_is_said_with_where_to_go_on(desk: Desk) -> None:
    await desk.buy(1)
    await desk.sandbox.control("config", {"down": True})
    told = await desk.says("--since", "2026-01-01")
    assert told.status == 1
    assert "Stripe cannot be asked" in told.err
    assert "Go on with --since 2026-01-01T00:00:00Z" in told.err


async def test_a_database_that_is_lost_is_said_with_where_to_go_on(desk: Desk) -> None:
    await desk.buy(1)
    await desk.sandbox.control("config", {"latency_ms": 2000})
    async with breakable(desk.settings, "database_url") as (link, desk.settings):
        telling = asyncio.create_task(desk.says("--since", "2026-01-01"))

        async def asked() -> bool:
            calls = (await desk.sandbox.control("stats"))["calls"]
            return calls.get("checkout.sessions.list", {"calls": 0})["calls"] > 0

        await until(asked)
        await link.set(Mode.DOWN)
        told = await telling
    assert told.status == 1
    assert "the database (DATABASE_URL) cannot be reached (" in told.err
    assert "Go on with --since 2026-01-01T00:00:00Z" in told.err


@pytest.mark.parametrize("words", [["--since", "yesterday"], ["--since", "-1h"], ["--until", ""]])
async def test_wrong_usage_is_exit_status_2(desk: Desk, words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        await desk.says(*words)
    assert ended.value.code == 2


@pytest.mark.parametrize(("since", "until"), [("0001-01-01", "9999-12-31T23:59:59"), ("999999d", "0d")])
async def test_a_time_without_end_takes_few_calls_and_loses_nothing(desk: Desk, since: str, until: str) -> None:
    """Before the first payment and after now there is nothing to list."""
    await desk.buy(1, paid=True)
    told = await desk.says("--since", since, "--until", until)
    assert told.kinds == {1: "paid_there"}
    assert (await desk.sandbox.control("stats"))["calls"]["checkout.sessions.list"]["calls"] < 200


async def test_a_time_that_ends_before_it_begins_is_wrong_usage(desk: Desk) -> None:
    assert (await desk.says("--since", "1h", "--until", "2h")).status == 2
