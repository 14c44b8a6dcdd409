"""Real servers for the tests: one PostgreSQL and one RabbitMQ per test run, started by the first test that needs them.

All pytest-xdist workers share them, each in a database and a virtual host of its own. With AMQP_URL or DATABASE_URL
set, the servers named there are used instead. Nothing is left behind: the controller ends what the workers started.
"""

import asyncio
import fcntl
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest

from deploy.local import postgres, rabbitmq
from service.adapters.store import migrate
from tests import canary
from tests.leaks import FOLDERS, pytest_runtest_makereport, pytest_sessionfinish  # noqa: F401 - hooks
from tests.tls import write_certificate

Result = TypeVar("Result")
SERVERS = pytest.StashKey[Path]()
RIGHTS = "rights"
"""A virtual host in which the one test of the users' rights makes and removes what it likes."""


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Runs a coroutine to its end and leaves pytest-asyncio's idea of the current loop alone. Ctrl-C cancels it."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(coroutine)


# --- one folder per test run, known to the controller and to every worker -------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--crash-runs",
        type=int,
        default=2,
        help="how often each fail point kills a service; beyond 4 also the number of rolling restarts",
    )
    parser.addoption("--guesses", type=int, default=100, help="how many ids of payments somebody guesses")
    parser.addoption(
        "--cases", type=int, default=120, help="how many requests and how many messages `tests/fuzz` draws"
    )
    parser.addoption("--seed", type=int, default=1, help="what `tests/fuzz` draws them from")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What mostly waits begins first, so that one worker does not wait for it alone in the end."""
    items.sort(key=lambda item: "interop" not in item.path.parts)


def pytest_configure(config: pytest.Config) -> None:
    workerinput = getattr(config, "workerinput", None)
    folder = workerinput["servers"] if workerinput else tempfile.mkdtemp(prefix="bookticket-tests-")
    config.stash[SERVERS] = Path(folder)
    config.stash[FOLDERS] = [Path(folder)]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["servers"] = str(node.config.stash[SERVERS])


def pytest_unconfigure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return
    folder = config.stash[SERVERS]
    # Also what a worker started and was killed before it could say so: the pid files are written first.
    for pid_file in folder.glob("**/rabbitmq.pid"):
        run(rabbitmq.stop(pid_file.parent))
    for pid_file in folder.glob("**/epmd.pid"):
        run(rabbitmq.stop(pid_file.parent))
    for pid_file in folder.glob("**/postgres.pid"):
        run(postgres.stop(pid_file.parent))
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One worker at a time."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def shared(folder: Path, name: str, start: Callable[[], str]) -> str:
    """What `start` returned to the first worker that asked, for all of them."""
    record = folder / f"{name}.json"
    with alone(folder):
        if not record.exists():
            record.write_text(start())
        return record.read_text()


@pytest.fixture(scope="session")
def servers_folder(pytestconfig: pytest.Config) -> Path:
    """Where the servers of this test run live."""
    return pytestconfig.stash[SERVERS]


@pytest.fixture(scope="session")
def worker() -> str:
    """The name of this pytest-xdist worker, `gw0` without workers."""
    return os.environ.get("PYTEST_XDIST_WORKER", "gw0")


# --- servers shared by the workers ----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def rabbitmq_node(servers_folder: Path) -> rabbitmq.Node:
    """The broker of this test run, which also listens with TLS; skipped where AMQP_URL names another."""
    if os.environ.get("AMQP_URL"):
        pytest.skip("AMQP_URL names a broker, whose users and certificates are not ours")
    vhosts = [f"gw{number}" for number in range(int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))]
    vhosts.append(RIGHTS)
    folder = servers_folder / "rabbitmq"

    def start() -> str:
        write_certificate(folder / "tls")
        canary.put_broker_passwords(folder)
        return rabbitmq.record(run(rabbitmq.start(folder, vhosts=vhosts, tls=True)))

    return rabbitmq.recorded(shared(servers_folder, "rabbitmq", start))


@pytest.fixture(scope="session")
def amqp_url(request: pytest.FixtureRequest, worker: str) -> str:
    """A real RabbitMQ: a virtual host of this worker's own, or the one that AMQP_URL names, as it is."""
    if named := os.environ.get("AMQP_URL"):
        return named
    node: rabbitmq.Node = request.getfixturevalue("rabbitmq_node")
    return node.url(worker)


RoleUrl = Callable[[str], str]


@pytest.fixture(scope="session")
def role_url(request: pytest.FixtureRequest, worker: str) -> RoleUrl:
    """`amqp_url` by the user of one part (`deploy/rabbitmq`); as it is, if AMQP_URL names it."""
    if named := os.environ.get("AMQP_URL"):
        return lambda _: named
    node: rabbitmq.Node = request.getfixturevalue("rabbitmq_node")
    return lambda user: node.url(worker, user=user)


@pytest.fixture(scope="session")
def postgres_url(servers_folder: Path) -> str:
    """A real PostgreSQL: its address with a user who may create databases."""
    if named := os.environ.get("DATABASE_URL"):
        return named

    def start() -> str:
        canary.put_password(servers_folder / "postgres", "password", "application-password")
        return postgres.record(run(postgres.start(servers_folder / "postgres", durable=False)))

    return postgres.recorded(shared(servers_folder, "postgres", start)).url()


@pytest.fixture(scope="session")
def new_database(
    postgres_url: str,
    application: tuple[str, str],  # noqa: ARG001 - its role can be dropped only when the databases are gone
) -> Iterator[Callable[[], str]]:
    """Makes an empty database at each call (`postgresql://user:password@host:port/name`); drops all at the end."""
    names: list[str] = []

    def create() -> str:
        name = f"bookticket_test_{uuid.uuid4().hex[:12]}"
        run(postgres.execute(postgres_url, f'CREATE DATABASE "{name}"'))
        names.append(name)
        return urlsplit(postgres_url)._replace(scheme="postgresql", path=f"/{name}").geturl()

    yield create
    for name in names:
        assert not run(canary.leaks_in_database(urlsplit(postgres_url)._replace(path=f"/{name}").geturl()))
        run(postgres.execute(postgres_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))


@dataclass(frozen=True, kw_only=True)
class Migrated:
    """A database with our tables: by the role that owns them, and by the one that the service has."""

    owner: str
    application: str


@pytest.fixture(scope="session")
def application(postgres_url: str) -> Iterator[tuple[str, str]]:
    """The name and password of a role that owns nothing; those of the server named, if that user may make no roles."""
    may = "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
    if run(postgres.execute(postgres_url, may)) != "t":
        address = urlsplit(postgres_url)
        yield address.username or "", address.password or ""
        return
    name = f"bookticket_test_{uuid.uuid4().hex[:12]}"
    password = canary.secret("role")
    run(postgres.make_role(postgres_url, name, password))
    yield name, password
    run(postgres.execute(postgres_url, f'DROP ROLE "{name}"'))


@pytest.fixture(scope="session")
def new_migrated(application: tuple[str, str], new_database: Callable[[], str]) -> Callable[[], Migrated]:
    """Makes a database with our tables at each call, as `payment-service migrate` does with two roles."""

    def create() -> Migrated:
        owner = new_database()
        name, password = application
        run(migrate(owner, application=name))
        address = urlsplit(owner)
        netloc = f"{name}:{password}@{address.netloc.rpartition('@')[2]}"
        return Migrated(owner=owner, application=address._replace(netloc=netloc).geturl())

    return create


@pytest.fixture(scope="session")
def database_url(new_database: Callable[[], str]) -> str:
    """An empty database of this worker's own, for the whole test run."""
    return new_database()


# --- private servers, for tests of faults ---------------------------------------------------------------------------


class PrivateRabbitMQ:
    """A node that no other worker uses, so a test may do to it whatever happens to brokers. It keeps its port and data.

    The methods block: `await asyncio.to_thread(rabbitmq.kill)` where the loop has to go on. A quorum queue must be
    some 25 s old before `kill`, or RabbitMQ 3.10 loses its leader, whatever we do.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        canary.put_broker_passwords(folder)
        self._node = run(rabbitmq.start(folder))
        self.url = self._node.url()

    @property
    def pid(self) -> int:
        return self._node.pid

    def stop(self) -> None:
        run(rabbitmq.stop(self._folder))

    def kill(self) -> None:
        run(rabbitmq.kill(self._folder))

    def start(self) -> None:
        self._node = run(rabbitmq.start(self._folder, port=self._node.port))


class PrivatePostgres:
    """A server that no other worker uses, to be stopped, killed and started by tests. It keeps its port and data."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        canary.put_password(folder, "password", "application-password")
        self._server = run(postgres.start(folder, database="payments"))
        self.url = self._server.url("payments")

    @property
    def pid(self) -> int:
        return self._server.pid

    def stop(self) -> None:
        run(postgres.stop(self._folder))

    def kill(self) -> None:
        run(postgres.kill(self._folder))

    def start(self) -> None:
        self._server = run(postgres.start(self._folder, port=self._server.port))


@pytest.fixture(scope="session", name="rabbitmq")
def private_rabbitmq(servers_folder: Path, worker: str) -> Iterator[PrivateRabbitMQ]:
    """A broker for tests of faults. The test that stops it starts it again."""
    node = PrivateRabbitMQ(servers_folder / f"rabbitmq-{worker}")
    yield node
    node.stop()


@pytest.fixture(scope="session", name="postgres")
def private_postgres(servers_folder: Path, worker: str) -> Iterator[PrivatePostgres]:
    """A database server for tests of faults. The test that stops it starts it again."""
    server = PrivatePostgres(servers_folder / f"postgres-{worker}")
    yield server
    assert not run(canary.leaks_in_database(server.url))
    server.stop()
