import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from contracts import envelope
from service.application.ports import UnpublishedError
from service.application.waiters import WaiterRegistry
from service.domain.errors import StoreUnavailableError
from service.domain.payment import Payment, PaymentStatus
from service.entrypoints.long_poll import LongPoll, PendingReply
from service.entrypoints.publisher import Publisher
from tests.integration.service.messages.rig import until
from tests.kit.fake_store import FakeStore
from tests.kit.observers import CountingObserver
from tests.kit.service import a_payment

MANY = 3000
LAST_KNOWN = b'"as it was"'


class Store(FakeStore):
    """Counts look-ups, and can be unavailable."""

    def __init__(self) -> None:
        super().__init__()
        self.look_ups: list[int] = []
        self.is_away = False

    async def final_among(self, payment_ids: Sequence[int]) -> Sequence[Payment]:
        self.look_ups.append(len(payment_ids))
        if self.is_away:
            raise StoreUnavailableError
        return await super().final_among(payment_ids)

    def has(self, payment_id: int, status: PaymentStatus = PaymentStatus.PENDING) -> None:
        self.payments[payment_id] = replace(a_payment(id=payment_id), status=status)


class Recorder(Publisher):
    """Keeps what would be published, a moment later, and counts how much of it is in progress at once."""

    def __init__(self) -> None:
        self.sent: dict[str | None, tuple[bytes, dict[str, str]]] = {}
        self.at_once = self.most_at_once = 0
        self.refuses = False

    async def answer(
        self, body: bytes, *, reply_to: str, correlation_id: str | None, message_type: str, headers: dict[str, str]
    ) -> None:
        assert (reply_to, message_type) == (envelope.DIRECT_REPLY_TO, "checkout.verify.reply")
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        if self.refuses:
            raise UnpublishedError("nacked")
        assert correlation_id not in self.sent, "answered twice"
        self.sent[correlation_id] = body, headers


@dataclass(kw_only=True)
class Desk:
    """What is under test, with what is around it."""

    store: Store
    publisher: Recorder
    long_poll: LongPoll
    waiters: WaiterRegistry
    counts: CountingObserver

    def defer(self, payment_id: int, name: str, *, seconds: float = 60) -> bool:
        reply = PendingReply(
            reply_to=envelope.DIRECT_REPLY_TO,
            correlation_id=name,
            wait_seconds=30,
            last_known=LAST_KNOWN,
            headers={"x-request-id": "r-1", envelope.STATUS_SOURCE: "local"},
            log_fields={"request_id": "r-1"},
        )
        return self.long_poll.defer(payment_id, reply, seconds=seconds)

    async def sent(self, name: str) -> tuple[bytes, dict[str, str]]:
        await until(lambda: name in self.publisher.sent)
        return self.publisher.sent[name]


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    store, publisher, waiters = Store(), Recorder(), WaiterRegistry()
    counts = CountingObserver()
    long_poll = LongPoll(store=store, publisher=publisher, observer=counts, limit=MANY)
    waiters.subscribe(lambda payment_id: long_poll.resync() if payment_id is None else long_poll.notify(payment_id))
    running = asyncio.create_task(long_poll.run())
    await until(lambda: store.look_ups == [] and not running.done())
    yield Desk(store=store, publisher=publisher, long_poll=long_poll, waiters=waiters, counts=counts)
    running.cancel()
    await asyncio.wait([running])


async def test_whoever_waits_is_answered_when_the_payment_is_final(desk: Desk) -> None:
    desk.store.has(1)
    desk.store.has(2)
    assert desk.defer(1, "a")
    assert desk.defer(1, "b")
    assert desk.defer(2, "c")
    await until(lambda: sum(desk.store.look_ups) >= 2)
    assert desk.publisher.sent == {}
    desk.store.has(1, PaymentStatus.COMPLETED)
    desk.waiters.notify(1)
    for name in ("a", "b"):
        body, headers = await desk.sent(name)
        assert b'"COMPLETED"' in body
        assert headers == {"x-request-id": "r-1", "x-payment-status-source": "gateway", "x-wait-seconds": "30"}
    assert len(desk.long_poll) == 1
    assert "c" not in desk.publisher.sent


async def test_after_a_resync_everything_is_looked_up_many_at_a_time(desk: Desk) -> None:
    for payment_id in range(MANY):
        desk.store.has(payment_id)
        desk.defer(payment_id, str(payment_id))
    await until(lambda: sum(desk.store.look_ups) >= MANY)
    assert len(desk.store.look_ups) <= 10
    desk.store.has(2, PaymentStatus.COMPLETED)
    desk.waiters.resync()
    await desk.sent("2")
    assert len(desk.long_poll) == MANY - 1


async def test_after_its_time_the_answer_is_what_was_last_known(desk: Desk) -> None:
    desk.store.has(1)
    desk.defer(1, "a", seconds=-1)
    desk.defer(1, "b")
    headers = {"x-request-id": "r-1", "x-payment-status-source": "local", "x-wait-seconds": "30"}
    assert await desk.sent("a") == (LAST_KNOWN, headers)
    assert len(desk.long_poll) == 1


async def test_a_stop_answers_everybody_and_defers_nothing_more(desk: Desk) -> None:
    desk.store.has(1)
    for number in range(100):
        desk.defer(1, str(number))
    await desk.long_poll.stop()
    assert len(desk.publisher.sent) == 100
    assert "x-wait-seconds" not in (await desk.sent("1"))[1]
    assert len(desk.long_poll) == 0
    assert not desk.defer(1, "late")


async def test_one_outcome_answers_thousands_some_at_a_time(desk: Desk) -> None:
    desk.store.has(1)
    for number in range(MANY):
        assert desk.defer(1, str(number))
    assert not desk.defer(1, "one too many")
    desk.store.has(1, PaymentStatus.COMPLETED)
    desk.waiters.notify(1)
    await until(lambda: len(desk.publisher.sent) == MANY)
    assert desk.publisher.most_at_once <= 32
    assert sum(desk.store.look_ups) <= 3
    assert desk.counts["long_poll final"] == MANY
    assert desk.counts["long_poll refused"] == 1


async def test_while_the_database_is_away_people_wait_on(desk: Desk) -> None:
    desk.store.has(1)
    desk.store.is_away = True
    desk.defer(1, "a")
    await until(lambda: desk.store.look_ups)
    desk.store.has(1, PaymentStatus.COMPLETED)
    desk.store.is_away = False
    await desk.sent("a")


async def test_an_answer_that_the_broker_does_not_take_is_counted(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.store.has(1, PaymentStatus.COMPLETED)
    desk.publisher.refuses = True
    with caplog.at_level(logging.WARNING):
        desk.defer(1, "a")
        await until(lambda: desk.counts["long_poll lost"])
    assert "could not be sent" in caplog.text
    desk.publisher.refuses = False
    desk.defer(1, "b")
    await desk.sent("b")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("10", 10), (10, 10), ("60", 60), (61, 60), (10**8, 60), ("0", 0), (0, 0), (-1, 0), (10**9, 0), ("10s", 0)]
    + [(value, 0) for value in ("", " 10", "1.5", 1.5, None, True, b"10", [10])],
)
def test_a_wish_to_wait_is_a_whole_number_of_seconds(value: Any, seconds: int) -> None:
    assert envelope.wait_seconds(value) == seconds
