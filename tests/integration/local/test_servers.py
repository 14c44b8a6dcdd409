"""The servers that every other integration test stands on."""

from collections.abc import Callable

import aio_pika
import asyncpg
import pytest

from deploy.local import processes
from deploy.local.postgres import execute
from deploy.local.processes import LocalError
from tests.conftest import PrivatePostgres, PrivateRabbitMQ, run


async def test_a_message_makes_its_way_through_the_broker(amqp_url: str) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        await channel.default_exchange.publish(aio_pika.Message(b"hello"), routing_key=queue.name)
        message = await queue.get(timeout=5)
        assert message.body == b"hello"


async def test_the_database_is_an_empty_one_of_postgresql_15_or_later(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        assert connection.get_server_version().major >= 15
        assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    finally:
        await connection.close()


def test_every_new_database_is_another_one(new_database: Callable[[], str]) -> None:
    assert new_database() != new_database()


def test_a_killed_database_server_comes_back_with_its_data(postgres: PrivatePostgres) -> None:
    run(execute(postgres.url, "CREATE TABLE kept AS SELECT 42 AS answer"))
    postgres.kill()
    with pytest.raises(LocalError):
        run(execute(postgres.url, "SELECT 1"))
    postgres.start()
    assert run(execute(postgres.url, "SELECT answer FROM kept")) == "42"


def test_a_broker_keeps_its_address_when_it_is_stopped_and_started(rabbitmq: PrivateRabbitMQ) -> None:
    before = rabbitmq.url
    pid = rabbitmq.pid
    rabbitmq.stop()
    assert not processes.running(pid)
    rabbitmq.start()
    run(_connect(before))


async def _connect(url: str) -> None:
    await (await aio_pika.connect(url, timeout=5)).close()
