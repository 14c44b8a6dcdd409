"""Whose turn it is, who comes too late, and the end. In virtual time: nothing takes as long as it says."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from service.application.budget import Budget, Endpoint, NoTurnError, Priority
from service.application.leases import Rates
from tests.service_support import NOW
from tests.unit.service.callers import RATES, Callers, a_budget, flaky, now
from tests.virtual_time import simulated

# --- the line -------------------------------------------------------------------------------------------------------


def test_the_line_is_by_priority_then_place_then_arrival() -> None:
    async def scene() -> list[Any]:
        callers = Callers(budget=a_budget(Rates(endpoint=1)))
        callers.call("first")
        await callers.wait(0.5)
        callers.call("background", priority=Priority.BACKGROUND, place=NOW)
        callers.call("waited", priority=Priority.WAITED)
        callers.call("late", place=NOW + timedelta(seconds=2))
        callers.call("same place, later", place=NOW + timedelta(seconds=2))
        callers.call("early", place=NOW)
        await callers.wait()
        return callers.order

    order = ["first", "early", "late", "same place, later", "waited", "background"]
    assert simulated(scene()) == order


def test_a_lone_call_waits_for_nothing_and_asks_for_one_lease() -> None:
    async def scene() -> tuple[list[float], list[tuple[str, int, int | None]]]:
        leases = flaky()
        callers = Callers(budget=a_budget(leases=leases))
        for _ in range(100):
            callers.call(takes=0)
            await callers.wait(1 / 20)
        return callers.times, leases.asked

    times, asked = simulated(scene())
    assert times == pytest.approx([number / 20 for number in range(100)])
    assert asked == [("create", 1, None)] * 100


def test_without_a_rate_only_the_number_of_calls_at_once_counts() -> None:
    async def scene() -> list[float]:
        callers = Callers(budget=a_budget(None, concurrency=3))
        for _ in range(7):
            callers.call(takes=1)
        await callers.wait()
        return callers.times

    assert simulated(scene()) == [0, 0, 0, 1, 1, 1, 2]


def test_who_leaves_the_line_takes_no_turn_along() -> None:
    async def scene() -> tuple[list[Any], list[float], int]:
        callers = Callers(budget=a_budget(Rates(endpoint=2)))
        calls = [callers.call(number) for number in range(40)]
        await callers.wait(0.1)
        for call in calls[1::2]:
            call.cancel()
        await callers.wait()
        return callers.order, callers.times, callers.waiting()

    order, times, waiting = simulated(scene())
    assert (order, waiting) == (list(range(0, 40, 2)), 0)
    assert times[-1] - times[0] == pytest.approx(9.5, abs=0.2)


def test_who_is_cancelled_in_the_moment_of_the_turn_passes_it_on() -> None:
    async def scene() -> list[Any]:
        budget = a_budget(None, concurrency=1)
        callers = Callers(budget=budget)
        callers.call("holder", takes=1)
        await callers.wait(0.1)
        given = callers.call("given")
        callers.call("next")
        await callers.wait(0.1)
        asyncio.get_running_loop().call_at(1.0, lambda: asyncio.get_running_loop().call_soon(given.cancel))
        await callers.wait()
        return [*callers.order, await_free(budget)]

    def await_free(budget: Budget) -> bool:
        return budget.is_free(Endpoint.CREATE)

    order = simulated(scene())
    assert order[-2:] == ["next", True]


def test_an_unused_turn_goes_to_the_next_at_once() -> None:
    async def scene() -> list[tuple[Any, float]]:
        callers = Callers(budget=a_budget(Rates(endpoint=4)))
        for name in ("first", "unused", "next", "last"):
            callers.call(name, used=name != "unused", takes=0.05)
        await callers.wait()
        return callers.began

    began = dict(simulated(scene()))
    assert began["next"] - began["unused"] == pytest.approx(0.05)
    assert began["last"] - began["unused"] == pytest.approx(0.25)


def test_reads_leave_room_for_writes_and_writes_for_reads() -> None:
    async def scene() -> tuple[list[Any], list[Any]]:
        callers = Callers(budget=a_budget(None, concurrency=16))
        for _ in range(40):
            callers.call("read", Endpoint.RETRIEVE, priority=Priority.WAITED, takes=1)
        await callers.wait(0.1)
        for _ in range(40):
            callers.call("write", takes=1)
        await callers.wait(0.5)
        first = list(callers.order)
        await callers.wait(1)
        return first, callers.order[len(first) :]

    first, second = simulated(scene())
    assert (first.count("read"), first.count("write")) == (12, 4)
    assert second.count("read") >= 1
    assert second.count("write") >= 12


# --- who comes too late ---------------------------------------------------------------------------------------------


def test_who_would_come_too_late_hears_so_at_once_and_when_to_come() -> None:
    async def scene() -> tuple[float, float, int]:
        callers = Callers(budget=a_budget())
        for _ in range(200):
            callers.call()
        await callers.wait(1)
        asked_at = now()
        with pytest.raises(NoTurnError) as refused:
            async with callers.budget.turn(Endpoint.CREATE, seconds=5):
                pass
        return now() - asked_at, refused.value.wait_seconds, callers.waiting()

    took, wait, waiting = simulated(scene())
    assert took == 0
    assert wait == pytest.approx(waiting / 20, rel=0.1)


def test_who_has_an_early_place_is_estimated_by_it() -> None:
    async def scene() -> tuple[float, float, float]:
        callers = Callers(budget=a_budget())
        for number in range(100):
            callers.call(place=NOW + timedelta(seconds=number))
        await callers.wait(0.1)
        budget = callers.budget
        return (
            budget.wait_seconds(Endpoint.CREATE, NOW),
            budget.wait_seconds(Endpoint.CREATE, NOW + timedelta(seconds=50)),
            budget.wait_seconds(Endpoint.CREATE),
        )

    early, middle, late = simulated(scene())
    assert early < 0.2
    assert middle == pytest.approx(2.35, abs=0.3)
    assert late == pytest.approx(4.75, abs=0.3)


def test_who_waits_in_vain_hears_so_when_its_time_is_over() -> None:
    async def scene() -> tuple[float, int]:
        leases = flaky()
        callers = Callers(budget=a_budget(leases=leases))
        leases.silent = True
        with pytest.raises(NoTurnError):
            async with callers.budget.turn(Endpoint.CREATE, seconds=1):
                pass
        return now(), callers.waiting()

    assert simulated(scene()) == (1, 0)


def test_slow_calls_that_fill_all_slots_are_part_of_the_estimate() -> None:
    async def scene() -> float:
        callers = Callers(budget=a_budget(concurrency=4))
        for _ in range(400):
            callers.call(takes=5)
        await callers.wait(200)
        return callers.budget.wait_seconds(Endpoint.CREATE) - callers.waiting() * 5 / 4

    assert abs(simulated(scene())) < 20


def test_a_turn_is_free_unless_somebody_waits_or_all_are_taken() -> None:
    async def scene() -> list[bool]:
        callers = Callers(budget=a_budget(Rates(endpoint=2)))
        free = [callers.budget.is_free(Endpoint.RETRIEVE)]
        for _ in range(3):
            callers.call(endpoint=Endpoint.RETRIEVE, priority=Priority.WAITED)
        await callers.wait(0.01)
        free += [callers.budget.is_free(Endpoint.RETRIEVE), callers.budget.is_free(Endpoint.EVENTS)]
        await callers.wait(5)
        return [*free, callers.budget.is_free(Endpoint.RETRIEVE)]

    assert simulated(scene()) == [True, False, True, True]


def test_a_long_line_for_one_endpoint_is_none_for_another() -> None:
    async def scene() -> tuple[bool, float]:
        callers = Callers(budget=a_budget())
        for _ in range(1000):
            callers.call()
        await callers.wait(2)
        free = callers.budget.is_free(Endpoint.RETRIEVE)
        asked_at = now()
        async with callers.budget.turn(Endpoint.RETRIEVE, priority=Priority.WAITED, seconds=0.2):
            return free, now() - asked_at

    free, waited = simulated(scene())
    assert (free, waited) == (True, 0)


# --- the end --------------------------------------------------------------------------------------------------------


def test_at_the_end_everybody_who_waits_is_sent_away() -> None:
    async def scene() -> tuple[list[Any], float, int]:
        leases = flaky()
        callers = Callers(budget=a_budget(leases=leases))
        for _ in range(50):
            callers.call(takes=1)
        await callers.wait(0.5)
        leases.silent = True
        await callers.wait(0.5)
        await callers.budget.close()
        closed_at = now()
        ended = await asyncio.gather(*callers.tasks, return_exceptions=True)
        with pytest.raises(NoTurnError):
            async with callers.budget.turn(Endpoint.CREATE):
                pass
        left = asyncio.all_tasks() - {asyncio.current_task()}
        return ended, now() - closed_at, len(left)

    ended, took, left = simulated(scene())
    assert {type(end) for end in ended} == {type(None), NoTurnError}
    assert (took <= 1, left) == (True, 0)


def test_while_nobody_waits_nothing_runs() -> None:
    async def scene() -> tuple[int, int]:
        leases = flaky()
        callers = Callers(budget=a_budget(leases=leases))
        for _ in range(30):
            callers.call(takes=0)
        await callers.wait(5)
        asked = len(leases.asked)
        await callers.wait(3600)
        return len(leases.asked) - asked, len(asyncio.all_tasks()) - 1

    assert simulated(scene()) == (0, 0)


def test_others_are_told_of_a_line_at_most_twice_a_second() -> None:
    async def scene() -> list[int | None]:
        leases = flaky()
        callers = Callers(budget=a_budget(leases=leases))
        for _ in range(200):
            callers.call(takes=0)
        await callers.wait(5)
        return [waiting for _, _, waiting in leases.asked if waiting is not None]

    told = simulated(scene())
    assert 8 <= len(told) <= 11
    assert told == sorted(told, reverse=True)  # type: ignore[type-var]


def test_what_is_told_of_turns_adds_up() -> None:
    async def scene() -> list[tuple[str, str]]:
        told: list[tuple[str, str]] = []
        budget = Budget(
            concurrency=1, rates=RATES, clock=now, told=lambda endpoint, result, _: told.append((endpoint, result))
        )
        callers = Callers(budget=budget)
        for used in (True, False, True):
            callers.call(used=used, takes=1)
        callers.call(seconds=0.5)
        await callers.wait()
        await asyncio.gather(*callers.tasks, return_exceptions=True)
        return told

    assert sorted(simulated(scene())) == [
        ("create", "refused"),
        ("create", "unused"),
        ("create", "used"),
        ("create", "used"),
    ]
