"""The port of kept places: one suite for the fake and for PostgreSQL."""

import itertools
import os
from datetime import timedelta

import pytest

from service.adapters.store import Database, PostgresPlaces
from service.application.ports import Places
from tests.fakes import FakePlaces
from tests.service_support import NOW

_bookings = itertools.count(os.getpid() * 1_000_000 + 1)


@pytest.fixture(params=["fake", "postgres"])
def places(request: pytest.FixtureRequest, database: Database) -> Places:
    return FakePlaces() if request.param == "fake" else PostgresPlaces(database)


@pytest.fixture
def booking() -> int:
    """A booking that no other test has."""
    return next(_bookings)


async def keep(places: Places, booking: int, *, came: float, due: float, kept: float, day: int = 0) -> None:
    begins = NOW + timedelta(days=day)
    await places.keep(
        booking,
        arrived_at=begins + timedelta(seconds=came),
        due_until=begins + timedelta(seconds=due),
        kept_until=begins + timedelta(seconds=kept),
    )


def at(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


async def test_a_kept_place_is_given_to_its_booking_alone(places: Places, booking: int) -> None:
    await keep(places, booking, came=1, due=10, kept=40)
    assert await places.take(next(_bookings), at=NOW + at(5), kept_until=NOW + at(50)) is None
    assert await places.take(booking, at=NOW + at(5), kept_until=NOW + at(50)) == NOW + at(1)


async def test_a_place_that_was_taken_is_still_kept_for_whoever_comes_again(places: Places, booking: int) -> None:
    await keep(places, booking, came=1, due=10, kept=40)
    for seconds in (5, 45):
        assert await places.take(booking, at=NOW + at(seconds), kept_until=NOW + at(50)) == NOW + at(1)


async def test_a_place_is_gone_when_its_time_is_over_or_it_was_dropped(places: Places, booking: int) -> None:
    await keep(places, booking, came=1, due=10, kept=40)
    assert await places.take(booking, at=NOW + at(41), kept_until=NOW + at(90)) is None
    await keep(places, booking, came=50, due=60, kept=90)
    await places.drop(booking)
    await places.drop(booking)
    assert await places.take(booking, at=NOW + at(51), kept_until=NOW + at(90)) is None


async def test_kept_again_it_stays_where_it_was_unless_it_was_forgotten(places: Places, booking: int) -> None:
    await keep(places, booking, came=1, due=10, kept=40)
    await keep(places, booking, came=1, due=20, kept=50)
    await keep(places, booking, came=8, due=20, kept=50)  # by a replica that did not know of it
    assert await places.take(booking, at=NOW + at(45), kept_until=NOW + at(50)) == NOW + at(1)
    await keep(places, booking, came=60, due=70, kept=90)
    assert await places.take(booking, at=NOW + at(65), kept_until=NOW + at(90)) == NOW + at(60)


async def test_what_is_due_is_counted_by_the_second_of_its_arrival(places: Places) -> None:
    came = {next(_bookings): seconds for seconds in (100.0, 100.9, 101.0, 107.5)}
    for booking, seconds in came.items():
        await keep(places, booking, came=seconds, due=seconds + 10, kept=seconds + 40, day=2)
    day = NOW + timedelta(days=2)
    first = int(day.timestamp()) + 100
    assert await places.due(at=day + at(108)) == {first: 2, first + 1: 1, first + 7: 1}
    assert await places.due(at=day + at(110.95)) == {first + 1: 1, first + 7: 1}
    last = max(came)
    await places.take(last, at=day + at(109), kept_until=day + at(120))
    assert await places.due(at=day + at(110.95)) == {first + 1: 1}


async def test_the_places_of_long_ago_are_pruned_a_few_at_a_time(places: Places) -> None:
    for seconds in range(5):
        await keep(places, next(_bookings), came=seconds, due=seconds, kept=seconds, day=-100)
    long_ago = NOW - timedelta(days=100)
    assert await places.prune_places(before=long_ago + at(3.5), limit=3) == 3
    assert await places.prune_places(before=long_ago + at(3.5), limit=3) == 1
    assert await places.prune_places(before=long_ago + at(3.5), limit=3) == 0
