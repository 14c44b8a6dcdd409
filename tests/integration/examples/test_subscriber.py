"""The reference subscriber knows the truth, whatever arrives twice, late, broken, or while it is killed."""

import asyncio
import json
from random import Random
from typing import Any

import pytest

from contracts import body
from service.application import translation
from service.domain.payment import PaymentStatus
from service.domain.status import Change, ChangeKind
from tests.integration.examples.conftest import Subscriber
from tests.kit.brokers import RoleUrl
from tests.kit.service import a_payment
from tests.kit.until import until
from tools.chaos.proxy import Mode, behind_proxy

PENDING, COMPLETED, FAILED = PaymentStatus.PENDING, PaymentStatus.COMPLETED, PaymentStatus.FAILED
LIVES = (
    [(ChangeKind.OPENED, PENDING, None), (ChangeKind.COMPLETED, COMPLETED, None)],
    [(ChangeKind.OPENED, PENDING, None), (ChangeKind.FAILED, FAILED, "expired")],
    [(ChangeKind.FAILED, FAILED, "refused")],
    [
        (ChangeKind.OPENED, PENDING, None),
        (ChangeKind.ATTENTION, PENDING, "unsettled"),
        (ChangeKind.FAILED, FAILED, "expired"),
        (ChangeKind.ATTENTION, FAILED, "paid_after_failed"),
    ],
    [
        (ChangeKind.OPENED, PENDING, None),
        (ChangeKind.COMPLETED, COMPLETED, None),
        (ChangeKind.REFUNDED, COMPLETED, None),
    ],
)
"""The events of a payment, in order, for each thing that can happen to it."""
PAYMENTS = 40


def an_event(payment: int, sequence: int, kind: ChangeKind, status: PaymentStatus, reason: str | None) -> bytes:
    attention = {"attention" if kind is ChangeKind.ATTENTION else "reason": reason}
    changed = a_payment(id=payment, booking_id=payment // 2 + 1, status=status, version=sequence, **attention)
    return body.write(translation.event(Change(payment=changed, kind=kind))[1])


def lives(payments: int) -> list[bytes]:
    """All events of so many payments, in order."""
    numbered = ((payment, LIVES[payment % len(LIVES)]) for payment in range(1, payments + 1))
    return [
        an_event(payment, sequence, *step) for payment, life in numbered for sequence, step in enumerate(life, start=1)
    ]


def expected_tasks(payments: int) -> list[tuple[int, str]]:
    confirm, release = "confirm the booking", "give the seats back, unless another payment is alive"
    look = "have a person look at it: {}".format
    of_life = ([confirm], [release], [release], [release, look("unsettled"), look("paid_after_failed")], [confirm])
    return sorted((payment, task) for payment in range(1, payments + 1) for task in of_life[payment % len(LIVES)])


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.thorough) for seed in (2, 3))])
async def test_shuffled_copies_and_kills_leave_what_a_single_ordered_run_leaves(
    subscriber: Subscriber, seed: int
) -> None:
    """F57 Subscriber gets duplicates and old versions: every event three times in any order, killed three times."""
    once = lives(PAYMENTS)
    last = lives(PAYMENTS + 1)[len(once)]  # A queue keeps its order: once this is known, all before it is.
    await subscriber.start()
    await subscriber.publish(*once, last)
    await subscriber.knows(len(once) + 1)
    await subscriber.stop()
    ordered = subscriber.dump()
    assert ordered["tasks"] == expected_tasks(PAYMENTS)

    subscriber.store.unlink()
    deliveries = once * 3
    Random(seed).shuffle(deliveries)  # noqa: S311 - to be repeated
    async with behind_proxy(subscriber.amqp_url) as (proxy, amqp_url):
        await subscriber.start(amqp_url=amqp_url)
        with subscriber.locked_store():
            await subscriber.publish(*deliveries[0::3])
            await until(subscriber.is_empty)
            await proxy.set(Mode.BLACK_HOLE)
        await subscriber.knows(10)  # written, and RabbitMQ never hears of it
        await subscriber.kill()
    await subscriber.start()
    for third in (1, 2):
        await subscriber.publish(*deliveries[third::3])
        await subscriber.kill()  # with whatever it has received and not yet acknowledged
        await subscriber.start()
    await subscriber.publish(last)
    await subscriber.knows(len(once) + 1)
    await subscriber.stop()
    assert subscriber.dump() == ordered
    assert (
        subscriber.said.count(", known") >= 2 * len(once) + 10
    )  # the copies, and what came again after the first kill


def changed(**data: Any) -> bytes:
    document = json.loads(lives(1)[0])
    document["data"] |= data
    return json.dumps(document).encode()


UNREADABLE = [
    b"",
    b"not JSON",
    b"\xff\xfe",
    b"null",
    b"[]",
    b"[" * 100_000,
    b"{}",
    b'{"id": "1", "type": "com.bookticket.payment.pending.v1", "data": []}',
    lives(1)[0].replace(b".v1", b".v2"),
    lives(1)[0].replace(b"com.bookticket", b"com.example"),
    changed(paymentId="1"),
    changed(paymentId=2**63),
    changed(bookingId=True),
    changed(sequence=1.5),
    changed(status=["COMPLETED"]),
    changed(reason={}),
    changed(reason="\ud800"),
]


async def test_what_it_cannot_read_is_parked_as_it_came_and_the_rest_flows(subscriber: Subscriber) -> None:
    """A member that it does not know makes an event no less readable."""
    good = [changed(refundable=True), *lives(len(UNREADABLE))[1:]]
    await subscriber.start()
    for bad, event in zip(UNREADABLE, good, strict=False):
        await subscriber.publish(bad, event)
    assert sorted(await subscriber.parked(len(UNREADABLE))) == sorted(UNREADABLE)
    await subscriber.knows(len(UNREADABLE))
    await subscriber.stop()
    assert len(subscriber.rows("events")) == len(UNREADABLE)


async def test_told_who_the_service_is_it_believes_nobody_else(subscriber: Subscriber, user: str) -> None:
    """S8 Forged event: RabbitMQ vouches for `user_id`, and an event of anybody else is parked."""
    genuine, forged = lives(1)
    await subscriber.start("--sender", user)
    await subscriber.publish(forged)
    await subscriber.publish(genuine, user_id=user)
    await subscriber.knows(1)
    assert await subscriber.parked(1) == [forged]
    await subscriber.stop()
    assert [status for _, _, status, _, _ in subscriber.rows("payments")] == [json.loads(genuine)["data"]["status"]]


async def test_it_comes_back_after_a_lost_connection_and_a_lost_queue(subscriber: Subscriber) -> None:
    events = lives(6)
    async with behind_proxy(subscriber.amqp_url) as (proxy, amqp_url):
        await subscriber.start(amqp_url=amqp_url)
        await subscriber.publish(*events[:3])
        await subscriber.knows(3)
        await proxy.set(Mode.DOWN)
        await subscriber.publish(*events[3:6])
        await proxy.set(Mode.NORMAL)
        await subscriber.knows(6)
        await subscriber.channel.queue_delete(subscriber.queue)
        async with asyncio.timeout(60):
            while len(subscriber.rows("events")) < 7:
                await subscriber.publish(events[6])
                await asyncio.sleep(0.2)
        await subscriber.stop()
    assert "Traceback" not in subscriber.said


async def test_a_subscriber_with_its_own_rights_alone_receives_and_parks(
    subscriber: Subscriber, role_url: RoleUrl
) -> None:
    subscriber.queue = "payment-subscriber.payments"
    await subscriber.start(amqp_url=role_url("payment-subscriber"))
    await subscriber.publish(*lives(3), b"not an event")
    await subscriber.knows(len(lives(3)))
    assert await subscriber.parked(1) == [b"not an event"]
    await subscriber.stop()
