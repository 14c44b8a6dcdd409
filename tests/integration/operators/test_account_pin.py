"""A database belongs to the account of Stripe's, and the mode, that it was first used with."""

from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from service import pinning
from service.adapters.postgres import Database, PostgresStore, move_pin, pin, pinned
from service.domain.gateway_account import GatewayAccount
from service.settings import Settings
from service.startup import StartError
from tests.integration.sandbox.harness import KEY, Running, running_sandbox
from tests.integration.service.messages.rig import around, serving
from tests.integration.service.ports.test_store import begun, opened
from tests.kit.brokers import RoleUrl
from tests.kit.databases import NewMigrated
from tests.kit.lifetimes import closing
from tests.kit.programs import Ended, ended
from tests.kit.service import a_draft
from tests.kit.until import until
from tools.devstack.rabbitmq_files import SERVICE
from tools.sandbox.accounts import THE_ACCOUNT

OTHER_KEY, OTHER = "rk_test_ofAnotherAccount", "acct_1Other"
OURS = GatewayAccount(livemode=False, id=THE_ACCOUNT)
REFUSED = (
    f"The database (DATABASE_URL) belongs to Stripe's account {THE_ACCOUNT} in test mode, and STRIPE_API_KEY to account"
    f" {OTHER} in test mode: set the two that belong together, or see payment-service move-account."
)


@pytest.fixture
def url(new_migrated: NewMigrated) -> str:
    """A database of this test's own that no service has used, by the service's role."""
    return new_migrated().application


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    async with closing(Database(url)) as database:
        yield database


@pytest.fixture
async def sandbox() -> AsyncIterator[Running]:
    async with running_sandbox() as sandbox:
        await sandbox.control("config", {"accounts": {OTHER_KEY: OTHER}})
        yield sandbox


def with_key(settings: Settings, key: str) -> Settings:
    return settings.model_copy(update={"stripe_api_key": SecretStr(key)})


async def test_a_database_is_served_only_with_the_account_and_mode_that_it_was_first_used_with(
    amqp_url: str, url: str, database: Database
) -> None:
    async with around(amqp_url, url) as rig:
        await rig.sandbox.control("config", {"accounts": {OTHER_KEY: OTHER}})
        for _ in range(2):
            async with serving(rig.settings) as rig.service:
                await until(rig.is_ready)
                assert await pinned(database) == OURS
        with pytest.raises(StartError) as refused:
            async with serving(with_key(rig.settings, OTHER_KEY)):
                pass
        assert str(refused.value) == REFUSED
        # The sandbox refuses live keys as Stripe refuses wrong ones: the mode needs no answer.
        live = await pinning.problem_of(
            database, *await pinning.account_of(with_key(rig.settings, "rk_live_ofWhomever"))
        )
        assert live is not None
        assert f"belongs to Stripe's account {THE_ACCOUNT} in test mode, and STRIPE_API_KEY to live mode" in live
        assert await pinned(database) == OURS


async def test_a_start_without_stripe_serves_and_ends_as_soon_as_stripe_names_another_account(
    amqp_url: str, url: str, database: Database
) -> None:
    async with around(amqp_url, url) as rig:
        await rig.sandbox.control("config", {"accounts": {OTHER_KEY: OTHER}, "down": True})
        async with serving(rig.settings) as service:
            rig.service = service
            await until(rig.is_ready)
            assert await pinned(database) == GatewayAccount(livemode=False, id=None)
            await rig.sandbox.control("config", {"down": False})

            async def learnt() -> bool:
                return await pinned(database) == OURS

            await until(learnt)
            assert not service.failed.is_set()
        await rig.sandbox.control("config", {"down": True})
        async with serving(with_key(rig.settings, OTHER_KEY)) as service:
            rig.service = service
            await until(rig.is_ready)
            assert not service.failed.is_set()
            await rig.sandbox.control("config", {"down": False})
            await until(service.failed.is_set)


async def test_check_says_whose_the_database_is_and_move_account_moves_it_if_no_payment_forbids_it(
    url: str, role_url: RoleUrl, database: Database, sandbox: Running
) -> None:
    async def said(command: str, key: str) -> Ended:
        environment = {"DATABASE_URL": url, "AMQP_URL": role_url(SERVICE), "STRIPE_API_BASE": sandbox.url}
        return await ended("-m", "service", *command.split(), STRIPE_API_KEY=key, **environment)

    usable = "The settings are valid, and database, RabbitMQ and Stripe can be used.\n"
    assert (await said("check", KEY)).said == usable
    assert await pinned(database) is None
    await pin(database, OURS)
    assert (await said("check", KEY)).said == f"{usable}The database belongs to Stripe's {OURS}.\n"
    assert await said("check", OTHER_KEY) == Ended(status=1, said=f"{REFUSED}\n")
    for command in ("reconcile", "close booking:1 --reason gone"):
        refused = await said(command, OTHER_KEY)
        assert (refused.status, REFUSED in refused.said) == (1, True), refused.said

    await opened(PostgresStore(database), 1)
    refused = await said("move-account", OTHER_KEY)
    assert (refused.status, await pinned(database)) == (1, OURS)
    assert refused.said.startswith(f"The database stays with Stripe's {OURS}: it holds payments that are PENDING")
    async with database.transaction() as connection:
        await connection.exec_driver_sql("UPDATE payments SET status = 'FAILED', reason = 'expired', version = 2")
    moved = await said("move-account", OTHER_KEY)
    theirs = f"account {OTHER} in test mode"
    assert moved == Ended(status=0, said=f"The database belonged to Stripe's {OURS}, and belongs to {theirs}.\n")
    assert (await said("check", OTHER_KEY)).said == f"{usable}The database belongs to Stripe's {theirs}.\n"


async def test_what_was_paid_in_one_mode_never_counts_in_the_other(database: Database) -> None:
    live = GatewayAccount(livemode=True, id=OTHER)
    await pin(database, OURS)
    assert await move_pin(database, live)
    assert await move_pin(database, OURS)
    await begun(PostgresStore(database), a_draft(booking_id=1))
    async with database.transaction() as connection:
        await connection.exec_driver_sql("UPDATE payments SET status = 'FAILED', reason = 'expired', version = 1")
    assert not await move_pin(database, live)
    assert await pinned(database) == OURS
