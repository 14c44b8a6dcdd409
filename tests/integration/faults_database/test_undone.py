"""A transaction that the database rolls back because of others is repeated whole, a few times."""

import asyncio

import asyncpg
import pytest

from service.adapters.postgres.database import TRIES
from service.domain.errors import StoreUnavailableError
from tests.integration.faults_database.conftest import Far
from tests.integration.service.messages.rig import until
from tests.integration.service.ports.test_store import BOOKINGS, begun
from tests.kit.service import a_draft

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


async def tried(far: Far, admin: asyncpg.Connection, state: str, times: int) -> int:
    """The number of tries of a create whose first `times` tries the database rolls back."""
    await admin.execute(INJECTED.format(times=times, state=state))
    try:
        await begun(far.store, a_draft(booking_id=next(BOOKINGS)))
    finally:
        count = await admin.fetchval("SELECT last_value FROM tries")
        await admin.execute(REMOVED)
    return int(count)


@pytest.mark.parametrize("state", UNDONE)
async def test_a_transaction_that_the_database_undid_is_repeated(
    far: Far, admin: asyncpg.Connection, state: str
) -> None:
    """F38 Deadlock, serialization failure and lock timeout: repeated whole, three times at most."""
    assert await tried(far, admin, state, TRIES - 1) == TRIES


@pytest.mark.parametrize("state", [*UNDONE, "53100"])
async def test_a_transaction_that_is_undone_again_and_again_is_left_to_the_caller(
    far: Far, admin: asyncpg.Connection, state: str
) -> None:
    """F38 A fourth try would only add to the load; a full disk (F39) is not even tried twice."""
    with pytest.raises(StoreUnavailableError):
        await tried(far, admin, state, TRIES + 1)


async def test_a_migration_under_load_costs_no_create(far: Far, admin: asyncpg.Connection) -> None:
    """F41 Plans that an ALTER invalidates are made anew, and nothing is lost."""
    done = asyncio.Event()
    created: list[int] = []

    async def creates() -> None:
        while not done.is_set():
            made = await begun(far.store, a_draft(booking_id=next(BOOKINGS)))
            assert await far.store.payment(made.payment.id) is not None
            created.append(made.payment.id)

    loads = [asyncio.create_task(creates()) for _ in range(4)]
    for number in range(5):
        await admin.execute(f"ALTER TABLE payments ADD COLUMN extra_{number} int")
        enough = len(created) + 20
        await until(lambda enough=enough: len(created) >= enough)
        await admin.execute(f"ALTER TABLE payments ALTER COLUMN extra_{number} TYPE bigint")
    done.set()
    await asyncio.gather(*loads)
    for number in range(5):
        await admin.execute(f"ALTER TABLE payments DROP COLUMN extra_{number}")
    assert len(created) >= 100
