"""What an operator looks up at the command line: `list`, `show` and `events`, for people and for programs."""

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runtime.process_settings import DatabaseSettings
from service.adapters.postgres import Database, PostgresOutbox, PostgresStore
from service.cli import events, show
from service.cli import list as listing
from service.cli.parser import parser
from service.domain.money import Money
from service.domain.outcomes import Expired, Opened, Paid
from service.domain.payment import Payment
from service.domain.status import decide
from tests.kit.databases import Migrated, NewMigrated, wrong_clock
from tests.kit.forks import Process
from tests.kit.lifetimes import closing
from tests.kit.programs import start
from tests.kit.service import a_draft, context, message_key
from tools.chaos.proxy import Mode, Proxy, behind

COMMANDS = {"list": listing, "show": show, "events": events}
NOW = datetime.now(UTC).replace(microsecond=0)


class Desk:
    """An operator's desk, and a shop that fills the record."""

    def __init__(self, database: Database, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.store, self.outbox, self.url, self._capsys = PostgresStore(database), PostgresOutbox(database), url, capsys

    async def begun(self, booking_id: int, *, at: datetime = NOW, **changes: Any) -> Payment:
        draft = a_draft(booking_id=booking_id, created_at=at, **changes)
        begun = await self.store.begin(draft, keys=[message_key()], request_id=f"order-{booking_id}")
        opened = Opened(
            session_id=f"cs_test_b{booking_id}", payment_url="https://pay.example/", expires_at=draft.expires_at
        )
        return await self.becomes(begun.payment, opened, request_id=f"order-{booking_id}")

    async def becomes(self, payment: Payment, outcome: Opened | Paid | Expired, **changes: Any) -> Payment:
        change = decide(payment, outcome, at=datetime.now(UTC))
        assert change is not None
        return await self.store.record(change, context=context(**changes))

    async def says(self, *words: str) -> tuple[int, str, str]:
        arguments = parser().parse_args(words)
        command: Any = COMMANDS[arguments.command]
        status = await command.run(arguments, DatabaseSettings(database_url=self.url))
        out, err = self._capsys.readouterr()
        return status, out, err

    async def tells(self, *words: str) -> list[dict[str, Any]]:
        status, out, _ = await self.says(*words, "--json")
        assert status == 0
        return [json.loads(line) for line in out.splitlines()]

    async def bookings(self, *words: str) -> list[int]:
        status, out, _ = await self.says("list", *words, "--json")
        found = [json.loads(line)["bookingId"] for line in out.splitlines()]
        assert status == (0 if found else 1)
        return found


@pytest.fixture
async def desk(new_migrated: NewMigrated, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Desk]:
    migrated: Migrated = await asyncio.to_thread(new_migrated)
    async with closing(Database(migrated.application)) as database:
        yield Desk(database, migrated.application, capsys)


def paid(payment: Payment, **changes: Any) -> Paid:
    return Paid(**{"money": payment.money, "reference": payment.reference, "livemode": False} | changes)


async def test_payments_are_listed_by_whatever_is_known_of_them(desk: Desk) -> None:
    first = await desk.begun(1, at=NOW - timedelta(hours=3), user_id=71)
    second = await desk.begun(2, at=NOW - timedelta(hours=2), user_id=72, money=Money(100000, "inr"))
    third = await desk.begun(3, at=NOW - timedelta(hours=1), user_id=71, money=Money(1000, "jpy"))
    await desk.begun(4, user_id=74)
    await desk.becomes(first, paid(first))
    await desk.becomes(second, paid(second, money=Money(1, "inr")))
    await desk.becomes(third, Expired())
    for words, found in {
        (): [4, 3, 2, 1],
        ("--booking", "2"): [2],
        ("--user", "71"): [3, 1],
        ("--status", "pending"): [4, 2],
        ("--status", "FAILED", "--reason", "expired"): [3],
        ("--attention",): [2],
        ("--attention", "Paid_Differently"): [2],
        ("--attention", "unsettled"): [],
        ("--amount", "1000"): [3, 2],
        ("--amount", "1000.00", "--currency", "JPY"): [3],
        ("--since", "150m"): [4, 3, 2],
        ("--since", "150m", "--until", "30m"): [3, 2],
        ("--user", "71", "--status", "completed"): [1],
        ("--booking", "9"): [],
    }.items():
        assert await desk.bookings(*words) == found, words


async def test_a_list_goes_on_where_the_page_before_ended(desk: Desk) -> None:
    for number in range(1, 8):  # three of each time
        await desk.begun(number, at=NOW - timedelta(hours=number // 3))
    seen, words = list[int](), list[str]()
    while page := (await desk.says("list", "--limit", "3", "--json", *words))[1].splitlines():
        seen += [json.loads(line)["bookingId"] for line in page]
        words = ["--after", str(json.loads(page[-1])["paymentId"])]
    assert sorted(seen) == list(range(1, 8))
    status, out, err = await desk.says("list", "--limit", "3")
    assert (status, len(out.splitlines())) == (0, 4)
    assert err.startswith("There may be more: --after ")
    status, _, err = await desk.says("list", "--after", "7")
    assert (status, err) == (1, "payment-service list: there is no payment 7 to go on after.\n")


async def test_a_payment_is_shown_by_each_of_its_names_with_both_ends_of_its_time(desk: Desk) -> None:
    payment = await desk.begun(7, pay_until=NOW + timedelta(minutes=15))
    payment = await desk.becomes(payment, paid(payment), request_id="verify-7")
    names = (str(payment.id), "cs_test_b7", "booking:7", "request:order-7", "order-7", "verify-7")
    told = [await desk.tells("show", name) for name in names]
    assert [[each["paymentId"] for each in found] for found in told] == [[payment.id]] * len(names)
    assert [line["requestId"] for line in told[0][0]["journal"]] == ["order-7", "order-7", "verify-7"]
    _, text, _ = await desk.says("show", "order-7")
    ends = {"payer has until": payment.pay_until, "page at Stripe ends": payment.expires_at}
    for name, at in ends.items():
        assert f"{name:<21}{at:%Y-%m-%dT%H:%M:%S}" in text
    for unknown in ("8", "booking:8", "cs_test_b8", "request:order-8", "order-8"):
        assert (await desk.says("show", unknown))[0] == 1


async def test_events_are_shown_with_the_time_when_they_were_published(desk: Desk) -> None:
    first, second = await desk.begun(1), await desk.begun(2)
    await desk.becomes(first, paid(first))
    rows = await desk.outbox.claim(limit=1, at=datetime.now(UTC), lease_seconds=60)
    await desk.outbox.mark_sent([rows[0].id], at=NOW)
    told = await desk.tells("events")
    assert [(each["paymentId"], each["event"]) for each in told] == [
        (first.id, "payment.pending"),
        (second.id, "payment.pending"),
        (first.id, "payment.completed"),
    ]
    assert [each["publishedAt"] is None for each in told] == [False, True, True]
    assert [each["sequence"] for each in await desk.tells("events", "booking:1")] == [1, 2]
    assert [each["paymentId"] for each in await desk.tells("events", "--unpublished")] == [second.id, first.id]
    assert [each["event"] for each in await desk.tells("events", "--limit", "1")] == ["payment.completed"]
    _, text, _ = await desk.says("events", "cs_test_b2")
    assert "waits for" in text
    assert (await desk.says("events", "booking:9"))[0] == 1
    rows = await desk.outbox.claim(limit=9, at=datetime.now(UTC) + timedelta(minutes=2), lease_seconds=60)
    await desk.outbox.mark_sent([row.id for row in rows], at=NOW)
    assert (await desk.says("events", "--unpublished"))[2] == "Every event is published.\n"


@asynccontextmanager
async def following(url: str) -> AsyncIterator[tuple[Process, asyncio.StreamReader]]:
    """A process that follows the events, and what it says."""
    process = await start("-m", "service", "events", "--follow", "--json", DATABASE_URL=url)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(120):
            yield process, process.stdout
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_who_follows_goes_on_when_the_database_is_back(desk: Desk) -> None:
    await desk.begun(1)
    async with behind(Proxy, desk.url) as (proxy, url), following(url) as (_, said):
        assert json.loads(await said.readline())["sequence"] == 1
        await proxy.set(Mode.DOWN)
        assert b"The database (DATABASE_URL) cannot be reached" in await said.readline()
        second = await desk.begun(2)
        await proxy.set(Mode.NORMAL)
        assert await said.readline() == b"The database answers again.\n"
        assert json.loads(await said.readline())["paymentId"] == second.id


async def test_who_follows_is_told_each_event_that_comes_and_when_it_is_published(desk: Desk) -> None:
    await desk.begun(1)
    async with following(desk.url) as (process, said):
        assert json.loads(await said.readline())["sequence"] == 1
        second = await desk.begun(2)
        written = json.loads(await said.readline())
        assert (written["paymentId"], written["publishedAt"]) == (second.id, None)
        rows = await desk.outbox.claim(limit=9, at=datetime.now(UTC), lease_seconds=60)
        await desk.outbox.mark_sent([row.id for row in rows], at=NOW)
        published = [json.loads(await said.readline()) for _ in rows]
        assert all(each["publishedAt"] for each in published)
        process.send_signal(signal.SIGINT)
        await process.communicate()
        assert process.returncode == 130


@pytest.mark.parametrize("hours", [1, -1])
async def test_ages_are_counted_by_the_databases_clock(
    new_migrated: NewMigrated, capsys: pytest.CaptureFixture[str], hours: int
) -> None:
    """As what is in it is dated, whatever the clock of the operator's machine says."""
    migrated = await asyncio.to_thread(new_migrated)
    await wrong_clock(migrated.owner, hours=hours)
    there = datetime.now(UTC) + timedelta(hours=hours)
    async with closing(Database(migrated.application)) as database:
        desk = Desk(database, migrated.application, capsys)
        await desk.begun(1, at=there - timedelta(minutes=5))
        await desk.begun(2, at=there - timedelta(minutes=50))
        assert await desk.bookings("--since", "15m") == [1]
        assert await desk.bookings("--until", "15m") == [2]
        _, out, _ = await desk.says("events", "--unpublished")
        waited = [int(seconds) for seconds in re.findall(r"waits for (\d+) s", out)]
        off = abs(timedelta(hours=hours).total_seconds())
        assert [seconds >= off for seconds in waited] == [hours > 0] * 2, "the events are dated by this machine"
