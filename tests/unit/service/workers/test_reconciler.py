"""When payments are compared with the gateway: before serving after a restore, and by the leader now and then."""

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest

from service.application.event_reader import UnreadError
from service.application.ports import LeaderLease
from service.domain.errors import AlreadyPaidError, GatewayFailedError
from service.domain.outcomes import UnknownCause
from service.domain.payment import PaymentStatus
from service.workers.reconciler import Reconciler
from tests.kit.clock import NOW
from tests.kit.fake_store import FakeStore
from tests.kit.observers import CountingObserver
from tests.kit.until import until
from tests.kit.world import World


class Leading:
    lease: LeaderLease | None = LeaderLease(read_until=None, now=NOW)


class Standby:
    lease: LeaderLease | None = None


class House:
    def __init__(self) -> None:
        self.world = World()
        self.observer = CountingObserver()

    def reconciler(self, **changes: Any) -> Reconciler:
        quick = {"interval_seconds": 0.01, "first_seconds": 0.0, "follow_seconds": 0.01}
        parts = {"reconciliation": self.world.reconciliation, "creates": self.world.admission}
        return Reconciler(**parts, observer=self.observer, **quick | changes)

    async def buy(self, *bookings: int) -> None:
        for booking in bookings:
            session = (await self.world.create(bookingId=booking)).session_id
            self.world.gateway.pay(session)
            await self.world.verify(session)
            self.world.clock.advance(60)

    def restore(self, payments: int) -> None:
        """Only so many of the first payments are left."""
        kept = list(self.world.store.payments.values())[:payments]
        self.world = self.world.replica(store=FakeStore())
        self.world.store.put_back(kept)
        self.world.gateway.calls.clear()

    @property
    def paid(self) -> list[int]:
        payments = self.world.store.payments.values()
        return sorted(each.booking_id for each in payments if each.status is PaymentStatus.COMPLETED)


@pytest.fixture
def house() -> House:
    return House()


@pytest.mark.parametrize("left", [0, 1, 19])
async def test_what_the_database_has_lost_is_a_payment_again_before_anything_is_served(house: House, left: int) -> None:
    await house.buy(*range(1, 21))
    house.restore(left)
    await house.reconciler().before_serving()
    assert house.paid == list(range(1, 21))
    assert house.observer["difference unknown_here"] == 20 - left


async def test_a_database_that_lost_nothing_costs_one_call(house: House) -> None:
    await house.buy(*range(1, 21))
    house.world.gateway.calls.clear()
    await house.reconciler().before_serving()
    assert (house.world.gateway.calls, house.observer) == (["told_sessions"], {})


async def test_a_comparison_may_be_wanted_at_every_start(house: House) -> None:
    await house.buy(1)
    house.world.gateway.calls.clear()
    await house.reconciler().before_serving(always=True)
    assert len(house.world.gateway.calls) > 1


async def test_a_gateway_that_stops_answering_after_a_restore_is_found_ends_the_start(house: House) -> None:
    await house.buy(1, 2)
    house.restore(1)
    listing, calls = house.world.gateway.told_sessions, 0

    class Stopping:
        def __getattr__(self, name: str) -> Any:
            return getattr(house.world.gateway, name)

        async def told_sessions(self, **asked: Any) -> Any:
            nonlocal calls
            calls += 1
            house.world.gateway.fault = UnknownCause.DENIED if calls > 1 else None
            return await listing(**asked)

    house.world.reconciliation.gateway = Stopping()
    with pytest.raises(UnreadError):
        await house.reconciler().before_serving()


async def test_a_gateway_that_cannot_be_asked_at_the_start_is_asked_by_every_replica_later(house: House) -> None:
    await house.buy(1, 2)
    house.restore(0)
    house.world.gateway.fault = UnknownCause.FAILED
    reconciler = house.reconciler(interval_seconds=0)
    await reconciler.before_serving()
    house.world.gateway.fault = None
    house.world.clock.advance(timedelta(days=7).total_seconds())
    running = asyncio.create_task(reconciler.run(Standby()))
    await until(lambda: house.paid == [1, 2])
    running.cancel()


async def test_until_a_gateway_that_could_not_be_asked_at_the_start_was_no_create_begins_a_checkout(
    house: House,
) -> None:
    await house.buy(1, 2)
    house.restore(1)
    house.world.gateway.fault = UnknownCause.FAILED
    reconciler = house.reconciler()
    await reconciler.before_serving()
    house.world.gateway.fault = None
    for _ in range(2):
        with pytest.raises(GatewayFailedError):
            await house.world.create(bookingId=2)
    assert [each.booking_id for each in house.world.store.payments.values()] == [1]
    with pytest.raises(AlreadyPaidError):  # what is known here is answered
        await house.world.create(bookingId=1)
    running = asyncio.create_task(reconciler.run(Standby()))
    await until(lambda: house.paid == [1, 2])
    await until(lambda: not house.world.admission.is_withheld)
    running.cancel()
    with pytest.raises(AlreadyPaidError):
        await house.world.create(bookingId=2)
    assert (await house.world.create(bookingId=3)).session_id


async def test_a_gateway_that_lists_nothing_for_us_holds_up_no_create(house: House) -> None:
    """Such as one of a test, or a key that may not: it will not answer otherwise later."""
    house.world.gateway.fault = UnknownCause.MISCONFIGURED
    await house.reconciler().before_serving()
    house.world.gateway.fault = None
    assert (await house.world.create(bookingId=1)).session_id


async def test_the_leader_compares_now_and_then_and_tells_what_it_mended(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    await house.buy(1)
    house.restore(0)
    running = asyncio.create_task(house.reconciler().run(Leading()))
    await until(lambda: house.paid == [1])
    await until(lambda: house.observer["difference unknown_here"] == 1)
    house.restore(0)
    running.cancel()
    [record] = [each for each in caplog.records if "unknown_here" in each.getMessage()]
    assert record.levelno == logging.WARNING


@pytest.mark.parametrize(("feed", "changes"), [(Standby(), {}), (Leading(), {"interval_seconds": 0})])
async def test_nobody_else_compares(house: House, feed: Any, changes: dict[str, Any]) -> None:
    await house.buy(1)
    house.world.gateway.calls.clear()
    running = asyncio.create_task(house.reconciler(**changes).run(feed))
    await asyncio.sleep(0.1)
    running.cancel()
    assert house.world.gateway.calls == []
