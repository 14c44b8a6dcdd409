import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from contracts import envelope
from service.application.news import News
from service.domain.errors import StoreUnavailableError
from service.domain.payment import Payment, PaymentStatus
from service.entrypoints.broker import Addressee, Publisher, UnpublishedError
from service.entrypoints.holds import Held, Holds
from tests.fakes import FakeStore
from tests.integration.service.messages.rig import until
from tests.service_support import a_payment

MANY = 3000
LAST_KNOWN = b'"as it was"'


class Store(FakeStore):
    """Counts looks, and is away when told so."""

    def __init__(self) -> None:
        super().__init__()
        self.looks: list[int] = []
        self.is_away = False

    async def final_among(self, payment_ids: Sequence[int]) -> Sequence[Payment]:
        self.looks.append(len(payment_ids))
        if self.is_away:
            raise StoreUnavailableError
        return await super().final_among(payment_ids)

    def has(self, payment_id: int, status: PaymentStatus = PaymentStatus.PENDING) -> None:
        self.payments[payment_id] = replace(a_payment(id=payment_id), status=status)


class Recorder(Publisher):
    """Keeps what would be said, a moment later, and counts how much of it is on its way at once."""

    def __init__(self) -> None:
        self.said: dict[str | None, tuple[bytes, dict[str, str]]] = {}
        self.at_once = self.most_at_once = 0
        self.refuses = False

    async def answer(self, to: Addressee, body: bytes, *, message_type: str, headers: dict[str, str]) -> None:
        assert message_type == "checkout.verify.reply"
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        if self.refuses:
            raise UnpublishedError("nacked")
        assert to.correlation_id not in self.said, "answered twice"
        self.said[to.correlation_id] = body, headers


@dataclass(kw_only=True)
class Desk:
    """What is under test, with what is around it."""

    store: Store
    publisher: Recorder
    holds: Holds
    news: News

    def hold(self, payment_id: int, name: str, *, seconds: float = 60) -> bool:
        held = Held(
            reply_to=envelope.DIRECT_REPLY_TO,
            correlation_id=name,
            wait_seconds=30,
            last_known=LAST_KNOWN,
            headers={"x-request-id": "r-1", envelope.STATUS_SOURCE: "local"},
            log_fields={"request_id": "r-1"},
        )
        return self.holds.hold(payment_id, held, seconds=seconds)

    async def said(self, name: str) -> tuple[bytes, dict[str, str]]:
        await until(lambda: name in self.publisher.said)
        return self.publisher.said[name]


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    store, publisher, news = Store(), Recorder(), News()
    holds = Holds(store=store, publisher=publisher, limit=MANY)
    news.listen(holds.hear)
    running = asyncio.create_task(holds.run())
    await until(lambda: store.looks == [] and not running.done())
    yield Desk(store=store, publisher=publisher, holds=holds, news=news)
    running.cancel()
    await asyncio.wait([running])


async def test_whoever_waits_is_answered_when_the_payment_is_final(desk: Desk) -> None:
    desk.store.has(1)
    desk.store.has(2)
    assert desk.hold(1, "a")
    assert desk.hold(1, "b")
    assert desk.hold(2, "c")
    await until(lambda: sum(desk.store.looks) >= 2)
    assert desk.publisher.said == {}
    desk.store.has(1, PaymentStatus.COMPLETED)
    desk.news.settled(1)
    for name in ("a", "b"):
        body, headers = await desk.said(name)
        assert b'"COMPLETED"' in body
        assert headers == {
            "x-request-id": "r-1",
            "x-payment-status-source": "gateway",
            "x-wait-seconds": "30",
        }
    assert len(desk.holds) == 1
    assert "c" not in desk.publisher.said


async def test_what_became_final_before_the_wait_began_is_found_without_news(desk: Desk) -> None:
    desk.store.has(1, PaymentStatus.FAILED)
    desk.hold(1, "a")
    assert b'"FAILED"' in (await desk.said("a"))[0]


async def test_when_news_may_have_been_missed_everything_is_looked_up(desk: Desk) -> None:
    for payment_id in (1, 2, 3):
        desk.store.has(payment_id)
        desk.hold(payment_id, str(payment_id))
    await until(lambda: sum(desk.store.looks) >= 3)
    desk.store.has(2, PaymentStatus.COMPLETED)
    desk.news.missed()
    await desk.said("2")
    assert len(desk.holds) == 2


async def test_after_its_time_the_answer_is_what_was_last_known(desk: Desk) -> None:
    desk.store.has(1)
    desk.hold(1, "a", seconds=-1)
    desk.hold(1, "b")
    headers = {"x-request-id": "r-1", "x-payment-status-source": "local", "x-wait-seconds": "30"}
    assert await desk.said("a") == (LAST_KNOWN, headers)
    assert len(desk.holds) == 1


async def test_whoever_leaves_answers_everybody_and_holds_nobody(desk: Desk) -> None:
    desk.store.has(1)
    for number in range(100):
        desk.hold(1, str(number))
    await desk.holds.leave()
    assert len(desk.publisher.said) == 100
    assert "x-wait-seconds" not in (await desk.said("1"))[1]
    assert len(desk.holds) == 0
    assert not desk.hold(1, "late")


async def test_one_outcome_answers_thousands_some_at_a_time(desk: Desk) -> None:
    desk.store.has(1)
    for number in range(MANY):
        assert desk.hold(1, str(number))
    assert not desk.hold(1, "one too many")
    desk.store.has(1, PaymentStatus.COMPLETED)
    desk.news.settled(1)
    await until(lambda: len(desk.publisher.said) == MANY)
    assert desk.publisher.most_at_once <= 32
    assert sum(desk.store.looks) <= 3
    assert desk.holds.counters.settled == MANY
    assert desk.holds.counters.refused == 1


async def test_thousands_of_payments_are_looked_up_many_at_a_time(desk: Desk) -> None:
    for payment_id in range(MANY):
        desk.store.has(payment_id)
        desk.hold(payment_id, str(payment_id))
    await until(lambda: sum(desk.store.looks) >= MANY)
    assert len(desk.store.looks) <= 10


async def test_while_the_database_is_away_people_wait_on(desk: Desk) -> None:
    desk.store.has(1)
    desk.store.is_away = True
    desk.hold(1, "a")
    await until(lambda: desk.store.looks)
    desk.store.has(1, PaymentStatus.COMPLETED)
    desk.store.is_away = False
    await desk.said("a")


async def test_an_answer_that_the_broker_does_not_take_is_counted(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.store.has(1, PaymentStatus.COMPLETED)
    desk.publisher.refuses = True
    with caplog.at_level(logging.WARNING):
        desk.hold(1, "a")
        await until(lambda: desk.holds.counters.lost)
    assert "could not be sent" in caplog.text
    desk.publisher.refuses = False
    desk.hold(1, "b")
    await desk.said("b")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("10", 10), (10, 10), ("60", 60), (61, 60), (10**8, 60), ("0", 0), (0, 0), (-1, 0), (10**9, 0), ("10s", 0)]
    + [(value, 0) for value in ("", " 10", "1.5", 1.5, None, True, b"10", [10])],
)
def test_a_wish_to_wait_is_a_whole_number_of_seconds(value: Any, seconds: int) -> None:
    assert envelope.wait_seconds(value) == seconds
