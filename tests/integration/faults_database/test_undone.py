"""What the database undoes because of others is repeated whole, a few times."""

import asyncio
import functools
import itertools
import os

import asyncpg
import pytest

from service.adapters.store.database import TRIES
from service.domain.errors import StoreUnavailableError
from tests.integration.faults_database.conftest import Far
from tests.integration.service.messages.rig import until
from tests.integration.service.ports.test_store import begun
from tests.service_support import a_draft, message_key

_bookings = itertools.count(os.getpid() * 1_000_000 + 800_001)
INJECTED = """
CREATE SEQUENCE tries;
CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('tries') <= {times} THEN RAISE EXCEPTION 'injected' USING ERRCODE = '{state}'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER undo BEFORE INSERT ON payments FOR EACH ROW EXECUTE FUNCTION undo();
"""
REMOVED = "DROP TRIGGER undo ON payments; DROP FUNCTION undo(); DROP SEQUENCE tries;"
UNDONE = ["40P01", "40001", "55P03"]


async def tried(far: Far, url: str, state: str, times: int) -> int:
    """How often a create was tried, the first so many of which the database undoes."""
    admin = await asyncpg.connect(url)
    await admin.execute(INJECTED.format(times=times, state=state))
    try:
        await begun(far.store, a_draft(booking_id=next(_bookings)), message_key())
    finally:
        count = await admin.fetchval("SELECT last_value FROM tries")
        await admin.execute(REMOVED)
        await admin.close()
    return int(count)


@pytest.mark.parametrize("state", UNDONE)
async def test_a_transaction_that_the_database_undid_is_repeated(far: Far, migrated_url: str, state: str) -> None:
    """F38 Deadlock, serialization failure and lock timeout: repeated whole, three times at most."""
    assert await tried(far, migrated_url, state, TRIES - 1) == TRIES


@pytest.mark.parametrize("state", [*UNDONE, "53100"])
async def test_a_transaction_that_is_undone_again_and_again_is_left_to_the_caller(
    far: Far, migrated_url: str, state: str
) -> None:
    """F38 A fourth try would only add to the crowd; of a full disk (F39) there is not even a second."""
    with pytest.raises(StoreUnavailableError):
        await tried(far, migrated_url, state, TRIES + 1)


async def test_a_migration_under_load_costs_no_create(far: Far, migrated_url: str) -> None:
    """F41 Plans that an ALTER makes invalid are made anew, and nothing is lost."""
    admin = await asyncpg.connect(migrated_url)
    done = asyncio.Event()
    counts = {"created": 0}

    async def creates() -> None:
        while not done.is_set():
            made = await begun(far.store, a_draft(booking_id=next(_bookings)), message_key())
            assert await far.store.payment(made.payment.id) is not None
            counts["created"] += 1

    loads = [asyncio.create_task(creates()) for _ in range(4)]
    for number in range(5):
        await admin.execute(f"ALTER TABLE payments ADD COLUMN extra_{number} int")
        await until(functools.partial(_reached, counts, counts["created"] + 20))
        await admin.execute(f"ALTER TABLE payments ALTER COLUMN extra_{number} TYPE bigint")
    done.set()
    await asyncio.gather(*loads)
    for number in range(5):
        await admin.execute(f"ALTER TABLE payments DROP COLUMN extra_{number}")
    await admin.close()
    assert counts["created"] >= 100


def _reached(counts: dict[str, int], enough: int) -> bool:
    return counts["created"] >= enough
