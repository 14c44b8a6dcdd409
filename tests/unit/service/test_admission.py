"""Creates in a rush: in order of arrival, as many as the line allows, and nobody who is patient is refused twice."""

import asyncio
import math
import random
from datetime import timedelta
from itertools import pairwise

import pytest

from service.application.admission import DUE, KEPT, MAX_KEPT, PATIENCE_SECONDS
from service.domain.errors import GatewayBusyError, StoreUnavailableError
from service.entrypoints.delivery import HANDLER_SECONDS
from tests.fakes import FakePlaces
from tests.unit.service.rush import BEGINNING, Buyer, Rush, VirtualClock
from tests.virtual_time import simulated

PER_SECOND = 24.5


def crowd(count: int, *, seconds: float) -> list[Buyer]:
    return [Buyer(booking=number + 1, arrives=number * seconds / count) for number in range(count)]


@pytest.mark.parametrize(("count", "seconds", "replicas"), [(2000, 60, 1), (2000, 60, 3), (1000, 0.5, 3), (1200, 5, 1)])
def test_nobody_in_a_rush_is_refused_twice_and_no_turn_is_wasted(count: int, seconds: float, replicas: int) -> None:
    """Buyers in a minute, at once, or ten times as many as can be served; callers wait 10 s and come back once."""
    rush, buyers = Rush(per_second=PER_SECOND, replicas=replicas), crowd(count, seconds=seconds)
    simulated(rush.run(*buyers, tries=2))
    assert [buyer.booking for buyer in buyers if buyer.served == math.inf] == []
    assert max(buyer.refusals for buyer in buyers) == 1
    assert max(buyer.longest_wait for buyer in buyers) <= rush.patience
    assert len(rush.given) / rush.given[-1] >= 0.95 * PER_SECOND
    assert rush.places.kept == {}
    if replicas == 1:  # several have several lines, which are served together
        assert all(first.served <= second.served for first, second in pairwise(buyers))


def test_a_rush_that_fits_into_the_callers_patience_refuses_nobody() -> None:
    rush, buyers = Rush(per_second=PER_SECOND), crowd(600, seconds=20)
    simulated(rush.run(*buyers))
    assert sum(buyer.refusals for buyer in buyers) == 0


def test_the_turns_of_those_who_never_come_back_are_not_wasted() -> None:
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


def test_a_storm_of_repeats_of_one_booking_takes_one_place() -> None:
    rush, buyers = Rush(per_second=10), crowd(150, seconds=5)
    storm = [Buyer(booking=buyers[60].booking, arrives=buyers[60].arrives) for _ in range(500)]
    simulated(rush.run(*buyers, *storm))
    assert sum(buyer.refusals for buyer in buyers) <= len(buyers)
    calm, alone = Rush(per_second=10), crowd(150, seconds=5)
    simulated(calm.run(*alone))
    # The first of the storm is one of the buyers: the others' turns are where they were, to a turn.
    for with_storm, without in zip(buyers, alone, strict=True):
        if with_storm.booking != storm[0].booking:
            assert abs(with_storm.served - without.served) <= 0.2


def test_a_storm_of_impatient_repeats_does_not_starve_those_who_came_before() -> None:
    """All come back after half a second, whatever they are told; order is by first arrival all the same."""
    rush, buyers = Rush(per_second=10), crowd(400, seconds=10)
    simulated(rush.run(*buyers, tries=200, waits=0.5))
    by_turn = sorted(buyers, key=lambda buyer: buyer.served)
    assert all(buyer.served < math.inf for buyer in buyers)
    assert all(first.arrives <= second.arrives + 1 for first, second in pairwise(by_turn))
    assert len(rush.given) / rush.given[-1] >= 0.95 * 10


def test_a_create_without_a_caller_waits_less_than_a_handler_may_take() -> None:
    assert PATIENCE_SECONDS < HANDLER_SECONDS
    rush = Rush(per_second=1)

    async def go() -> list[float]:
        async def one(booking: int) -> float:
            try:
                async with rush.doors[0].turn(booking, deadline=None) as turn:
                    turn.used = True
                    return asyncio.get_running_loop().time()
            except GatewayBusyError as error:
                return -float(error.retry_after_seconds or 0)

        return await asyncio.gather(*(one(booking) for booking in range(1, 16)))

    ends = simulated(go())
    assert ends[:9] == [pytest.approx(second) for second in range(9)]
    assert all(end < 0 for end in ends[10:])
    assert max(ends) <= PATIENCE_SECONDS


def test_the_time_to_come_back_leaves_half_of_the_patience_for_waiting() -> None:
    rush, buyers = Rush(per_second=1), crowd(30, seconds=0.1)

    async def go() -> list[tuple[int, int]]:
        told = []

        async def one(booking: int) -> None:
            deadline = VirtualClock().now() + timedelta(seconds=10.5)
            try:
                async with rush.doors[0].turn(booking, deadline=deadline) as turn:
                    turn.used = True
            except GatewayBusyError as error:
                told.append((booking, error.retry_after_seconds or 0))

        await asyncio.gather(*(one(buyer.booking) for buyer in buyers))
        return told

    told = simulated(go())
    # Nine are let in (8.5 s to wait, 1 s for the call); the n-th would wait n - 1 s, and 4.25 s of them in line.
    assert told == [(booking, math.ceil(booking - 1 - 4.25)) for booking in range(10, 31)]


def test_nobody_is_told_to_come_back_when_the_place_is_gone() -> None:
    rush, buyers = Rush(per_second=0.1), crowd(200, seconds=0)
    simulated(rush.run(*buyers, tries=1))
    assert max(place.kept_until for place in rush.places.kept.values()) == BEGINNING + MAX_KEPT
    assert max(place.due_until for place in rush.places.kept.values()) == BEGINNING + MAX_KEPT - KEPT + DUE


def test_a_place_that_cannot_be_stored_is_no_reason_to_say_something_else() -> None:
    class Away(FakePlaces):
        async def keep(self, *_: object, **__: object) -> None:
            raise StoreUnavailableError

    rush, buyers = Rush(per_second=1, places=Away()), crowd(30, seconds=0.1)
    simulated(rush.run(*buyers, tries=1))
    assert sum(buyer.refusals for buyer in buyers) == 20


def test_a_place_is_kept_for_a_while_after_its_time() -> None:
    rush, buyers = Rush(per_second=1), crowd(15, seconds=0)
    simulated(rush.run(*buyers, tries=1))
    place = rush.places.kept[15]
    back_at = BEGINNING + timedelta(seconds=math.ceil(14 - 4.5))
    assert (place.arrived_at, place.due_until, place.kept_until) == (BEGINNING, back_at + DUE, back_at + KEPT)
