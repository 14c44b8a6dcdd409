"""What happens to a shop. Each is green as the service is; a mutant must turn it red."""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
from pamqp.commands import Basic

from contracts import topology
from deploy.local import processes
from service.adapters.stripe import StripeGateway
from service.application.budget import Priority, Turn
from service.domain.errors import StoreUnavailableError
from service.domain.outcomes import Outcome, Unknown, UnknownCause
from service.domain.payment import Payment
from service.entrypoints.settler import Settler
from tests.chaos.load import Command
from tests.integration.sandbox.harness import KEY
from tests.integration.service.messages.rig import CREATE, a_create, until
from tests.mutants.shop import DyingDatabase, DyingOutbox, Shop

BOOKING = 7


async def two_tabs(shop: Shop) -> None:
    """The same wish from two tabs, and every page that is open gets paid."""
    await shop.create(BOOKING)
    await shop.create(BOOKING)
    await shop.everybody_pays(BOOKING)


async def another_price(shop: Shop) -> None:
    """The price changes while the first page is still open; both pages are tried."""
    await shop.create(BOOKING, "449.97")
    await shop.create(BOOKING, "500.00")
    await shop.everybody_pays(BOOKING)


async def an_odd_price(shop: Shop) -> None:
    """19.99 * 100 is 1998.9999999999998 to a machine that does not care."""
    await shop.create(BOOKING, "19.99")
    await shop.everybody_pays(BOOKING)


class _Deaf(StripeGateway):
    """Its calls arrive and are done; the answers do not come back in time."""

    async def open(
        self, payment: Payment, *, timeout_seconds: float, proven_absent: bool = False, turn: Turn | None = None
    ) -> Outcome:
        await super().open(payment, timeout_seconds=timeout_seconds, proven_absent=proven_absent, turn=turn)
        return Unknown(cause=UnknownCause.TIMEOUT)


async def a_lost_answer(shop: Shop) -> None:
    """Stripe makes the session, nobody hears of it, and the command comes again."""
    gateway = _Deaf(api_key=KEY, api_base=shop.rig.sandbox.url, concurrency=8)
    message_id = str(uuid4())
    await shop.create(BOOKING, message_id=message_id, replica=shop.replica(gateway=gateway))
    await gateway.close()
    await shop.create(BOOKING, message_id=message_id)


async def death_after_any_round_trip(shop: Shop) -> None:
    """A replica dies behind its first, second, ... statement, and another one gets the command again."""
    for trips in range(1, 5):
        dying = DyingDatabase(shop.database_url, trips=trips)
        message_id = str(uuid4())
        with suppress(Exception):  # whatever it says in its last moment
            await shop.create(BOOKING + trips, message_id=message_id, replica=shop.replica(database=dying))
        await dying.close()
        with suppress(Exception):
            await shop.create(BOOKING + trips, message_id=message_id)


async def a_relay_dies_before_it_marks(shop: Shop) -> None:
    """The events are out, and the next relay cannot know."""
    await shop.create(BOOKING)
    with suppress(StoreUnavailableError):
        await shop.relay(DyingOutbox(shop.database)).flush()


async def a_full_queue(shop: Shop) -> None:
    """A subscriber's queue is full, so RabbitMQ refuses; later there is room, and nothing may be missing."""
    channel = shop.rig.channel
    arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
    queue = (await channel.queue_declare(exclusive=True, arguments=arguments)).queue or ""
    await channel.basic_publish(b"full", routing_key=queue)
    await channel.queue_bind(queue, topology.EVENTS.name, "#")
    await shop.create(BOOKING)
    await shop.relay().flush()
    await channel.queue_purge(queue)
    await shop.publish()
    shop.delivered = []
    while not isinstance((got := await channel.basic_get(queue, no_ack=True)).delivery, Basic.GetEmpty):
        properties: Any = got.header.properties
        shop.delivered.append((properties.message_id, got.body))


async def a_hand_in_the_record(shop: Shop) -> None:
    """Somebody with the service's own password turns a paid payment into a failed one."""
    await shop.create(BOOKING)
    await shop.everybody_pays(BOOKING)
    with suppress(asyncpg.IntegrityConstraintViolationError):
        await shop.rig.sql("UPDATE payments SET status = 'FAILED', reason = 'expired'")


async def a_hand_in_the_journal(shop: Shop) -> None:
    """Somebody with the service's own password makes a line disappear."""
    await shop.create(BOOKING)
    await shop.everybody_pays(BOOKING)
    with suppress(asyncpg.IntegrityConstraintViolationError):
        await shop.rig.sql("DELETE FROM journal WHERE kind = 'opened'")


class _Meeting(StripeGateway):
    """Nobody gets an answer before two have asked."""

    def __init__(self, url: str) -> None:
        super().__init__(api_key=KEY, api_base=url, concurrency=8)
        self._both = asyncio.Barrier(2)

    async def look_up(
        self,
        payment: Payment,
        *,
        timeout_seconds: float,
        priority: Priority = Priority.WAITED,
        turn: Turn | None = None,
    ) -> Outcome:
        outcome = await super().look_up(payment, timeout_seconds=timeout_seconds, priority=priority, turn=turn)
        await self._both.wait()
        return outcome


async def two_replicas_hear_the_same(shop: Shop) -> None:
    """Both are told that the money is there, and both mean to write it down."""
    session_id = await shop.create(BOOKING)
    await shop.rig.sandbox.pay(session_id)
    gateway = _Meeting(shop.rig.sandbox.url)
    replicas = [shop.replica(gateway=gateway) for _ in range(2)]
    await asyncio.gather(*(shop.verify(session_id, replica=replica) for replica in replicas))
    await gateway.close()


async def nobody_pays(shop: Shop) -> None:
    """An hour passes, and the settler comes."""
    await shop.rig.an_hour_passes([await shop.create(BOOKING)])
    await Settler(steps=shop.replica()).settle_next()


async def killed_with_a_command_in_its_hands(shop: Shop) -> None:
    """`kill -9` hits a service that has taken a command and stands before the database; another one is started."""
    await _start(shop, "first")
    async with shop.rig.database.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE payments IN EXCLUSIVE MODE")
        await _command(shop, BOOKING)
        await until(lambda: _waits_to_insert(shop))
        await shop.end_processes()
        await until(lambda: _nothing_waits(shop))  # PostgreSQL would go on with what a dead client asked for
    await _start(shop, "second")
    await _command(shop, BOOKING + 1)
    await until(lambda: _opened(shop, BOOKING + 1), 30)
    with suppress(TimeoutError):  # it comes again before newer ones do, or never
        await until(lambda: _opened(shop, BOOKING), 5)
    await shop.end_processes()


async def _start(shop: Shop, name: str) -> None:
    environment = {
        "AMQP_URL": shop.rig.settings.amqp_url.get_secret_value(),
        "DATABASE_URL": shop.database_url,
        "STRIPE_API_KEY": KEY,
        "STRIPE_API_BASE": shop.rig.sandbox.url,
        "SERVICE_PORT": str(processes.free_ports(1)[0]),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    pid = processes.spawn(
        [sys.executable, "-m", "tests.mutants", shop.mutant],
        env=environment,
        log=shop.folder / f"{name}.log",
        pid_file=shop.folder / f"{name}.pid",
        dies_with_us=signal.SIGKILL,
    )
    shop.processes.append(pid)
    await until(lambda: shop.rig.consumers(CREATE), 30)


async def _command(shop: Shop, booking: int) -> None:
    message_id = await shop.rig.send(CREATE, a_create(bookingId=booking))
    shop.commands.append(Command(message_id=message_id, booking=booking, minor=44997, confirmed=True))


async def _waits_to_insert(shop: Shop) -> list[Any]:
    return await shop.rig.sql(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        " AND query ILIKE '%INSERT INTO payments%'"
    )


async def _nothing_waits(shop: Shop) -> bool:
    return not await shop.rig.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )


async def _opened(shop: Shop, booking: int) -> bool:
    return any(payment["session_id"] for payment in await shop.rig.payments_of(booking))
