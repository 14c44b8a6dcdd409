"""The database is put back to an older copy: what the service does before it serves, and what it answers then."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg
import pytest

from service.startup import StartError
from tests.integration.faults.stack import breakable
from tests.integration.sandbox.harness import Running, running_sandbox
from tests.integration.service.messages.rig import CREATE, Rig, a_create, around, serving, until
from tests.kit.databases import Databases, Migrated
from tools.chaos.proxy import Mode, Proxy


class House:
    """A deployment whose database can be backed up and put back, while Stripe goes on."""

    def __init__(self, amqp_url: str, stripe: Running, database: Migrated, databases: Databases) -> None:
        self._amqp_url, self._databases = amqp_url, databases
        self.stripe, self.database = stripe, database

    @asynccontextmanager
    async def closed(self) -> AsyncIterator[Rig]:
        """Everything but the service."""
        url = self.database.application
        async with around(self._amqp_url, url, stripe_api_base=self.stripe.url, verify_freshness_seconds=60) as rig:
            yield rig

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Rig]:
        async with self.closed() as rig, serving(rig.settings) as service:
            rig.service = service
            yield rig

    async def backup(self) -> Migrated:
        """A copy of the database as it is, while nobody uses it."""
        owner = await asyncio.to_thread(self._databases.make, self.database.owner)
        application = urlsplit(self.database.application)._replace(path=urlsplit(owner).path).geturl()
        return Migrated(owner=owner, application=application)

    async def let_minutes_pass(self) -> None:
        """Every create was two minutes earlier."""
        owner = await asyncpg.connect(self.database.owner)
        await owner.execute(
            "ALTER TABLE payments DISABLE TRIGGER ALL;"
            " UPDATE payments SET created_at = created_at - interval '2 minutes';"
            " ALTER TABLE payments ENABLE TRIGGER ALL"
        )
        await owner.close()

    async def lists(self) -> int:
        stats = await self.stripe.control("stats")
        return int(stats["calls"].get("checkout.sessions.list", {"calls": 0})["calls"])


@pytest.fixture
async def house(
    amqp_url: str, new_migrated: Callable[[], Migrated], databases_of_run: Databases
) -> AsyncIterator[House]:
    database = await asyncio.to_thread(new_migrated)
    async with running_sandbox() as stripe:
        yield House(amqp_url, stripe, database, databases_of_run)


async def test_after_a_restore_what_was_paid_meanwhile_is_known_before_the_first_create_is_served(house: House) -> None:
    known, paid, left, ended = (a_create() for _ in range(4))
    async with house.open() as rig:
        before = (await rig.created(**known))["sessionId"]
        await rig.all_sent()
    backup = await house.backup()
    async with house.open() as rig:
        sessions = [(await rig.created(**each))["sessionId"] for each in (paid, left, ended)]
        for session in (before, sessions[0]):
            await house.stripe.pay(session)
        await house.stripe.client().v1.checkout.sessions.expire_async(sessions[2])
        assert (await rig.verified(sessions[0]))["paymentStatus"] == "COMPLETED"
        await rig.all_sent()
    house.database = backup
    async with house.open() as rig:
        refused = await rig.ask(CREATE, paid)
        assert refused.document["code"] == "ALREADY_PAID"
        again = await rig.created(**left)
        assert again["sessionId"] == sessions[1], "no second payable session"
        statuses = [(await rig.verified(session))["paymentStatus"] for session in sessions]
        assert statuses == ["COMPLETED", "PENDING", "FAILED"]
        payment = await rig.payment(sessions[0])
        events = await rig.told(payment["id"], events=2)
        assert [each.routing_key for each in events] == ["payment.pending", "payment.completed"]
        assert events[1].document["data"]["bookingId"] == paid["bookingId"]
        await until(lambda: _is_completed(rig, before))
        assert (await rig.created(**a_create()))["sessionId"] not in sessions
    stats = await house.stripe.control("stats")
    assert stats["max_payable_per_booking"] == 1
    assert sum(stats["sessions"].values()) == 5


async def test_a_create_under_way_when_the_copy_was_made_does_not_hide_what_was_paid_since(house: House) -> None:
    """The copy has the payment without its session, which has ended by now: the booking's next one is paid."""
    wish = a_create()
    async with house.open() as rig:
        await rig.created()
        await house.stripe.control("config", {"lose_responses": 100})
        assert (await rig.ask(CREATE, wish)).document["retryable"]
        await house.stripe.control("config", {"lose_responses": 0})
        await rig.all_sent()
    await house.let_minutes_pass()
    backup, later = await house.backup(), wish | {"amount": 98.5}
    async with house.open() as rig:
        session = (await rig.created(**later))["sessionId"]
        await house.stripe.pay(session)
        assert (await rig.verified(session))["paymentStatus"] == "COMPLETED"
        await rig.all_sent()
    house.database = backup
    async with house.open() as rig:
        assert (await rig.verified(session))["paymentStatus"] == "COMPLETED"
        assert (await rig.ask(CREATE, later)).document["code"] == "ALREADY_PAID"
        known = "SELECT status, attention FROM payments WHERE booking_id = $1 ORDER BY id"
        rows = await rig.sql(known, wish["bookingId"])
        assert [tuple(row) for row in rows] == [("FAILED", None), ("COMPLETED", None)]


async def test_refunds_and_disputes_since_the_copy_are_heard_again(house: House) -> None:
    """Of payments that the copy has as COMPLETED or PENDING, and of one that it lacks."""
    wishes = [a_create() for _ in range(3)]
    async with house.open() as rig:
        completed, pending = [(await rig.created(**each))["sessionId"] for each in wishes[:2]]
        await house.stripe.pay(completed)
        assert (await rig.verified(completed))["paymentStatus"] == "COMPLETED"
        await house.stripe.control(f"sessions/{completed}/refund", {"amount": 100})
        await until(lambda: _has_become(rig, completed, 100, None))
        await rig.all_sent()
    backup = await house.backup()
    async with house.open() as rig:
        lacked = (await rig.created(**wishes[2]))["sessionId"]
        for session in (pending, lacked):
            await house.stripe.pay(session)
            assert (await rig.verified(session))["paymentStatus"] == "COMPLETED"
        await house.stripe.control(f"sessions/{completed}/refund", {})
        await house.stripe.control(f"sessions/{pending}/refund", {"amount": 300})
        await house.stripe.control(f"sessions/{lacked}/dispute", {})
    house.database = backup
    async with house.open() as rig:
        await until(lambda: _has_become(rig, completed, 44997, None))
        await until(lambda: _has_become(rig, pending, 300, None))
        await until(lambda: _has_become(rig, lacked, 0, "needs_response"))


async def _has_become(rig: Rig, session: str, refunded: int, dispute: str | None) -> bool:
    payment = await rig.payment(session)
    stands = (payment["status"], payment["refunded_minor"], payment["dispute"])
    return stands == ("COMPLETED", refunded, dispute)


async def test_a_database_that_is_not_older_costs_one_call_at_the_start(house: House) -> None:
    async with house.open() as rig:
        for _ in range(3):
            await rig.created()
    before = await house.lists()
    async with house.open() as rig:
        await until(rig.is_ready)
        assert await house.lists() == before + 1


async def test_what_is_lost_while_it_is_compared_before_serving_is_said_to_an_operator(house: House) -> None:
    """In an operator's words: the errors themselves speak to payers."""
    async with house.open() as rig:
        await rig.created()
    before = "The payments have to be compared with Stripe before anything is served: "
    async with house.closed() as rig:
        settings = rig.settings.model_copy(update={"reconcile_on_start": "always"})
        await house.stripe.control("config", {"down": True})
        with pytest.raises(StartError) as ended:
            async with serving(settings):
                pass
        assert str(ended.value).startswith(f"{before}Stripe cannot be asked (")
        await house.stripe.control("config", {"down": False, "latency_ms": 2000})
        lists = await house.lists()
        async with breakable(settings, "database_url") as (link, through):
            cutting = asyncio.create_task(_cut(house, link, after=lists))
            with pytest.raises(StartError) as ended:
                async with serving(through):
                    pass
            await cutting
        assert str(ended.value).startswith(f"{before}the database (DATABASE_URL) cannot be reached (")


async def _cut(house: House, link: Proxy, *, after: int) -> None:
    """The link to the database, while Stripe is asked for its sessions."""

    async def asked() -> bool:
        return await house.lists() > after

    await until(asked)
    await link.set(Mode.DOWN)


async def test_a_stripe_that_is_down_at_the_start_is_asked_as_soon_as_it_is_back(
    house: House, new_migrated: Callable[[], Migrated]
) -> None:
    """Not by the event feed, which another replica leads that reads nothing. Until then no checkout begins."""
    wish = a_create()
    async with house.open() as rig:
        session = (await rig.created(**wish))["sessionId"]
    await house.stripe.pay(session)
    house.database = await asyncio.to_thread(new_migrated)
    async with house.closed() as rig:
        await rig.read_no_events()
        await house.stripe.control("config", {"down": True})
        async with serving(rig.settings) as service:
            rig.service = service
            await until(rig.is_ready)
            await house.stripe.control("config", {"down": False})
            while (answer := (await rig.ask(CREATE, wish)).document)["code"] != "ALREADY_PAID":
                assert answer["retryable"]
            assert await _is_completed(rig, session)
            stats = await house.stripe.control("stats")
            assert sum(stats["sessions"].values()) == 1


async def _is_completed(rig: Rig, session: str) -> bool:
    return bool(await rig.sql("SELECT 1 FROM payments WHERE session_id = $1 AND status = 'COMPLETED'", session))
