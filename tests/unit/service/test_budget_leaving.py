"""The line goes on, whoever leaves it at whatever moment."""

import asyncio

from service.application.budget import Endpoint
from tests.unit.service.callers import Callers, a_budget
from tests.virtual_time import simulated


def test_a_turn_that_ends_while_the_next_in_line_is_leaving_goes_to_the_one_behind() -> None:
    async def scene() -> list[str]:
        callers = Callers(budget=a_budget(None, concurrency=1))
        tasks = [callers.call(name) for name in ("first", "second", "third")]
        await callers.wait(0.1)
        tasks[0].cancel()
        tasks[1].cancel()  # before the first has given its turn back
        await callers.wait()
        assert not tasks[2].cancelled()
        return callers.order

    assert simulated(scene()) == ["first", "third"]


def test_nothing_is_free_while_all_that_may_be_held_is_held() -> None:
    async def scene() -> tuple[bool, bool]:
        budget = a_budget(None, concurrency=1)
        async with budget.turn(Endpoint.CREATE):
            await asyncio.sleep(0)
            held = budget.is_free(Endpoint.CREATE)
        return held, budget.is_free(Endpoint.CREATE)

    assert simulated(scene()) == (False, True)
