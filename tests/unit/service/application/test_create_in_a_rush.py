"""What a create does while all permits to call the gateway are taken."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from service.domain.outcomes import UnknownCause
from service.domain.payment import PaymentStatus
from service.ratelimit.permit import Endpoint
from tests.kit.service import context
from tests.kit.shops import Answer, Fakes
from tests.kit.until import until
from tests.kit.world import a_limiter

BUSY, LEFT = ("SERVICE_UNAVAILABLE", True), ("DEADLINE_EXCEEDED", True)


class Sale(Fakes):
    """A service that makes one call at a time, and somebody who can make that call."""

    def __init__(self) -> None:
        super().__init__(limiter=a_limiter(1))
        self.world = self.worlds[0]
        self.limiter, self.reservations = self.world.limiter, self.world.reservations

    @asynccontextmanager
    async def sold_out(self) -> AsyncIterator[None]:
        async with self.limiter.permit(Endpoint.CREATE):
            yield

    def waiting(self) -> int:
        return sum(count for *_, count in self.limiter.waiting())

    async def queued(self, *, booking: int | None = None) -> asyncio.Task[Answer]:
        """A create that waits in the queue."""
        create = asyncio.create_task(self.create(seconds=10, bookingId=booking or self.booking))
        await until(self.waiting, every=0.001)
        return create

    async def ingest(self, session_id: str) -> None:
        """What the event feed does, which needs no permit for a session."""
        await self.world.outcomes.apply(self.store.payments[1], self.gateway.made[session_id].stands, context=context())


@pytest.fixture
def sale() -> Sale:
    return Sale()


async def test_a_create_whose_permit_does_not_come_leaves_a_reservation_alone_until_it_comes_back(sale: Sale) -> None:
    async with sale.sold_out():
        refused = await sale.create(seconds=2)
        assert (refused.fault, refused.document["retryAfterSeconds"]) == (BUSY, 1)
        assert (sale.store.payments, sale.gateway.calls, list(sale.reservations.kept)) == ({}, [], [sale.booking])
        assert sale.world.observer["create_refused"] == sale.world.admission.outstanding.number == 1
    sale.clock.advance(1)
    assert (await sale.create(seconds=2)).document["status"] == "pending"
    assert (sale.reservations.kept, sale.world.admission.outstanding.number) == ({}, 0)


async def test_it_comes_before_those_who_came_after_it(sale: Sale) -> None:
    async with sale.sold_out():
        assert (await sale.create(seconds=2)).fault == BUSY
        sale.clock.advance(1)
        newcomer = await sale.queued(booking=8)
        back = asyncio.create_task(sale.create(seconds=10))
        for _ in range(100):
            await asyncio.sleep(0)
    await asyncio.gather(newcomer, back)
    assert [payment.booking_id for payment in sale.store.payments.values()] == [sale.booking, 8]


async def test_a_repeat_that_needs_no_call_is_answered_however_long_the_queue_is(sale: Sale) -> None:
    named = {"key": "k", "message_id": "m"}
    first = await sale.create(seconds=2, **named)
    assert await sale.create(seconds=2) == first
    assert sale.limiter.is_free(Endpoint.CREATE)
    async with sale.sold_out():
        assert await sale.create(seconds=2) == await sale.create(seconds=2, **named) == first
        assert (await sale.create(seconds=2, key="k", amount="450")).fault == ("IDEMPOTENCY_KEY_REUSED", False)
        await sale.pay(first.session)
        await sale.ingest(first.session)
        assert (await sale.create(seconds=2, amount="500")).fault == ("ALREADY_PAID", False)
    assert sale.gateway.calls == ["open"]
    assert sale.limiter.is_free(Endpoint.CREATE)


async def test_a_key_that_was_seen_in_a_rush_means_the_same_payment_for_ever(sale: Sale) -> None:
    first = await sale.create(seconds=2)
    async with sale.sold_out():
        assert await sale.create(seconds=2, key="k") == first
        await sale.let_expire(first.session)
        await sale.ingest(first.session)
        assert (await sale.create(seconds=2, key="k")).fault == ("FAILED", False)
    assert (await sale.create(seconds=2, key="k")).fault == ("FAILED", False)


async def test_nobody_is_called_for_who_has_left_the_queue(sale: Sale) -> None:
    async with sale.sold_out():
        waiting = await sale.queued()
        sale.clock.advance(11)
    assert (await waiting).fault == LEFT
    assert (sale.store.payments, sale.gateway.calls) == ({}, [])
    assert sale.limiter.is_free(Endpoint.CREATE)


async def test_repeats_of_a_booking_that_waits_wait_once(sale: Sale) -> None:
    async with sale.sold_out():
        waiting = [await sale.queued() for _ in range(20)]
        for _ in range(100):
            await asyncio.sleep(0)
        assert sale.waiting() == 1
    assert len({answer.session for answer in await asyncio.gather(*waiting)}) == 1
    assert sale.gateway.calls == ["open"]


async def test_a_create_that_failed_at_the_gateway_is_finished_by_its_repeat_in_the_queue(sale: Sale) -> None:
    await sale.fail(UnknownCause.TIMEOUT)
    assert (await sale.create(seconds=2)).fault == LEFT
    await sale.fail(None)
    async with sale.sold_out():
        repeat = await sale.queued()
    assert (await repeat).document["status"] == "pending"
    assert [payment.status for payment in sale.store.payments.values()] == [PaymentStatus.PENDING]
