"""T17 A list of hosts: the one that takes writes is found, whatever the others are."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from runtime import connection_urls
from service.adapters.postgres import GRANTED, Database, PostgresListener, PostgresStore, migrate
from service.adapters.postgres.fitness import problem_of
from service.domain.errors import StoreUnavailableError
from tests.integration.service.ports.test_store import BOOKINGS, begun
from tests.kit.lifetimes import beside, closing
from tests.kit.pairs import DATABASE, Pair, a_pair
from tests.kit.service import a_draft
from tests.kit.until import until
from tools.devstack import processes

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    async with a_pair(Path(tmp_path_factory.mktemp("pair"))) as pair:
        await migrate(pair.url)
        yield pair


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Where connections are accepted and nothing is ever said: a host that was switched off, to its callers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def listed(pair: Pair, *ports: int) -> str:
    login = pair.primary.url(DATABASE).partition("@")[0]
    return f"{login}@{','.join(f'127.0.0.1:{port}' for port in ports)}/{DATABASE}"


async def test_the_host_that_takes_writes_is_found_among_others(pair: Pair, silent_port: int) -> None:
    (closed,) = processes.free_ports(1)
    primary, standby = pair.primary.port, pair.standby.port
    for ports in ([primary], [standby, primary], [closed, silent_port, standby, primary], [primary, silent_port]):
        async with closing(Database(listed(pair, *ports))) as database:
            await asyncio.gather(*(database.ping() for _ in range(10)))
            assert (await begun(PostgresStore(database), a_draft(booking_id=next(BOOKINGS)))).payment
            assert await problem_of(database, GRANTED) is None


async def test_the_spelling_with_a_list_of_ports_means_the_same(pair: Pair) -> None:
    login = pair.primary.url().partition("@")[0].replace("postgresql://", "postgresql+asyncpg://")
    url = f"{login}@/{DATABASE}?host=127.0.0.1,localhost&port={pair.standby.port},{pair.primary.port}"
    assert len(connection_urls.database_hosts(url)) == 2
    async with closing(Database(url)) as database:
        await database.ping()


async def test_where_no_host_takes_writes_the_one_that_says_so_is_told(pair: Pair, silent_port: int) -> None:
    (closed,) = processes.free_ports(1)
    for ports in ([pair.standby.port], [closed, pair.standby.port, silent_port]):
        async with closing(Database(listed(pair, *ports))) as database:
            with pytest.raises(StoreUnavailableError):
                await database.ping()
            assert await problem_of(database, GRANTED) == "The database (DATABASE_URL) accepts no writes."


async def test_notifications_come_from_the_host_that_takes_writes(pair: Pair) -> None:
    heard: list[str] = []
    listener = PostgresListener(pair.url, on_notification={"a_channel": heard.append}, on_reconnect=lambda: None)
    async with closing(Database(pair.url)) as database, beside(listener.run()):
        await listener.wait(60)
        async with database.engine.connect() as connection:
            await connection.exec_driver_sql("NOTIFY a_channel, 'here'")
            await connection.commit()
        await until(lambda: heard == ["here"])
