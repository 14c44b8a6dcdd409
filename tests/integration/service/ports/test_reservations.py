"""The port of reservations: one suite for the fake and for PostgreSQL."""

from datetime import timedelta

import pytest

from service.adapters.postgres import Database, PostgresReservations
from service.application.ports import Reservations
from tests.integration.service.ports.test_store import BOOKINGS
from tests.kit.clock import NOW
from tests.kit.fake_reservations import FakeReservations


@pytest.fixture(params=["fake", "postgres"])
def reservations(request: pytest.FixtureRequest, database: Database) -> Reservations:
    return FakeReservations() if request.param == "fake" else PostgresReservations(database)


def at(seconds: float, *, day: int = 0) -> timedelta:
    return timedelta(days=day, seconds=seconds)


async def keep(reservations: Reservations, booking: int, *, came: float, due: float, kept: float, day: int = 0) -> None:
    moments = {"arrived_at": came, "due_until": due, "kept_until": kept}
    await reservations.keep(booking, **{name: NOW + at(seconds, day=day) for name, seconds in moments.items()})


async def test_a_reservation_is_given_to_its_booking_alone_whenever_it_comes_again(
    reservations: Reservations, booking: int
) -> None:
    await keep(reservations, booking, came=1, due=10, kept=40)
    assert await reservations.take(next(BOOKINGS), at=NOW + at(5), kept_until=NOW + at(50)) is None
    for seconds in (5, 45):
        assert await reservations.take(booking, at=NOW + at(seconds), kept_until=NOW + at(50)) == NOW + at(1)


async def test_a_reservation_is_gone_when_its_time_is_over_or_it_was_dropped(
    reservations: Reservations, booking: int
) -> None:
    await keep(reservations, booking, came=1, due=10, kept=40)
    assert await reservations.take(booking, at=NOW + at(41), kept_until=NOW + at(90)) is None
    await keep(reservations, booking, came=50, due=60, kept=90)
    await reservations.drop(booking)
    await reservations.drop(booking)
    assert await reservations.take(booking, at=NOW + at(51), kept_until=NOW + at(90)) is None


async def test_kept_again_it_stays_where_it_was_unless_it_was_forgotten(
    reservations: Reservations, booking: int
) -> None:
    await keep(reservations, booking, came=1, due=10, kept=40)
    await keep(reservations, booking, came=1, due=20, kept=50)
    await keep(reservations, booking, came=8, due=20, kept=50)  # by a replica that did not know of it
    assert await reservations.take(booking, at=NOW + at(45), kept_until=NOW + at(50)) == NOW + at(1)
    await keep(reservations, booking, came=60, due=70, kept=90)
    assert await reservations.take(booking, at=NOW + at(65), kept_until=NOW + at(90)) == NOW + at(60)


async def test_what_is_due_is_counted_by_the_second_of_its_arrival(reservations: Reservations) -> None:
    came = {next(BOOKINGS): seconds for seconds in (100.0, 100.9, 101.0, 107.5)}
    for booking, seconds in came.items():
        await keep(reservations, booking, came=seconds, due=seconds + 10, kept=seconds + 40, day=2)
    day = NOW + timedelta(days=2)
    first = int(day.timestamp()) + 100
    assert await reservations.due(at=day + at(108)) == {first: 2, first + 1: 1, first + 7: 1}
    assert await reservations.due(at=day + at(110.95)) == {first + 1: 1, first + 7: 1}
    await reservations.take(max(came), at=day + at(109), kept_until=day + at(120))
    assert await reservations.due(at=day + at(110.95)) == {first + 1: 1}


async def test_old_reservations_are_pruned_a_few_at_a_time(reservations: Reservations) -> None:
    for seconds in range(5):
        await keep(reservations, next(BOOKINGS), came=seconds, due=seconds, kept=seconds, day=-100)
    before = NOW + at(3.5, day=-100)
    assert [await reservations.prune_reservations(before=before, limit=3) for _ in range(3)] == [3, 1, 0]
