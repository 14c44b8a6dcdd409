"""PostgreSQL for the tests: one server for a run, a database for each module, and private servers to be killed."""

import asyncio
import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from service.adapters.postgres import migrate
from tests.kit import canary
from tests.kit.servers import PrivateServer, run, shared
from tools.devstack import postgres_server


@dataclass(frozen=True, kw_only=True)
class Migrated:
    """A database with our tables, for the role that owns them and for the role of the service."""

    owner: str
    application: str


NewDatabase = Callable[[], str]
NewMigrated = Callable[[], Migrated]


@pytest.fixture(scope="session")
def postgres_url(servers_folder: Path) -> str:
    """The server of this run, for a user who may create databases."""
    if named := os.environ.get("DATABASE_URL"):
        return named

    def start() -> str:
        canary.put_password(servers_folder / "postgres", "password", "application-password")
        return postgres_server.record(run(postgres_server.start(servers_folder / "postgres", durable=False)))

    return postgres_server.recorded(shared(servers_folder, "postgres", start)).url()


@pytest.fixture(scope="session")
def application(postgres_url: str) -> Iterator[tuple[str, str]]:
    """The name and password of a role that owns nothing; the server's own user where that may make no roles."""
    may = "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
    if run(postgres_server.execute(postgres_url, may)) != "t":
        address = urlsplit(postgres_url)
        yield address.username or "", address.password or ""
        return
    name, password = f"bookticket_test_{uuid.uuid4().hex[:12]}", canary.secret("role")
    run(postgres_server.make_role(postgres_url, name, password))
    yield name, password
    run(postgres_server.execute(postgres_url, f'DROP ROLE "{name}"'))


class Databases:
    """Makes databases on a server, and drops them all."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._urls: list[str] = []

    def make(self, template: str = "") -> str:
        name = f"bookticket_test_{uuid.uuid4().hex[:12]}"
        like = f' TEMPLATE "{urlsplit(template).path[1:]}"' if template else ""
        run(postgres_server.execute(self._server, f'CREATE DATABASE "{name}"{like}'))
        self._urls.append(urlsplit(self._server)._replace(scheme="postgresql", path=f"/{name}").geturl())
        return self._urls[-1]

    async def drop(self) -> list[str]:
        """Where secrets were in them."""
        few = asyncio.Semaphore(4)

        async def one(url: str) -> list[str]:
            async with few:
                leaks = await canary.leaks_in_database(url)
                name = urlsplit(url).path[1:]
                await postgres_server.execute(self._server, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            return leaks

        return [leak for leaks in await asyncio.gather(*map(one, self._urls)) for leak in leaks]


@pytest.fixture(scope="session")
def databases_of_run(
    postgres_url: str,
    application: tuple[str, str],  # noqa: ARG001 - PostgreSQL drops a role only after the databases that grant to it
) -> Iterator[Databases]:
    databases = Databases(postgres_url)
    yield databases
    assert run(databases.drop()) == []


@pytest.fixture(scope="session")
def new_database(databases_of_run: Databases) -> NewDatabase:
    """Makes an empty database at each call: `postgresql://user:password@host:port/name`."""
    return databases_of_run.make


@pytest.fixture(scope="session")
def new_migrated(application: tuple[str, str], databases_of_run: Databases) -> NewMigrated:
    """Makes a database with our tables at each call: a copy of one that `migrate` made for the two roles."""
    name, password = application
    template = databases_of_run.make()
    run(migrate(template, application=name))

    def create() -> Migrated:
        owner = databases_of_run.make(template)
        address = urlsplit(owner)
        netloc = f"{name}:{password}@{address.netloc.rpartition('@')[2]}"
        return Migrated(owner=owner, application=address._replace(netloc=netloc).geturl())

    return create


@pytest.fixture(scope="module")
def migrated(new_migrated: NewMigrated) -> Migrated:
    """A database of this module's own, with our tables."""
    return new_migrated()


@pytest.fixture(scope="module")
def migrated_url(migrated: Migrated) -> str:
    """The same for the role of the service."""
    return migrated.application


@pytest.fixture(scope="session")
def database_url(new_database: NewDatabase) -> str:
    """An empty database of this worker's own."""
    return new_database()


async def wrong_clock(owner_url: str, *, hours: int) -> None:
    """Let the clock of a test's own database be off, for every session that begins from now on."""
    name = urlsplit(owner_url).path.removeprefix("/")
    off = f"SELECT pg_catalog.clock_timestamp() + interval '{hours} hours'"
    made = f"CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $${off}$$"
    await postgres_server.execute(owner_url, made)
    await postgres_server.execute(owner_url, f'ALTER DATABASE "{name}" SET search_path = public, pg_catalog')


@pytest.fixture(scope="session", name="postgres")
def private_postgres(servers_folder: Path, worker: str) -> Iterator[PrivateServer]:
    """A database server for tests of faults. The test that stops it starts it again."""
    folder = servers_folder / f"postgres-{worker}"
    canary.put_password(folder, "password", "application-password")
    server = PrivateServer(postgres_server, folder, database="payments")
    yield server
    assert not run(canary.leaks_in_database(server.url))
    server.stop()
