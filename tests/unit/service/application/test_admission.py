"""Creates in a rush: in order of arrival, as many as the rate allows, and nobody who is patient is refused twice."""

import asyncio
import math
import random
from datetime import timedelta
from itertools import pairwise

import pytest

from service.application.admission import DUE, KEPT, MAX_KEPT, PATIENCE_SECONDS
from service.domain.errors import GatewayBusyError, StoreUnavailableError
from service.entrypoints.middleware import HANDLER_SECONDS
from tests.kit.clock import NOW as BEGINNING
from tests.kit.clock import LoopClock
from tests.kit.fake_reservations import FakeReservations
from tests.kit.service import context
from tests.kit.virtual_time import simulated
from tests.unit.service.application.rush import Buyer, Rush

PER_SECOND = 24.5


def crowd(count: int, *, seconds: float) -> list[Buyer]:
    return [Buyer(booking=number + 1, arrives=number * seconds / count) for number in range(count)]


@pytest.mark.parametrize(
    ("count", "seconds", "replicas", "refusals"),
    [(2000, 60, 1, 1), (2000, 60, 3, 1), (1000, 0.5, 3, 1), (1200, 5, 1, 1), (600, 20, 1, 0)],
)
def test_nobody_in_a_rush_is_refused_twice_and_no_permit_is_wasted(
    count: int, seconds: float, replicas: int, refusals: int
) -> None:
    """Callers wait 10 s and come back once; a rush that fits into their patience refuses nobody."""
    rush, buyers = Rush(per_second=PER_SECOND, replicas=replicas), crowd(count, seconds=seconds)
    simulated(rush.run(*buyers, tries=2))
    assert [buyer.booking for buyer in buyers if buyer.served == math.inf] == []
    assert max(buyer.refusals for buyer in buyers) == refusals
    assert max(buyer.longest_wait for buyer in buyers) <= rush.patience
    assert len(rush.given) / rush.given[-1] >= 0.95 * PER_SECOND
    assert rush.reservations.kept == {}
    if replicas == 1:  # several replicas have several queues, which are served together
        assert all(first.served <= second.served for first, second in pairwise(buyers))


def test_the_permits_of_those_who_never_come_back_are_not_wasted() -> None:
    rush, buyers = Rush(per_second=PER_SECOND), crowd(2000, seconds=60)
    gone = set(random.Random(1).sample(range(1, 2001), 600))  # noqa: S311 - the same in every run

    async def go() -> None:
        await asyncio.gather(*(rush.buy(buyer, tries=1 if buyer.booking in gone else 2) for buyer in buyers))

    simulated(go())
    assert [buyer.booking for buyer in buyers if buyer.served == math.inf and buyer.booking not in gone] == []
    assert max(buyer.refusals for buyer in buyers) == 1
    during = [at for at in rush.given if at < 60]
    assert len(during) >= 0.95 * PER_SECOND * 60
    assert len(rush.given) / rush.given[-1] >= 0.95 * PER_SECOND


def test_a_storm_of_repeats_of_one_booking_waits_once() -> None:
    rush, buyers = Rush(per_second=10), crowd(150, seconds=5)
    storm = [Buyer(booking=buyers[60].booking, arrives=buyers[60].arrives) for _ in range(500)]
    simulated(rush.run(*buyers, *storm))
    assert sum(buyer.refusals for buyer in buyers) <= len(buyers)
    calm, alone = Rush(per_second=10), crowd(150, seconds=5)
    simulated(calm.run(*alone))
    # The first of the storm is one of the buyers: the others' permits are where they were, to a permit.
    for with_storm, without in zip(buyers, alone, strict=True):
        if with_storm.booking != storm[0].booking:
            assert abs(with_storm.served - without.served) <= 0.2


def test_a_storm_of_impatient_repeats_does_not_starve_those_who_came_before() -> None:
    """All come back after half a second, whatever they are answered; order is by first arrival all the same."""
    rush, buyers = Rush(per_second=10), crowd(400, seconds=10)
    simulated(rush.run(*buyers, tries=200, waits=0.5))
    by_permit = sorted(buyers, key=lambda buyer: buyer.served)
    assert all(buyer.served < math.inf for buyer in buyers)
    assert all(first.arrives <= second.arrives + 1 for first, second in pairwise(by_permit))
    assert len(rush.given) / rush.given[-1] >= 0.95 * 10


def test_a_create_without_a_caller_waits_less_than_a_handler_may_take() -> None:
    assert PATIENCE_SECONDS < HANDLER_SECONDS
    rush = Rush(per_second=1)

    async def go() -> list[float]:
        async def one(booking: int) -> float:
            try:
                async with rush.doors[0].call(booking, context()):
                    return asyncio.get_running_loop().time()
            except GatewayBusyError as error:
                return -float(error.retry_after_seconds or 0)

        return await asyncio.gather(*(one(booking) for booking in range(1, 16)))

    ends = simulated(go())
    assert ends[:9] == [pytest.approx(second) for second in range(9)]
    assert all(end < 0 for end in ends[10:])
    assert max(ends) <= PATIENCE_SECONDS


def test_the_time_to_come_back_leaves_half_of_the_patience_for_waiting_and_the_reservation_outlasts_it() -> None:
    rush, buyers = Rush(per_second=1), crowd(30, seconds=0)
    answers = dict[int, int]()

    async def one(booking: int) -> None:
        deadline = LoopClock().now() + timedelta(seconds=10.5)
        try:
            async with rush.doors[0].call(booking, context(deadline=deadline)):
                pass
        except GatewayBusyError as error:
            answers[booking] = error.retry_after_seconds or 0

    async def all_at_once() -> None:
        await asyncio.gather(*(one(buyer.booking) for buyer in buyers))

    simulated(all_at_once())
    # Nine are let in (8.5 s to wait, 1 s for the call); the n-th would wait n - 1 s, and 4.25 s of them in the queue.
    assert answers == {booking: math.ceil(booking - 1 - 4.25) for booking in range(10, 31)}
    for booking, kept in rush.reservations.kept.items():
        back_at = BEGINNING + timedelta(seconds=answers[booking])
        assert (kept.arrived_at, kept.due_until, kept.kept_until) == (BEGINNING, back_at + DUE, back_at + KEPT)


def test_nobody_is_told_to_come_back_when_the_reservation_is_gone() -> None:
    rush, buyers = Rush(per_second=0.1), crowd(200, seconds=0)
    simulated(rush.run(*buyers, tries=1))
    assert max(each.kept_until for each in rush.reservations.kept.values()) == BEGINNING + MAX_KEPT
    assert max(each.due_until for each in rush.reservations.kept.values()) == BEGINNING + MAX_KEPT - KEPT + DUE


def test_a_reservation_that_cannot_be_stored_is_no_reason_to_say_something_else() -> None:
    class Away(FakeReservations):
        async def keep(self, *_: object, **__: object) -> None:
            raise StoreUnavailableError

    rush, buyers = Rush(per_second=1, reservations=Away()), crowd(30, seconds=0.1)
    simulated(rush.run(*buyers, tries=1))
    assert sum(buyer.refusals for buyer in buyers) == 20
