"""Items that come while a statement is on its way share the next one."""

import asyncio
from collections.abc import Sequence

import asyncpg
import pytest

from service.adapters.postgres.batching import MOST, Batching
from service.domain.errors import StoreUnavailableError
from tests.kit.until import until

BAD, LOST = -1, -2
"""Items that the database refuses, and that lose the connection."""


class Statements:
    """Answers each item with its double, once `may_end` is set; keeps what each statement was given."""

    def __init__(self) -> None:
        self.given: list[list[int]] = []
        self.may_end = asyncio.Event()

    async def __call__(self, items: Sequence[int]) -> list[int]:
        self.given.append(list(items))
        await self.may_end.wait()
        if BAD in items:
            raise asyncpg.CheckViolationError("refused")
        if LOST in items:
            raise StoreUnavailableError from asyncpg.ConnectionDoesNotExistError("in the middle of operation")
        return [2 * item for item in items]


async def begun(batching: Batching[int, int], *items: int) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(batching.run(item)) for item in items]
    await asyncio.sleep(0)
    return tasks


async def test_the_first_goes_at_once_and_those_who_come_meanwhile_go_together() -> None:
    statements = Statements()
    batching = Batching(statements)
    tasks = await begun(batching, 1, 2, 3, 4)
    assert statements.given == [[1]]
    statements.may_end.set()
    assert await asyncio.gather(*tasks) == [2, 4, 6, 8]
    assert await batching.run(5) == 10
    assert statements.given == [[1], [2, 3, 4], [5]]


async def test_a_statement_takes_no_more_than_its_measure() -> None:
    statements = Statements()
    tasks = await begun(Batching(statements), *range(2 * MOST + 2))
    statements.may_end.set()
    assert await asyncio.gather(*tasks) == [2 * n for n in range(2 * MOST + 2)]
    assert [len(items) for items in statements.given] == [1, MOST, MOST, 1]


@pytest.mark.parametrize(
    ("leaver", "batches_begun", "given"),
    [(1, 1, [[1], [3]]), (0, 1, [[1], [2, 3]]), (1, 2, [[1], [2, 3]])],
    ids=["before its batch begins", "the first", "in its batch"],
)
async def test_a_caller_that_leaves_before_its_batch_begins_takes_its_item_along_and_is_no_loss_to_the_others(
    leaver: int, batches_begun: int, given: list[list[int]]
) -> None:
    statements = Statements()
    tasks = await begun(Batching(statements), 1, 2, 3)
    await until(lambda: len(statements.given) == batches_begun)  # the second does not wait for the first one for long
    gone = tasks.pop(leaver)
    gone.cancel()
    await asyncio.wait([gone])
    statements.may_end.set()
    assert await asyncio.gather(*tasks) == [2 * item for item in (1, 2, 3) if item != leaver + 1]
    assert statements.given == given


async def test_what_the_database_refuses_is_run_again_item_by_item_and_only_the_bad_one_fails() -> None:
    statements = Statements()
    tasks = await begun(Batching(statements), 1, 2, BAD, 3)
    statements.may_end.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [answers[0], answers[1], answers[3]] == [2, 4, 6]
    assert isinstance(answers[2], asyncpg.CheckViolationError)
    assert statements.given == [[1], [2, BAD, 3], [2], [BAD], [3]]


async def test_a_lost_connection_is_everybodys_error_as_nobody_knows_what_was_done() -> None:
    statements = Statements()
    tasks = await begun(Batching(statements), 1, 2, LOST)
    statements.may_end.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert answers[0] == 2
    assert [type(answer) for answer in answers[1:]] == [StoreUnavailableError] * 2
    assert statements.given == [[1], [2, LOST]]


async def test_a_statement_that_waits_itself_keeps_the_next_one_waiting_for_a_moment_only() -> None:
    statements = Statements()
    tasks = await begun(Batching(statements), 1, 2, 3)
    await until(lambda: len(statements.given) == 2)
    statements.may_end.set()
    assert await asyncio.gather(*tasks) == [2, 4, 6]
    assert statements.given == [[1], [2, 3]]
