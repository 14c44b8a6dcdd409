"""T7 Replicas whose clocks are wrong, as real processes under libfaketime, beside one whose clock is right."""

import asyncio
import functools
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from bridge.service_clock import ServiceClock
from contracts.commands import CommandType
from service.settings import Settings
from tests.integration.faults.stack import bridge
from tests.integration.operators.conftest import gauge, pages_at, scraped
from tests.integration.service.messages.rig import CREATE, Rig, a_create, around, serving, until
from tests.kit import programs
from tools.devstack import processes

OFFSETS = [
    {"+60m": 3600, "-60m": -3600},
    pytest.param({"+6m": 360, "-6m": -360}, marks=pytest.mark.thorough),
]
CHECKOUTS = 12
PASSES = 3
NEAR_SECONDS = 30
LIBRARY = next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)


@asynccontextmanager
async def a_wrong_one(settings: Settings, offset: str, log: Path) -> AsyncIterator[str]:
    """A service whose clock is wrong by so much; where its pages are."""
    (port,) = processes.free_ports(1)
    chosen = {name: getattr(settings, name) for name in ("amqp_url", "database_url", "stripe_api_key")}
    environment = {name.upper(): value.get_secret_value() for name, value in chosen.items()} | {
        "STRIPE_API_BASE": settings.stripe_api_base,
        "STRIPE_REQUESTS_PER_SECOND": "0",
        "VERIFY_FRESHNESS_SECONDS": "0",
        "SERVICE_PORT": str(port),
        "LOG_LEVEL": "warning",
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME": offset,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    process = await programs.start("-m", "service", "run", **environment)
    assert process.stdout is not None
    reading = asyncio.create_task(process.stdout.read())
    try:
        yield f"http://127.0.0.1:{port}/actuator/"
    finally:
        process.terminate()
        await asyncio.to_thread(log.write_bytes, await reading)
        await process.wait()


async def skew_of(url: str) -> float | None:
    """What the replica has measured, once it has swept a few times."""
    async with pages_at(url) as client:
        try:
            found = await scraped(client)
        except httpx.TransportError:
            return None
    swept = gauge(found, "payment_service_sweeper_passes_total")
    return gauge(found, "payment_service_database_clock_skew_seconds") if swept >= PASSES else None


async def is_ready(url: str) -> bool:
    async with pages_at(url) as client:
        try:
            return (await client.get("health/readiness")).is_success
        except httpx.TransportError:
            return False


async def created(rig: Rig) -> list[str]:
    """Checkouts, by whichever replica."""
    replies = [await rig.ask(CREATE, a_create()) for _ in range(CHECKOUTS)]
    assert {reply.type for reply in replies} == {f"{CommandType.CREATE_CHECKOUT.value}.reply"}
    return [reply.document["sessionId"] for reply in replies]


@pytest.mark.skipif(LIBRARY is None, reason="needs libfaketime (Debian's package faketime)")
@pytest.mark.parametrize("offsets", OFFSETS, ids=" ".join)
async def test_replicas_whose_clocks_are_wrong_end_nothing_early_and_do_nothing_twice(
    amqp_url: str, migrated_url: str, tmp_path: Path, offsets: dict[str, int]
) -> None:
    async with around(amqp_url, migrated_url) as rig, serving(rig.settings), AsyncExitStack() as stack:
        urls = {}
        for offset in offsets:
            replica = a_wrong_one(rig.settings, offset, tmp_path / f"{offset}.log")
            urls[offset] = await stack.enter_async_context(replica)
        sessions = await created(rig)
        for offset, url in urls.items():
            skew = 0.0

            async def measured(url: str = url) -> bool:
                nonlocal skew
                skew = await skew_of(url) or 0.0
                return skew != 0

            await until(measured, every=0.2)
            assert abs(skew - offsets[offset]) < NEAR_SECONDS
        sessions += await created(rig)
        states = await rig.sql("SELECT status FROM payments WHERE session_id = ANY($1)", sessions)
        assert [row["status"] for row in states] == ["PENDING"] * 2 * CHECKOUTS
        ledger = {each["id"]: each["status"] for each in await rig.sandbox.control("ledger")}
        assert {ledger[session] for session in sessions} == {"open"}
        for session in sessions:
            await rig.sandbox.pay(session)
        for session in sessions:
            events = await rig.told((await rig.payment(session))["id"], events=2)
            assert [each.document["data"]["status"] for each in events] == ["PENDING", "COMPLETED"]
    for offset, seconds in offsets.items():
        said = (tmp_path / f"{offset}.log").read_text()
        found = re.findall(r"this machine's clock is ([+-]\d+) s from the database's", said)
        assert len(found) == 1, said[-2000:]
        assert abs(int(found[0]) - seconds) < NEAR_SECONDS


@pytest.mark.skipif(LIBRARY is None, reason="needs libfaketime (Debian's package faketime)")
@pytest.mark.parametrize("offset", ["+60m", "-60m"])
async def test_a_bridge_is_answered_by_a_service_whose_clock_is_wrong(
    amqp_url: str, migrated_url: str, tmp_path: Path, offset: str
) -> None:
    """Its replies tell the time by which it judges deadlines: the database's."""
    clock = ServiceClock()
    async with (
        around(amqp_url, migrated_url) as rig,
        a_wrong_one(rig.settings, offset, tmp_path / "log") as url,
        bridge(amqp_url, clock=clock) as caller,
    ):
        await until(functools.partial(is_ready, url))
        answers = [await caller.create(a_create()) for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200] * 5, answers[-1].text
        assert abs(clock.skew_seconds or NEAR_SECONDS) < NEAR_SECONDS
