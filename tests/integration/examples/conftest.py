"""The reference subscriber as its users have it: a process of its own, a queue of its own, a real broker."""

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
from deploy.local.settings import CHECKOUT
from tests.integration.service.messages.rig import until

SUBSCRIBER: Final = CHECKOUT / "docs/examples/subscriber.py"
PATIENCE_SECONDS: Final = 60.0

Dump = dict[str, list[tuple[Any, ...]]]
"""Table -> its rows, sorted."""


@dataclass(kw_only=True)
class Subscriber:
    """Starts the example, as often as it takes, on one queue and one store; looks at both."""

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
        """Returns when it consumes."""
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

        await until(consumes, PATIENCE_SECONDS)

    async def kill(self) -> None:
        """`kill -9`, at whatever line it is."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> None:
        """SIGTERM; it must end of its own accord, and leave nothing in its queue that it was given."""
        assert self.process is not None
        self.process.terminate()
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await self.process.wait() == 0, self.said
        await until(self.is_empty, PATIENCE_SECONDS)

    async def is_empty(self) -> bool:
        """What a consumer holds is not counted here: look when it has stopped."""
        return (await self.channel.queue_declare(self.queue, passive=True)).message_count == 0

    @contextmanager
    def locked_store(self) -> Iterator[None]:
        """Meanwhile it can receive and not write."""
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
        """Wait until so many different events are written."""
        await until(lambda: len(self.rows("events")) >= count, PATIENCE_SECONDS)

    async def parked(self, count: int) -> list[bytes]:
        """What lies in its dead-letter queue, taken out, as soon as it is so much."""
        found: list[bytes] = []

        async def enough() -> bool:
            answer = await self.channel.basic_get(f"{self.queue}.dead-letter", no_ack=True)
            if not isinstance(answer.delivery, Basic.GetEmpty):
                found.append(bytes(answer.body))
            return len(found) >= count

        await until(enough, PATIENCE_SECONDS)
        return found

    async def publish(self, *bodies: bytes, user_id: str | None = None) -> None:
        """To the exchange of events, as the service does it."""
        properties = Basic.Properties(content_type=events.CONTENT_TYPE, delivery_mode=2, user_id=user_id)
        exchange, key = topology.EVENTS.name, "payment.pending"
        publish = self.channel.basic_publish
        await asyncio.gather(
            *(publish(body, exchange=exchange, routing_key=key, properties=properties) for body in bodies)
        )


@pytest.fixture
def user(amqp_url: str) -> str:
    """Whom RabbitMQ knows us as."""
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
