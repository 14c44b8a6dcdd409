"""Handlers that hang: each is cut off in time, answered or tried again, and its slot is free for the next command."""

import asyncio
import functools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest_asyncio

from service.application.ports import PUBLISH_SECONDS, Begun, RequestKey
from service.domain.payment import Draft
from service.entrypoints import broker as brokers
from service.entrypoints import consumers
from service.entrypoints.long_poll import LongPoll
from service.entrypoints.middleware import HANDLER_SECONDS, CommandMiddleware
from tests.integration.service.messages.rig import CREATE, Rig, a_create, around, until
from tests.integration.service.relay.relays import publishing
from tests.kit.clock import SystemClock
from tests.kit.fake_gateway import FakeGateway
from tests.kit.fake_store import FakeStore
from tests.kit.observers import CountingObserver
from tests.kit.world import World

SLOTS = 3


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(amqp_url: str, migrated_url: str) -> AsyncIterator[Rig]:
    """Without the service: each test has its own."""
    async with around(amqp_url, migrated_url, stripe_concurrency=SLOTS) as rig:
        yield rig


class HangingStore(FakeStore):
    """Never answers about some bookings, the first time that it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.hangs: set[int] = set()
        self.begun: list[int] = []

    async def begin(self, draft: Draft, *, keys: Sequence[RequestKey], request_id: str, **limits: Any) -> Begun:
        self.begun.append(draft.booking_id)
        if draft.booking_id in self.hangs:
            self.hangs.remove(draft.booking_id)
            await asyncio.Event().wait()
        return await super().begin(draft, keys=keys, request_id=request_id, **limits)


@asynccontextmanager
async def consuming(rig: Rig, store: HangingStore, *, handler_seconds: float) -> AsyncIterator[None]:
    """The real consumers, with a store that hangs behind them."""
    counts = CountingObserver()
    world = World(store=store, gateway=FakeGateway(), clock=SystemClock())
    async with publishing(rig.amqp_url) as publisher:
        around_each = functools.partial(
            CommandMiddleware,
            publisher=publisher,
            clock=world.clock,
            long_poll=LongPoll(store=store, publisher=publisher, observer=counts),
            observer=counts,
            senders=None,
            leaving=asyncio.Event(),
            handler_seconds=handler_seconds,
        )
        broker = brokers.CommandBroker(rig.amqp_url, middlewares=(around_each,))
        parts = world.parts("store", "gateway", "policy", "clock", "checkout", "status_lookup")
        consumers.register(broker, **parts, create_prefetch=SLOTS)
        await broker.start()
        try:
            yield
        finally:
            await broker.stop()


async def test_a_handler_that_hangs_is_cancelled_and_its_command_answered_or_retried(rig: Rig) -> None:
    """F18 Handler hangs: own deadline far below the ack timeout; slot freed, no channel closed."""
    assert HANDLER_SECONDS + PUBLISH_SECONDS <= 20
    store, waited_for, forgotten, good = HangingStore(), a_create(), a_create(), a_create()
    others = [a_create() for _ in range(SLOTS - 2)]
    store.hangs = {command["bookingId"] for command in (waited_for, forgotten, *others)}
    async with consuming(rig, store, handler_seconds=1):
        for command in (forgotten, *others):
            await rig.send(CREATE, command)
        fault = await rig.ask(CREATE, waited_for)
        assert (fault.document["code"], fault.document["retryable"]) == ("DEADLINE_EXCEEDED", True)
        assert (await rig.ask(CREATE, good)).type == "checkout.create.reply"
        # One more time each, and no more: had the channel been closed, all would have been delivered again.
        expected = [command["bookingId"] for command in (waited_for, good, *[forgotten, *others] * 2)]
        await until(lambda: len(store.begun) >= len(expected))
        await rig.queue_empty(CREATE)
        assert sorted(store.begun) == sorted(expected)
        assert (await rig.ask(CREATE, waited_for)).type == "checkout.create.reply"
