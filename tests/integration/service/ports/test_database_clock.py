"""T7 What replicas compare is the database's clock, whatever the machine's says."""

import logging
import time
from datetime import UTC, datetime, timedelta

import pytest

from service.adapters.postgres import Database, DatabaseClock, PostgresStore
from service.workers.sweeper import UNOPENED_AFTER
from tests.integration.service.ports.test_store import begun
from tests.kit.clock import MovableClock, Seconds
from tests.kit.service import a_draft

SKEWS = [timedelta(minutes=16), timedelta(minutes=6), timedelta(hours=1)]


async def database_now(database: Database) -> datetime:
    async with database.engine.connect() as connection:
        now: datetime = (await connection.exec_driver_sql("SELECT clock_timestamp()")).scalar_one()
        return now


@pytest.mark.parametrize("skew", [*SKEWS, *(-skew for skew in SKEWS)], ids=str)
async def test_a_replica_whose_clock_is_wrong_uses_the_databases_and_says_so_once(
    database: Database, caplog: pytest.LogCaptureFixture, skew: timedelta
) -> None:
    caplog.set_level(logging.INFO)
    ahead = timedelta()
    clock = DatabaseClock(database, machine=lambda: datetime.now(UTC) + ahead)
    for ahead in (skew, skew, timedelta()):
        before, began = await database_now(database), time.monotonic()
        await clock.measure()
        unknown = timedelta(seconds=time.monotonic() - began)  # when the database looked at its clock meanwhile
        assert before - unknown <= clock.now() <= await database_now(database) + unknown
        assert clock.skew is not None
        assert abs(clock.skew - ahead) < timedelta(seconds=20)
    told = [record.getMessage() for record in caplog.records if record.name.endswith("database_clock")]
    assert [line.partition(" s ")[0] for line in told] == [
        told[0].partition(" s ")[0],
        "this machine's clock and the database's agree again",
    ]
    assert told[0].startswith(f"this machine's clock is {'+' if skew > timedelta() else '-'}")


async def test_a_step_of_the_machines_clock_moves_nothing_between_two_measurements(database: Database) -> None:
    machine, seconds = MovableClock(), Seconds()
    clock = DatabaseClock(database, machine=machine.now, monotonic=seconds)
    await clock.measure()
    before = clock.now()
    machine.advance(3600)
    assert clock.now() == before
    seconds.now += 5
    assert clock.now() == before + timedelta(seconds=5)


async def test_a_replica_that_is_ahead_ends_no_open_checkout(database: Database, booking: int) -> None:
    """The sweeper's claim, as a replica makes it whose clock is 16 minutes ahead."""
    store = PostgresStore(database)
    clock = DatabaseClock(database, machine=lambda: datetime.now(UTC) + timedelta(minutes=16))
    await clock.measure()
    now = clock.now()
    until = {"expires_at": now + timedelta(minutes=35), "pay_until": now + timedelta(minutes=15)}
    payment = (await begun(store, a_draft(booking_id=booking, created_at=now, **until))).payment
    claimed = await store.claim_unfinished(at=clock.now(), unopened_before=clock.now() - UNOPENED_AFTER, limit=1000)
    assert payment.id not in {each.id for each in claimed}
    wrong = clock.now() + timedelta(minutes=16)
    claimed = await store.claim_unfinished(at=wrong, unopened_before=wrong - UNOPENED_AFTER, limit=1000)
    assert payment.id in {each.id for each in claimed}
