"""Commands that wait in the queues: a backlog at the start, late commands, poison, a database that is away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import cycle, islice
from typing import Any

import pytest
import pytest_asyncio

from contracts import topology
from service.adapters.postgres.database import POOL_SIZE
from service.entrypoints import middleware
from service.entrypoints.consumers import CREATE_PREFETCH
from tests.integration.faults.stack import breakable
from tests.integration.service.messages.rig import CREATE, MARK, PATIENT, Rig, a_create, around, serving, until
from tools.chaos.proxy import Mode

CONCURRENCY = 8


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(amqp_url: str, migrated_url: str) -> AsyncIterator[Rig]:
    """Without the service: each test starts its own, with few calls at a time."""
    async with around(amqp_url, migrated_url, stripe_concurrency=CONCURRENCY) as rig:
        yield rig


async def test_a_backlog_is_taken_in_portions_and_what_is_too_late_is_parked(rig: Rig) -> None:
    """F22 Backlog at the start: in flight <= prefetch, calls <= concurrency. F6 Expired commands are dead-lettered."""
    late = [await rig.ask_later(CREATE, a_create(), expiration="200") for _ in range(50)]
    commands = [a_create() for _ in range(150)]
    sent = list(islice(cycle(commands), CREATE_PREFETCH + 50))  # a repeat waits like any other, and costs little
    marks = [await rig.ask_later(CREATE, command, expiration=PATIENT) for command in sent]
    await rig.sandbox.control("config", {"latency_ms": 4000})
    sessions = "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database()"

    async def taken() -> bool:
        return await rig.ready_in(topology.COMMAND_QUEUES[CREATE].name) == len(marks) - CREATE_PREFETCH

    async def look() -> None:
        await until(taken)  # the expired ones were ahead of them
        looked = asyncio.get_running_loop().time() + 0.4  # long before the first call is answered
        while asyncio.get_running_loop().time() < looked:
            assert len(await rig.sql("SELECT 1 FROM payments")) <= CONCURRENCY
            await asyncio.sleep(0.02)

    looking = asyncio.create_task(look())  # the first portion is begun before the service says that it has started
    async with serving(rig.settings):
        await looking
        await rig.sandbox.control("config", {"latency_ms": 0})
        most = 0
        while len(rig.replies) < len(marks):
            [row] = await rig.sql(sessions + " AND application_name = 'payment-service'")
            most = max(most, row["n"])
            await asyncio.sleep(0.02)
        assert 0 < most <= POOL_SIZE
    replies = [await rig.reply_to(mark) for mark in marks]
    assert {reply.type for reply in replies} <= {"checkout.create.reply", "fault"}
    refused = [command for command, reply in zip(sent, replies, strict=True) if reply.type == "fault"]
    letters = [each for each in await rig.dead_letters(CREATE) if each.headers[MARK] in late]
    assert len(letters) == len(late)
    reasons = {each.headers.get("x-reason") or each.headers["x-death"][0]["reason"] for each in letters}
    assert reasons == {"expired"}
    async with serving(rig.settings):
        for command in refused:
            await rig.served(CREATE, command)
    assert len(await rig.sql("SELECT 1 FROM payments")) == await created(rig) == len(commands)


async def created(rig: Rig) -> int:
    """The calls that made a session: a repetition with the same key, after a timeout, makes none."""
    stats = await rig.sandbox.control("stats")
    calls: dict[str, int] = stats["calls"]["checkout.sessions.create"]
    return calls["calls"] - calls["replays"]


@asynccontextmanager
async def poisonous(rig: Rig, user_id: int) -> AsyncIterator[None]:
    """The database fails at one user's payments, as a bug could make it."""
    await rig.sql(
        "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'poison'; END $$"
    )
    await rig.sql(
        "CREATE TRIGGER poison BEFORE INSERT ON payments FOR EACH ROW"
        f" WHEN (NEW.user_id = {user_id}) EXECUTE FUNCTION poison()"
    )
    try:
        yield
    finally:
        await rig.sql("DROP TRIGGER poison ON payments")
        await rig.sql("DROP FUNCTION poison")


async def test_poison_is_parked_after_its_tries_and_the_others_are_served(rig: Rig) -> None:
    """F16 A handler always fails: bounded, delayed retries, then dead-lettered with a reason; others are served.

    Half of the commands come back after a second and wait longer then; the other half arrives with no try left.
    """
    poison, before = [a_create(userId=666) for _ in range(10)], len(await rig.dead_letters(CREATE))
    last = len(topology.RETRY_DELAYS_SECONDS)
    async with serving(rig.settings), poisonous(rig, 666):
        fresh = [await rig.send(CREATE, command) for command in poison[:5]]
        spent = [await rig.send(CREATE, command, headers={"x-attempts": last}) for command in poison[5:]]
        await asyncio.gather(*(rig.served(CREATE, a_create()) for _ in range(40)))
        for mark in spent:
            letter = await rig.parked(CREATE, mark)
            assert letter.headers["x-reason"] == "exhausted"
            assert letter.headers["x-attempts"] > last  # a try that found no database is followed by another one
        # They come back after a second, and wait longer then.
        found: list[Any] = []
        while len(found) < len(fresh):
            found += await until(lambda: rig.delayed(CREATE, delay=1))
        assert sorted(each.headers[MARK] for each in found) == sorted(fresh)
        assert {each.headers["x-attempts"] for each in found} == {2}
    assert len(await rig.dead_letters(CREATE)) == before + len(spent)
    assert await rig.sql("SELECT 1 FROM payments WHERE user_id = 666") == []


async def test_a_backlog_outlives_a_database_that_is_away(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """F17 Database away with a backlog: nothing is dead-lettered, all is done when it is back, <= 5 attempts each."""
    caplog.set_level("INFO", logger=middleware.__name__)
    parked, commands = len(await rig.dead_letters(CREATE)), [a_create() for _ in range(100)]
    async with breakable(rig.settings, "database_url") as (network, settings), serving(settings):
        await network.set(Mode.DOWN)
        for command in commands:
            await rig.send(CREATE, command)
        await until(lambda: caplog.text.count("SERVICE_UNAVAILABLE, retry later") > len(commands))
        await network.set(Mode.NORMAL)
        bookings = [command["bookingId"] for command in commands]
        opened = "SELECT 1 FROM payments WHERE session_id IS NOT NULL AND booking_id = ANY($1)"
        await rig.until_rows(len(commands), opened, bookings)
        await rig.queue_empty(CREATE)
    assert caplog.text.count("SERVICE_UNAVAILABLE, retry later") <= 4 * len(commands)
    assert len(await rig.dead_letters(CREATE)) == parked
