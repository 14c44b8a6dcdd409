"""What happens to payments after they were paid: refunds and disputes, read late, twice or out of order."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import islice, permutations

import pytest

from service.application.after_paid import OVERLAP
from service.application.event_reader import RETENTION, UnreadError
from service.application.ports import ChargeEvent
from service.domain.money import Money
from service.domain.outcomes import UnknownCause
from service.domain.payment import Payment, PaymentStatus
from service.domain.refunds import Refund, RefundStatus
from tests.kit.fake_store import FakeStore
from tests.kit.world import World


class Shop:
    """A booking of 12.50 that was paid."""

    def __init__(self) -> None:
        self.world = World()
        self.gateway = self.world.gateway
        self.session = ""

    async def paid(self, *, verified: bool = True) -> None:
        self.session = (await self.world.create(bookingId=1, userId=7, amount="12.50")).session_id
        self.gateway.pay(self.session)
        if verified:
            await self.world.verify(self.session)

    async def read(self) -> None:
        """By a process that has read nothing yet."""
        self.world = self.world.replica()
        await self.world.after_paid.read(None, now=self.world.clock.now())

    @property
    def payment(self) -> Payment:
        [payment] = self.world.store.payments.values()
        return payment  # type: ignore[no-any-return]

    @property
    def events(self) -> list[tuple[str, int, str | None, int | None, str | None]]:
        return [
            (each.type.split(".")[-2], data.sequence, data.reason, data.refunded_amount_minor, data.dispute_status)
            for each in self.world.store.outbox.events
            if (data := each.data)
        ]


@pytest.fixture
async def shop() -> Shop:
    shop = Shop()
    await shop.paid()
    return shop


async def test_refunds_are_told_with_what_was_refunded_in_all_and_the_status_stays(shop: Shop) -> None:
    shop.gateway.refund(shop.session, 250)
    await shop.read()
    shop.gateway.refund(shop.session, 1250)
    for _ in range(3):
        await shop.read()
    assert shop.events[2:] == [("refunded", 3, "part", 250, None), ("refunded", 4, "whole", 1250, None)]
    assert (shop.payment.status, shop.payment.refunded_minor) == (PaymentStatus.COMPLETED, 1250)
    journal = await shop.world.store.journal(1)
    assert [(entry.kind, entry.detail["refunded"], entry.detail["in_all"]) for entry in journal[3:]] == [
        ("refunded", "2.50 INR", "2.50 INR"),
        ("refunded", "10.00 INR", "12.50 INR"),
    ]


@pytest.mark.parametrize(("taken", "refunds"), [(1000, {400: "part", 1000: "whole"}), (9900, {1250: "part"})])
async def test_of_money_that_does_not_fit_the_whole_is_what_was_taken(taken: int, refunds: dict[int, str]) -> None:
    shop = Shop()
    shop.session = (await shop.world.create(bookingId=1, userId=7, amount="12.50")).session_id
    shop.gateway.pay(shop.session, money=Money(taken, "inr"))
    await shop.world.verify(shop.session)
    for total in refunds:
        shop.gateway.refund(shop.session, total)
    await shop.read()
    assert [event[2:4] for event in shop.events[2:]] == [(part, total) for total, part in refunds.items()]


async def test_a_refund_that_is_told_after_a_later_one_is_no_news(shop: Shop) -> None:
    shop.gateway.refund(shop.session, 1250)
    shop.gateway.refund(shop.session, 250)
    await shop.read()
    assert [event[3] for event in shop.events[2:]] == [1250]


async def test_a_refund_that_fails_is_taken_off_once_and_told_even_if_nothing_is_left(shop: Shop) -> None:
    shop.gateway.refund(shop.session, 250)
    shop.gateway.refund(shop.session, 1250)
    shop.world.clock.advance(3 * 86400)
    shop.gateway.fail_refund(shop.session, 1000, name="re_2")
    shop.gateway.fail_refund(shop.session, 1000, name="re_2")
    for _ in range(3):
        await shop.read()
    shop.gateway.fail_refund(shop.session, 250)
    for _ in range(3):
        await shop.read()
    assert shop.events[2:] == [
        ("refunded", 3, "part", 250, None),
        ("refunded", 4, "whole", 1250, None),
        ("refunded", 5, "part", 250, None),
        ("refunded", 6, "none", 0, None),
    ]
    assert (shop.payment.status, shop.payment.refunded_minor) == (PaymentStatus.COMPLETED, 0)
    journal = await shop.world.store.journal(1)
    assert [(entry.detail["refund"], entry.detail["failed"]) for entry in journal[5:]] == [
        ("re_2", "10.00 INR"),
        ("re_1", "2.50 INR"),
    ]


HISTORY: list[tuple[str, int, int]] = [  # what happened, minor units, seconds after the first
    ("refund", 400, 0),
    ("refund", 700, 10),
    ("re_1 fails", 400, 20),
    ("refund", 800, 30),
    ("re_3 fails", 500, 40),
    ("refund", 1200, 50),
    ("re_4 fails", 900, 60),
]
"""Refunds of 400, 300, 500 and 900: of the total, as Stripe has it, what failed is gone."""


@pytest.mark.parametrize("order", [*permutations(range(len(HISTORY)))][::101])
async def test_in_whatever_order_refunds_and_failures_are_heard_what_stands_is_what_stripe_has(
    order: tuple[int, ...], shop: Shop
) -> None:
    begun = shop.world.clock.now()
    reader = shop.world.after_paid
    for index in order:
        what, minor, seconds = HISTORY[index]
        if what == "refund":
            shop.gateway.refund(shop.session, minor)
        else:
            shop.gateway.fail_refund(shop.session, minor, name=what.split()[0])
        event = shop.gateway.charges.pop()
        shop.gateway.charges.append(replace(event, at=begun + timedelta(seconds=seconds)))
        await reader.read(None, now=shop.world.clock.now())
    await reader.read(None, now=shop.world.clock.now())
    assert shop.payment.refunded_minor == 300
    sequences = [event[1] for event in shop.events]
    assert sequences == list(range(1, len(sequences) + 1))


ONE_SECOND: dict[str, tuple[list[tuple[str, int]], int, str]] = {
    "the whole again": (
        [("re_1", 1250), ("all", 1250), ("re_1 fails", 1250), ("re_2", 1250), ("all", 1250)],
        1250,
        "whole",
    ),
    "a part instead": ([("re_1", 1250), ("all", 1250), ("re_1 fails", 1250), ("re_2", 500), ("all", 500)], 500, "part"),
    "a part fails, then the whole": (
        [("re_1", 400), ("all", 400), ("re_1 fails", 400), ("re_2", 1250), ("all", 1250)],
        1250,
        "whole",
    ),
    "a third after a failure": (
        [("re_1", 300), ("all", 300), ("re_2", 200), ("all", 500), ("re_1 fails", 300), ("re_3", 100), ("all", 300)],
        300,
        "part",
    ),
}


@pytest.mark.parametrize("reads", [1, 2, 3])
@pytest.mark.parametrize("order", range(0, 120, 7))
@pytest.mark.parametrize("case", ONE_SECOND)
async def test_refunds_and_failures_of_one_second_are_told_as_what_stands_in_whatever_order(
    case: str, order: int, reads: int, shop: Shop
) -> None:
    """By one process that hears them in one read or in some: of a second nobody knows what was first."""
    history, stands, part = ONE_SECOND[case]
    heard = next(islice(permutations(history), order, None))
    reader, now = shop.world.after_paid, shop.world.clock.now()
    for start in range(reads):
        for what, minor in heard[start::reads]:
            if what == "all":
                shop.gateway.refund(shop.session, minor)
            else:
                status = RefundStatus.FAILED if what.endswith("fails") else RefundStatus.STANDS
                shop.gateway.tell_refund(shop.session, minor, name=what.split()[0], status=status)
        await reader.read(None, now=now)
    await reader.read(None, now=now)
    assert (shop.payment.refunded_minor, shop.events[-1][2:4]) == (stands, (part, stands))


async def test_a_refund_by_its_id_costs_no_call_unless_another_one_has_failed(shop: Shop) -> None:
    shop.gateway.tell_refund(shop.session, 250)
    shop.gateway.refund(shop.session, 250)
    await shop.read()
    assert "session_of_intent" not in shop.gateway.calls
    assert shop.payment.refunded_minor == 250


async def test_a_failed_refund_of_a_line_from_before_its_time_was_kept_is_taken_off(shop: Shop) -> None:
    shop.gateway.refund(shop.session, 1250)
    await shop.read()
    journal = shop.world.store._journal[1]
    older = {name: value for name, value in journal[-1].detail.items() if not name.startswith("gateway_")}
    journal[-1] = replace(journal[-1], detail=older)
    shop.gateway.fail_refund(shop.session, 1250)
    await shop.read()
    assert shop.payment.refunded_minor == 0


async def test_disputes_are_told_once_for_each_state_and_their_end_is_the_last_word(shop: Shop) -> None:
    for status in ("needs_response", "won", "needs_response"):
        shop.gateway.dispute(shop.session, status)
    shop.gateway.dispute(shop.session, "needs_response", name="du_2")
    for _ in range(2):
        await shop.read()
    assert shop.events[2:] == [
        ("disputed", 3, "fraudulent", None, "needs_response"),
        ("disputed", 4, "fraudulent", None, "won"),
        ("disputed", 5, "fraudulent", None, "needs_response"),
    ]
    assert (shop.payment.status, shop.payment.dispute) == (PaymentStatus.COMPLETED, "needs_response")


DISPUTE: list[tuple[str, int]] = [  # states, seconds after the first
    ("warning_needs_response", 0),
    ("warning_under_review", 10),
    ("needs_response", 20),
    ("under_review", 20),
    ("lost", 40),
    ("won", 50),
]
"""An inquiry becomes a dispute, which is lost and then won after all."""


@pytest.mark.parametrize("order", [*permutations(range(len(DISPUTE)))][::37])
async def test_in_whatever_order_a_dispute_is_heard_its_last_state_is_the_last_word(
    order: tuple[int, ...], shop: Shop
) -> None:
    begun = shop.world.clock.now()
    for index in [*order, *order]:
        status, seconds = DISPUTE[index]
        shop.gateway.dispute(shop.session, status)
        event = shop.gateway.charges.pop()
        shop.gateway.charges.append(replace(event, at=begun + timedelta(seconds=seconds)))
        await shop.read()
    told = [DISPUTE.index(next(each for each in DISPUTE if each[0] == status)) for *_, status in shop.events[2:]]
    assert told == sorted(set(told)), "each state once, and none after a later one"
    assert (shop.payment.dispute, shop.events[-1][4]) == ("won", "won")


async def test_of_two_disputes_the_one_that_is_open_is_shown(shop: Shop) -> None:
    for status, name in (("needs_response", "du_1"), ("needs_response", "du_2"), ("lost", "du_1"), ("won", "du_2")):
        shop.world.clock.advance(60)
        shop.gateway.dispute(shop.session, status, name=name)
        await shop.read()
    assert [event[4] for event in shop.events[2:]] == ["needs_response", "needs_response", "needs_response", "won"]


async def test_a_dispute_of_a_line_from_before_its_time_was_kept_goes_on_and_not_back(shop: Shop) -> None:
    shop.gateway.dispute(shop.session, "needs_response")
    await shop.read()
    [*_, line] = shop.world.store._journal[1]
    older = {name: value for name, value in line.detail.items() if not name.startswith("gateway_")}
    shop.world.store._journal[1][-1] = replace(line, detail=older)
    for status in ("warning_under_review", "lost"):
        shop.gateway.dispute(shop.session, status)
        await shop.read()
    assert [event[4] for event in shop.events[2:]] == ["needs_response", "lost"]


@pytest.mark.parametrize("is_lost", [False, True])
@pytest.mark.parametrize(
    ("happens", "event"),
    [
        (lambda shop: shop.gateway.dispute(shop.session, "lost"), "disputed"),
        (lambda shop: shop.gateway.refund(shop.session, 1250), "refunded"),
    ],
    ids=["dispute", "refund"],
)
async def test_what_was_refunded_or_disputed_was_paid_first_and_is_adopted_if_the_record_lost_it(
    happens: Callable[[Shop], object], event: str, *, is_lost: bool
) -> None:
    shop = Shop()
    await shop.paid(verified=is_lost)
    happens(shop)
    if is_lost:
        shop.world = shop.world.replica(store=FakeStore())
    await shop.read()
    assert [each[:2] for each in shop.events] == [("pending", 1), ("completed", 2), (event, 3)]


async def test_a_refund_of_a_failed_payment_is_told_too(shop: Shop) -> None:
    session = (await shop.world.create(bookingId=2)).session_id
    shop.gateway.let_expire(session)
    await shop.world.verify(session)
    shop.gateway.refund(session, 100)
    await shop.read()
    failed = await shop.world.store.payment_of_session(session)
    assert (failed.status, failed.refunded_minor) == (PaymentStatus.FAILED, 100)
    assert shop.events[-1][0] == "refunded"


async def test_strangers_refunds_and_disputes_are_ignored(shop: Shop) -> None:
    shop.gateway.dispute(shop.session, "lost")
    [event] = shop.gateway.charges
    shop.gateway.charges[:] = [
        ChargeEvent(id="evt_1", at=event.at, reference=None, payment_intent="pi_other", refunded_minor=5),
        ChargeEvent(id="evt_2", at=event.at, reference=None, payment_intent="pi_other", dispute=event.dispute),
        ChargeEvent(
            id="evt_3",
            at=event.at,
            reference=None,
            payment_intent="pi_other",
            refund=Refund(id="re_9", minor=5, status=RefundStatus.FAILED),
        ),
    ]
    await shop.read()
    assert len(shop.events) == 2


async def test_the_mark_moves_to_the_newest_event_but_not_past_what_failed_or_is_yet_to_come(shop: Shop) -> None:
    reader, clock = shop.world.after_paid, shop.world.clock
    assert await reader.read(None, now=clock.now()) is None
    shop.gateway.refund(shop.session, 250)
    at = clock.now()
    clock.advance(60)
    assert await reader.read(None, now=clock.now()) == at
    clock.advance(60)
    shop.gateway.dispute(shop.session, "lost")
    assert await reader.read(at, now=clock.now() - timedelta(seconds=30)) == at, "dated in the future"
    shop.gateway.dispute(shop.session, "lost", name="du_2")
    shop.gateway.fault = UnknownCause.FAILED
    with pytest.raises(UnreadError):
        await reader.read(at, now=clock.now())


async def test_what_is_read_goes_back_an_hour_and_never_further_than_stripe_keeps_events(shop: Shop) -> None:
    asked = []
    first, now = shop.gateway.charge_events, shop.world.clock.now()

    async def events(**named):  # type: ignore[no-untyped-def]
        asked.append(now - named["since"])
        return await first(**named)

    shop.gateway.charge_events = events
    for mark in (None, now - timedelta(days=40), now - timedelta(minutes=1)):
        await shop.world.after_paid.read(mark, now=now)
    assert asked == [RETENTION, RETENTION, OVERLAP + timedelta(minutes=1)]
