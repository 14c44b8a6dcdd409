"""What happens to a shop. Each scenario is green with the service as it is, and red with its mutants."""

import asyncio
from contextlib import suppress
from typing import Any
from uuid import uuid4

import asyncpg

from service.adapters.stripe import StripeGateway
from service.domain.errors import StoreUnavailableError
from service.domain.outcomes import Outcome, Unknown, UnknownCause
from service.domain.payment import Payment
from service.ratelimit.permit import Priority
from tests.integration.sandbox.harness import KEY
from tests.integration.service.messages.rig import CREATE, a_create, until
from tests.integration.service.relay.relays import full_subscriber
from tests.kit.lifetimes import closing
from tests.kit.workers import a_sweeper
from tests.kit.world import gateway_parts
from tests.mutants.shop import DyingDatabase, DyingOutbox, Shop
from tools.chaos.wishes import Command

BOOKING = 7


async def two_tabs(shop: Shop) -> None:
    """Two tabs create the same, and every open page is paid."""
    await shop.create(BOOKING)
    await shop.create(BOOKING)
    await shop.everybody_pays(BOOKING)


async def another_price(shop: Shop) -> None:
    """The price changes while the first page is open; both pages are tried."""
    await shop.create(BOOKING, "449.97")
    await shop.create(BOOKING, "500.00")
    await shop.everybody_pays(BOOKING)


async def another_amount_arrives(shop: Shop) -> None:
    """A delayed method brings another amount; an operator deals with the money, and the caller asks again."""
    session_id = await shop.create(BOOKING)
    await shop.rig.sandbox.control(f"sessions/{session_id}/settle", {"outcome": "paid", "amount_total": 1})
    await shop.verify(session_id)
    await shop.close(session_id)
    await shop.verify(session_id)


async def money_is_given_back(shop: Shop) -> None:
    """Half of the money, then the rest is taken by the payer's bank."""
    session_id = await shop.create(BOOKING)
    await shop.everybody_pays(BOOKING)
    await shop.after_paid(session_id, "refund", {"amount": 100})
    await shop.after_paid(session_id, "dispute", {})


async def an_older_copy(shop: Shop) -> None:
    """The database is put back to the copy of a time before all payments, and Stripe's sessions are compared."""
    await shop.create(BOOKING)
    await shop.everybody_pays(BOOKING)
    await shop.create(BOOKING + 1)
    await shop.put_back()
    await shop.create(BOOKING + 2)


async def an_odd_price(shop: Shop) -> None:
    """19.99 * 100 is 1998.9999999999998 in floats."""
    await shop.create(BOOKING, "19.99")
    await shop.everybody_pays(BOOKING)


class _AnswersLost(StripeGateway):
    """Stripe executes its calls; the answers do not come back in time."""

    async def open(self, payment: Payment, *, timeout_seconds: float) -> Outcome:
        await super().open(payment, timeout_seconds=timeout_seconds)
        return Unknown(cause=UnknownCause.TIMEOUT)


async def a_lost_answer(shop: Shop) -> None:
    """Stripe makes the session, the answer is lost, and the command comes again."""
    message_id = str(uuid4())
    async with closing(_AnswersLost(**gateway_parts(shop.rig.sandbox.url, api_key=KEY))) as gateway:
        await shop.create(BOOKING, message_id=message_id, replica=shop.replica(gateway=gateway))
    await shop.create(BOOKING, message_id=message_id)


async def death_after_any_round_trip(shop: Shop) -> None:
    """A replica dies after its first, second, ... statement, and another gets the command again."""
    for trips in range(1, 5):
        dying = DyingDatabase(shop.rig.database_url, trips=trips)
        message_id = str(uuid4())
        with suppress(Exception):  # whatever it says in its last moment
            await shop.create(BOOKING + trips, message_id=message_id, replica=shop.replica(database=dying))
        await dying.close()
        with suppress(Exception):
            await shop.create(BOOKING + trips, message_id=message_id)


async def a_relay_dies_before_it_marks(shop: Shop) -> None:
    """The events are published, and the next relay cannot know."""
    await shop.create(BOOKING)
    with suppress(StoreUnavailableError):
        await shop.relay(DyingOutbox(shop.database)).flush()


async def a_full_queue(shop: Shop) -> None:
    """A subscriber's queue is full, so RabbitMQ refuses; later it has room, and no event may be missing."""
    async with full_subscriber(shop.rig, "#") as queue:
        await shop.rig.channel.basic_publish(b"full", routing_key=queue)
        await shop.create(BOOKING)
        await shop.relay().flush()
        await shop.rig.channel.queue_purge(queue)
        await shop.publish()
        shop.delivered = []
        while (message := await shop.rig.take(queue)) is not None:
            shop.delivered.append((message.properties.message_id or "", message.body))


async def a_hand_in_the_record(shop: Shop) -> None:
    """Somebody with the service's password turns a paid payment into a failed one."""
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


class _InStep(StripeGateway):
    """Nobody gets an answer before two have called."""

    def __init__(self, url: str) -> None:
        super().__init__(**gateway_parts(url, api_key=KEY))
        self._both = asyncio.Barrier(2)

    async def look_up(
        self, payment: Payment, *, timeout_seconds: float, priority: Priority = Priority.WAITED
    ) -> Outcome:
        outcome = await super().look_up(payment, timeout_seconds=timeout_seconds, priority=priority)
        await self._both.wait()
        return outcome


async def two_replicas_hear_the_same(shop: Shop) -> None:
    """Two replicas learn at once that the money is there, and both write it."""
    session_id = await shop.create(BOOKING)
    await shop.rig.sandbox.pay(session_id)
    async with closing(_InStep(shop.rig.sandbox.url)) as gateway:
        replicas = [shop.replica(gateway=gateway) for _ in range(2)]
        await asyncio.gather(*(shop.verify(session_id, replica=replica) for replica in replicas))


async def nobody_pays(shop: Shop) -> None:
    """An hour passes, and the sweeper runs."""
    await shop.rig.an_hour_passes([await shop.create(BOOKING)])
    await a_sweeper(shop.replica()).sweep_next()


async def killed_with_a_command_in_its_hands(shop: Shop) -> None:
    """`kill -9` hits a service that has a command in hand and waits for the database; another one is started."""
    first = await shop.programs.service()
    async with shop.rig.database.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE payments IN EXCLUSIVE MODE")
        await _command(shop, BOOKING)
        await until(lambda: _waits_to_insert(shop))
        await first.killed()
        await until(lambda: _nothing_waits(shop))  # PostgreSQL would go on with what a dead client asked for
    second = await shop.programs.service()
    await _command(shop, BOOKING + 1)
    await until(lambda: _opened(shop, BOOKING + 1))
    second.process.terminate()
    await second.ended()  # it finishes what it has in hand, so what came again is done


async def _command(shop: Shop, booking: int) -> None:
    message_id = await shop.rig.send(CREATE, a_create(bookingId=booking))
    shop.commands.append(Command(message_id=message_id, booking=booking, minor=44997, confirmed=True))


async def _waits_to_insert(shop: Shop) -> list[Any]:
    """PostgreSQL tells of a statement its first thousand bytes, in which a create names its keys, and no table yet."""
    return await shop.rig.sql(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        " AND query ILIKE '%key_reference%'"
    )


async def _nothing_waits(shop: Shop) -> bool:
    return not await shop.rig.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )


async def _opened(shop: Shop, booking: int) -> bool:
    return any(payment["session_id"] for payment in await shop.rig.payments_of(booking))
