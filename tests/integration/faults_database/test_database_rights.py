"""T2 The database refuses the service a right: named by log, health page and `check`, and no command is lost by it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from service.adapters.postgres import CONSOLE_GRANTED, GRANTED, Database
from service.adapters.postgres.fitness import problem_of
from service.adapters.postgres.privileges import lacking
from tests.integration.service.messages.rig import CREATE, Rig, a_create, around, serving
from tests.kit.databases import Migrated, NewMigrated
from tests.kit.lifetimes import closing
from tests.kit.until import until

MIGRATE = "refuses the role a right that it needs: run payment-service migrate with MIGRATION_DATABASE_URL"


@asynccontextmanager
async def serving_by_its_role(amqp_url: str, migrated: Migrated) -> AsyncIterator[Rig]:
    async with around(amqp_url, migrated.owner) as rig:
        settings = rig.settings.model_copy(update={"database_url": SecretStr(migrated.application)})
        async with serving(settings) as rig.service:
            yield rig


async def reason(rig: Rig) -> Any:
    return (await rig.ready()).json()["components"]["database"].get("details", {}).get("reason")


async def test_a_right_that_the_database_takes_away_is_named_and_costs_no_command(
    amqp_url: str, migrated: Migrated, caplog: pytest.LogCaptureFixture
) -> None:
    role = Database(migrated.application)
    async with closing(role), serving_by_its_role(amqp_url, migrated) as rig:
        [row] = await rig.sql("SELECT quote_ident($1) AS name", role_of(migrated.application))
        await until(rig.is_ready)
        assert await problem_of(role, GRANTED) is None
        await rig.sql(f"REVOKE INSERT ON payments FROM {row['name']}")
        try:
            assert await reason(rig) == f"it {MIGRATE} (INSERT of payments)"
            assert await problem_of(role, GRANTED) == f"The database (DATABASE_URL) {MIGRATE} (INSERT of payments)."
            fault = await rig.ask(CREATE, a_create())
            assert (fault.document["code"], fault.document["retryable"]) == ("SERVICE_UNAVAILABLE", True)
            assert f"the database {MIGRATE} (permission denied for table payments)" in caplog.text
            command = a_create()
            await rig.send(CREATE, command)
        finally:
            await rig.sql(f"GRANT INSERT ON payments TO {row['name']}")
        await until(lambda: rig.payments_of(command["bookingId"]))
        await until(rig.is_ready)


def role_of(url: str) -> str:
    return url.partition("://")[2].partition(":")[0]


async def test_a_role_lacks_what_it_was_not_granted_by_table_and_by_column(new_migrated: NewMigrated) -> None:
    migrated = await asyncio.to_thread(new_migrated)
    async with (
        closing(await asyncpg.connect(migrated.owner)) as owner,
        closing(Database(migrated.application)) as database,
    ):
        assert await lacking(database, GRANTED) == []
        name = await owner.fetchval("SELECT quote_ident($1)", role_of(migrated.application))
        change = owner.transaction()
        await change.start()
        await owner.execute(f"REVOKE UPDATE (sent_at) ON outbox FROM {name}")
        await owner.execute(f"REVOKE ALL ON feed FROM {name}")
        await change.commit()
        all_of_feed = ["SELECT of feed", "INSERT of feed", "UPDATE of feed"]
        assert await lacking(database, GRANTED) == ["UPDATE of outbox", *all_of_feed]
        assert await lacking(database, {"feed": ("SELECT",), "no_such_table": ("SELECT",)}) == ["SELECT of feed"]
        assert await lacking(database, {"payments": ("SELECT", "DELETE", "UPDATE (status, no_such_column, id)")}) == [
            "DELETE of payments",
            "UPDATE of payments",
        ]
    async with closing(Database(migrated.owner)) as database:
        assert await lacking(database, {**GRANTED, **CONSOLE_GRANTED}) == []


async def test_what_the_database_says_is_told_in_its_words_and_not_again_and_again(
    amqp_url: str, migrated: Migrated, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk, for one, of which its reads know nothing."""
    async with serving_by_its_role(amqp_url, migrated) as rig:
        await rig.sql("""CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$""")
        await rig.sql("CREATE TRIGGER full_disk BEFORE INSERT ON payments EXECUTE FUNCTION full_disk()")
        try:
            for _ in range(3):
                fault = await rig.ask(CREATE, a_create())
                assert (fault.document["code"], fault.document["retryable"]) == ("SERVICE_UNAVAILABLE", True)
        finally:
            await rig.sql("DROP FUNCTION full_disk CASCADE")
    told = [each.getMessage() for each in caplog.records if "No space left" in each.getMessage()]
    assert told[0] == "the database says 53100: could not extend file: No space left on device"
    assert len(told) < 3
