"""The reference subscriber as its users run it: as a process, with its own queue, on a real broker."""

import asyncio
import os
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

import aiormq
import pytest
from pamqp.commands import Basic

from contracts import events, topology
from tests.kit.until import PATIENCE_SECONDS, until
from tools.devstack.stack_settings import CHECKOUT

SUBSCRIBER: Final = CHECKOUT / "docs/examples/subscriber.py"
Dump = dict[str, list[tuple[Any, ...]]]
"""Table -> its rows, sorted."""


@dataclass(kw_only=True)
class Subscriber:
    """Starts the example on one queue and one store, any number of times, and looks at both."""

    amqp_url: str
    folder: Path
    channel: aiormq.abc.AbstractChannel
    queue: str = field(default_factory=lambda: f"examples-{uuid4()}.payments")
    process: asyncio.subprocess.Process | None = None

    @property
    def store(self) -> Path:
        return self.folder / f"{self.queue}.sqlite"

    @property
    def said(self) -> str:
        log = self.folder / f"{self.queue}.log"
        return log.read_text() if log.exists() else ""

    async def start(self, *options: str, amqp_url: str | None = None) -> None:
        """Return when it consumes."""
        before = self.said.count("waiting for events")
        with (self.folder / f"{self.queue}.log").open("a") as out:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, str(SUBSCRIBER), "--queue", self.queue, "--store", str(self.store), *options),
                env=os.environ | {"AMQP_URL": amqp_url or self.amqp_url},
                stdout=out,
                stderr=out,
            )

        def consumes() -> bool:
            assert self.process is not None
            assert self.process.returncode is None, self.said
            return self.said.count("waiting for events") > before

        await until(consumes)

    async def kill(self) -> None:
        """`kill -9`, at whatever line it is."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> None:
        """SIGTERM; it must end by itself and leave nothing in its queue."""
        assert self.process is not None
        self.process.terminate()
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await self.process.wait() == 0, self.said
        await until(self.is_empty)

    async def is_empty(self) -> bool:
        """Whether the queue holds nothing; ask when no consumer runs, whose messages are not counted."""
        return (await self.channel.queue_declare(self.queue, passive=True)).message_count == 0

    @contextmanager
    def locked_store(self) -> Iterator[None]:
        """Meanwhile it can receive but not write."""
        with closing(sqlite3.connect(self.store, isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")
            yield
            database.execute("ROLLBACK")

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.store)) as database:
            return sorted(database.execute(f"SELECT * FROM {table}"))  # noqa: S608 - the table is the test's word

    def dump(self) -> Dump:
        return {table: self.rows(table) for table in ("events", "payments", "tasks")}

    async def knows(self, count: int) -> None:
        """Wait until it has written so many different events."""
        await until(lambda: len(self.rows("events")) >= count)

    async def parked(self, count: int) -> list[bytes]:
        """Take the messages out of its dead-letter queue, as soon as there are so many."""
        found: list[bytes] = []

        async def enough() -> bool:
            answer = await self.channel.basic_get(f"{self.queue}.dead-letter", no_ack=True)
            if not isinstance(answer.delivery, Basic.GetEmpty):
                found.append(bytes(answer.body))
            return len(found) >= count

        await until(enough)
        return found

    async def publish(self, *bodies: bytes, user_id: str | None = None) -> None:
        """Publish to the exchange of events, as the service does."""
        properties = Basic.Properties(content_type=events.CONTENT_TYPE, delivery_mode=2, user_id=user_id)
        exchange, key = topology.EVENTS.name, "payment.pending"
        publish = self.channel.basic_publish
        await asyncio.gather(
            *(publish(body, exchange=exchange, routing_key=key, properties=properties) for body in bodies)
        )


@pytest.fixture
def user(amqp_url: str) -> str:
    """Our user at RabbitMQ."""
    return urlsplit(amqp_url).username or "guest"


@pytest.fixture
async def subscriber(amqp_url: str, tmp_path: Path) -> AsyncIterator[Subscriber]:
    connection = await aiormq.connect(amqp_url)
    channel = await connection.channel()
    await channel.exchange_declare(topology.EVENTS.name, exchange_type=topology.EVENTS.type, durable=True)
    subscriber = Subscriber(amqp_url=amqp_url, folder=tmp_path, channel=channel)
    try:
        yield subscriber
    finally:
        if subscriber.process is not None and subscriber.process.returncode is None:
            await subscriber.kill()
        for queue in (subscriber.queue, f"{subscriber.queue}.dead-letter"):
            await channel.queue_delete(queue)
        await channel.exchange_delete(f"{subscriber.queue}.dead-letter")
        await connection.close()
