"""`payment-service check` and `payment-bridge check`: each problem in one sentence, before anything is started."""

import json
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import pytest

from service.adapters.postgres import newest_revision
from tests.integration.sandbox.harness import KEY, Running
from tests.kit.brokers import RoleUrl
from tests.kit.databases import Migrated, NewDatabase, NewMigrated
from tests.kit.programs import Ended, ended
from tools.devstack import postgres_server
from tools.devstack.rabbitmq_files import BRIDGE, CONSOLE, SERVICE

NOWHERE = "u:shown@127.0.0.1:1"


@pytest.fixture
def empty(new_database: NewDatabase) -> str:
    """A database without tables."""
    return new_database()


@pytest.fixture
def own(new_migrated: NewMigrated) -> Migrated:
    """A database of this test's own, with our tables."""
    return new_migrated()


Environment = Callable[[str, str], dict[str, str]]


@pytest.fixture
def service(sandbox: Running) -> Environment:
    """What the service needs to be told of a database and a broker."""
    known = {"STRIPE_API_KEY": KEY, "STRIPE_API_BASE": sandbox.url}
    return lambda database, amqp: {"DATABASE_URL": database, "AMQP_URL": amqp, **known}


async def set_revision(database: Migrated, revision: str) -> None:
    statement = f"UPDATE alembic_version SET version_num = '{revision}'"  # noqa: S608
    statement += f"; COMMENT ON TABLE alembic_version IS '{revision}'"
    await postgres_server.execute(database.owner, statement)


async def checked(program: str, **environment: str) -> Ended:
    said = await ended("-m", program, "check", **environment)
    assert "Traceback" not in said.said
    assert "shown" not in said.said
    return said


def with_password(url: str, password: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.username}:{password}@{parts.hostname}:{parts.port}").geturl()


async def test_what_can_be_used_is_said(migrated: Migrated, role_url: RoleUrl, service: Environment) -> None:
    said = await checked("service", **service(migrated.application, role_url(SERVICE)))
    assert (said.status, said.said) == (0, "The settings are valid, and database, RabbitMQ and Stripe can be used.\n")
    said = await checked("bridge", AMQP_URL=role_url(BRIDGE))
    assert (said.status, said.said) == (0, "The settings are valid, and RabbitMQ can be used.\n")


@pytest.mark.parametrize("program", ["service", "bridge", "console"])
async def test_a_program_reads_it_as_one_object(
    program: str, migrated: Migrated, role_url: RoleUrl, service: Environment
) -> None:
    user = {"service": SERVICE, "bridge": BRIDGE, "console": CONSOLE}[program]
    database = migrated.owner if program == "console" else migrated.application  # the service's role is not for it
    environment = {**service(database, role_url(user)), "LOG_FORMATT": "x"}
    for url, problems in {environment["AMQP_URL"]: 0, f"amqp://{NOWHERE}/": 1}.items():
        said = await ended("-m", program, "check", "--json", **environment | {"AMQP_URL": url})
        found = json.loads(said.said)
        assert (said.status, found["ok"], len(found["problems"])) == (problems, not problems, problems)
        assert found["warnings"] == ["LOG_FORMATT is not a setting: is LOG_FORMAT meant?"]


async def test_every_setting_is_told_at_once() -> None:
    said = await checked("service", AMQP_URL="amqp://guest:shown@broker.example/", SERVICE_PORT="http")
    assert said.status == 2
    assert [line.split()[0] for line in said.said.splitlines()[1:]] == [
        "AMQP_URL",
        "DATABASE_URL",
        "STRIPE_API_KEY",
        "SERVICE_PORT",
    ]
    said = await checked("bridge", AMQP_URL="amqp://guest:shown@broker.example/", BRIDGE_HOST="0.0.0.0")  # noqa: S104
    assert said.status == 2
    assert [line.split()[0] for line in said.said.splitlines()[1:]] == ["AMQP_URL", "BRIDGE_AUTH"]


async def test_servers_that_are_away_are_both_told(service: Environment) -> None:
    said = await checked("service", **service(f"postgresql://{NOWHERE}/payments", f"amqp://{NOWHERE}/payments"))
    assert said.status == 1
    assert sorted(said.said.splitlines()) == [
        "RabbitMQ (AMQP_URL) cannot be reached (AMQPConnectionError).",
        "The database (DATABASE_URL) cannot be reached (ConnectionRefusedError).",
    ]
    assert (await checked("bridge", AMQP_URL=f"amqp://{NOWHERE}/")).status == 1


async def test_the_url_by_which_it_listens_is_looked_at_as_well(
    migrated: Migrated, role_url: RoleUrl, service: Environment
) -> None:
    urls = {
        f"postgresql://{NOWHERE}/payments": "cannot be reached (ConnectionRefusedError)",
        with_password(migrated.application, "shown"): "refuses the role or its password",
    }
    for url, why in urls.items():
        said = await checked("service", **service(migrated.application, role_url(SERVICE)), DATABASE_LISTEN_URL=url)
        assert (said.status, said.said) == (1, f"The database (DATABASE_LISTEN_URL) {why}.\n")


async def test_stripes_word_on_the_key_is_told_and_its_silence_only_warns(
    migrated: Migrated, role_url: RoleUrl, service: Environment, sandbox: Running
) -> None:
    environment = service(migrated.application, role_url(SERVICE))
    await sandbox.control("config", {"revoked_keys": [KEY]})
    said = await checked("service", **environment)
    assert said.status == 1
    refused = "Stripe refuses STRIPE_API_KEY (AuthenticationError: status 401, code api_key_expired, request req_"
    assert said.said.startswith(refused)
    assert len(said.said.splitlines()) == 1
    for command in ("reconcile", "close booking:1 --reason gone"):
        tried = await ended("-m", "service", *command.split(), **environment)
        assert (tried.status, refused in tried.said) == (1, True), tried.said
    await sandbox.control("config", {"revoked_keys": [], "down": True})
    said = await checked("service", **environment)
    assert said == Ended(
        status=0,
        said=f"Stripe ({sandbox.url}) does not answer: nothing can be sold until it does.\n"
        "The settings are valid, and database and RabbitMQ can be used.\n",
    )


async def test_a_wrong_password_is_no_server_that_is_away(
    migrated: Migrated, role_url: RoleUrl, service: Environment
) -> None:
    wrong = service(with_password(migrated.application, "shown"), with_password(role_url(SERVICE), "shown"))
    said = await checked("service", **wrong)
    assert said.status == 1
    assert sorted(said.said.splitlines()) == [
        "RabbitMQ (AMQP_URL) refuses the user or its password.",
        "The database (DATABASE_URL) refuses the role or its password.",
    ]


async def test_a_database_or_virtual_host_that_is_not_there_is_told(
    migrated: Migrated, role_url: RoleUrl, service: Environment
) -> None:
    database = urlsplit(migrated.application)._replace(path="/shown").geturl()
    amqp = urlsplit(role_url(SERVICE))._replace(path="/shown").geturl()
    said = await checked("service", **service(database, amqp))
    assert said.status == 1
    assert sorted(said.said.splitlines()) == [
        (
            "RabbitMQ (AMQP_URL) does not let the user into the virtual host: none of that name, no right, "
            "or too many connections."
        ),
        "The database (DATABASE_URL) does not exist on that server.",
    ]


async def test_a_database_without_tables_needs_a_migration(empty: str, role_url: RoleUrl, service: Environment) -> None:
    said = await checked("service", **service(empty, role_url(SERVICE)))
    sentence = f"The database is at revision none, but {newest_revision()} is needed: run payment-service migrate.\n"
    assert (said.status, said.said) == (1, sentence)


async def test_a_role_that_may_not_migrate_is_told_so(own: Migrated, empty: str) -> None:
    if own.owner == own.application:
        pytest.skip("the user of DATABASE_URL may make no roles")
    without_tables = urlsplit(own.application)._replace(path=urlsplit(empty).path).geturl()
    lacking = {without_tables: "permission denied for schema public", own.application: "must be owner of table"}
    for url, why in lacking.items():
        said = await ended("-m", "service", "migrate", DATABASE_URL=url)
        assert said.status == 1
        assert said.said.startswith(f"payment-service: The role that migrates may not: {why}")
        assert said.said.endswith("see MIGRATION_DATABASE_URL.\n")
        assert len(said.said.splitlines()) == 1


async def test_the_migration_names_the_url_that_it_used(own: Migrated) -> None:
    for name in ("DATABASE_URL", "MIGRATION_DATABASE_URL"):
        urls = {"DATABASE_URL": own.application, name: with_password(own.application, "shown")}
        said = await ended("-m", "service", "migrate", **urls)
        sentence = f"payment-service: the database ({name}) refuses the role or its password.\n"
        assert (said.status, said.said) == (1, sentence)


FOREIGN: Final = "The database is at revision 0001, which no release has had: it cannot be migrated."
NEWER: Final = (
    f"The database is at revision 9999, and this version knows revisions up to {newest_revision()}: "
    "run the version that migrated it, or a newer one."
)


@pytest.mark.parametrize(("revision", "sentence"), [("0001", FOREIGN), ("9999", NEWER)])
async def test_a_database_of_another_version_is_refused(
    own: Migrated, role_url: RoleUrl, revision: str, sentence: str, service: Environment
) -> None:
    await set_revision(own, revision)
    environment = service(own.application, role_url(SERVICE))
    said = await checked("service", **environment)
    assert (said.status, said.said) == (1, f"{sentence}\n")
    running = await ended("-m", "service", "run", **environment)
    assert running.status == 1
    assert running.said.endswith(f"payment-service cannot start:\n{sentence}\n")


async def test_a_database_that_cannot_be_migrated_is_left_as_it_is(own: Migrated) -> None:
    for revision, sentence in (("0001", FOREIGN), ("9999", NEWER)):
        await set_revision(own, revision)
        said = await ended("-m", "service", "migrate", DATABASE_URL=own.owner)
        assert (said.status, said.said) == (1, f"payment-service: {sentence}\n")
    said = await ended("-m", "service", "migrate", DATABASE_URL=with_password(own.owner, "shown"))
    refused = "payment-service: the database (DATABASE_URL) refuses the role or its password.\n"
    assert (said.status, said.said) == (1, refused)
