"""The pruner forgets what is old enough, in bounded rounds, and goes on after a failure."""

import asyncio
import logging
from datetime import datetime, timedelta

import pytest

from service.domain.errors import StoreUnavailableError
from service.domain.outcomes import Expired
from service.domain.status import decide
from service.workers import pruner as pruning
from service.workers.pruner import BATCH, KEYS_KEPT, Pruner
from tests.kit.clock import MovableClock
from tests.kit.fake_outbox import FakeOutbox
from tests.kit.fake_reservations import FakeReservations
from tests.kit.fake_store import FakeStore
from tests.kit.service import a_draft, context, idempotency_key, message_key

WEEK = timedelta(days=7)


class House:
    """A pruner and what it prunes: payments that were created, failed and published at one moment."""

    def __init__(self, store: FakeStore | None = None) -> None:
        self.clock = MovableClock()
        self.outbox = FakeOutbox()
        self.store = store or FakeStore()
        self.store.outbox = self.outbox
        self.reservations = FakeReservations()
        self.pruner = Pruner(
            store=self.store, outbox=self.outbox, reservations=self.reservations, clock=self.clock, events_kept=WEEK
        )

    async def purchases(self, count: int) -> None:
        for number in range(count):
            at = self.clock.now()
            keys = [message_key(), idempotency_key(f"key-{number}")]
            begun = await self.store.begin(
                a_draft(booking_id=number + 1, created_at=at), keys=keys, request_id="request-1"
            )
            change = decide(begun.payment, Expired(), at=at)
            assert change is not None
            await self.store.record(change, context=context())
        rows = await self.outbox.claim(limit=count, at=self.clock.now(), lease_seconds=1)
        await self.outbox.mark_sent([row.id for row in rows], at=self.clock.now())

    async def left(self) -> tuple[int, int]:
        """Keys of requests and events."""
        keys = await self.store.prune_keys(before=datetime.max.replace(tzinfo=self.clock.now().tzinfo), limit=10**6)
        return keys, len(self.outbox.events)


@pytest.mark.parametrize(("days", "left"), [(6, (2, 1)), (8, (2, 0)), (29, (2, 0)), (31, (0, 0))], ids=str)
async def test_events_are_kept_for_a_week_and_keys_for_a_month(days: int, left: tuple[int, int]) -> None:
    house = House()
    await house.purchases(1)
    house.clock.advance(days * 86_400)
    assert not await house.pruner.prune_next()
    assert await house.left() == left
    assert await house.store.payment(1) is not None
    assert len(await house.store.journal(1)) == 2


async def test_a_pass_is_bounded_and_says_that_there_is_more() -> None:
    house = House()
    await house.purchases(BATCH + 1)
    house.clock.advance(KEYS_KEPT.total_seconds() + 1)
    assert await house.pruner.prune_next()
    assert len(house.outbox.events) == 1
    assert await house.pruner.prune_next()  # a purchase has one event and two keys
    assert not await house.pruner.prune_next()
    assert await house.left() == (0, 0)


async def test_a_reservation_is_forgotten_when_it_is_no_longer_kept() -> None:
    house, at = House(), MovableClock().now()
    for booking, seconds in ((1, 5), (2, 60)):
        until = at + timedelta(seconds=seconds)
        await house.reservations.keep(booking, arrived_at=at, due_until=at, kept_until=until)
    house.clock.advance(6)
    assert not await house.pruner.prune_next()
    assert list(house.reservations.kept) == [2]


class SometimesUnavailable(FakeStore):
    """Unavailable at first; sets `served` when it has answered."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures
        self.served = asyncio.Event()

    async def prune_keys(self, *, before: datetime, limit: int) -> int:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailableError
        self.served.set()
        return await super().prune_keys(before=before, limit=limit)


async def test_an_unavailable_database_is_logged_once_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pruning, "POLL_SECONDS", 0.0)
    store = SometimesUnavailable(failures=3)
    house = House(store)
    with caplog.at_level(logging.WARNING):
        task = asyncio.create_task(house.pruner.run())
        async with asyncio.timeout(60):
            await store.served.wait()
            house.pruner.stop()
            await task
    assert [record.message for record in caplog.records] == ["old keys and events cannot be pruned; trying again"]


async def test_it_ends_without_waiting_for_its_next_pass() -> None:
    house = House()
    task = asyncio.create_task(house.pruner.run())
    await asyncio.sleep(0)
    house.pruner.stop()
    async with asyncio.timeout(60):
        await task
