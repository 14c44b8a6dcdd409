"""Concurrent calls for the same thing share one."""

import asyncio
import gc

import pytest

from service.application.single_flight import SingleFlight


class Call:
    """Counts its runs and ends when `may_end` is set."""

    def __init__(self, error: Exception | None = None) -> None:
        self.runs = 0
        self.ended = 0
        self.may_end = asyncio.Event()
        self._error = error

    async def __call__(self) -> int:
        self.runs += 1
        await self.may_end.wait()
        self.ended += 1
        if self._error is not None:
            raise self._error
        return self.runs


async def started(
    flights: SingleFlight[int], call: Call, *, key: object = "k", waiters: int
) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(flights.run(key, call)) for _ in range(waiters)]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_all_who_come_meanwhile_share_one_call_and_who_comes_afterwards_gets_another() -> None:
    flights, call = SingleFlight[int](), Call()
    tasks = await started(flights, call, waiters=50)
    call.may_end.set()
    assert await asyncio.gather(*tasks) == [1] * 50
    assert len(flights) == 0
    assert await flights.run("k", call) == 2


async def test_different_keys_do_not_wait_for_each_other() -> None:
    flights, slow, quick = SingleFlight[int](), Call(), Call()
    waiting = await started(flights, slow, key="slow", waiters=1)
    quick.may_end.set()
    assert await flights.run("quick", quick) == 1
    assert len(flights) == 1
    slow.may_end.set()
    await asyncio.gather(*waiting)


async def test_a_caller_that_leaves_takes_nobody_along() -> None:
    flights, call = SingleFlight[int](), Call()
    first, second = await started(flights, call, waiters=2)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    call.may_end.set()
    assert await second == 1


async def test_an_error_reaches_every_caller() -> None:
    flights, call = SingleFlight[int](), Call(ValueError("no"))
    tasks = await started(flights, call, waiters=3)
    call.may_end.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [ValueError] * 3
    assert len(flights) == 0


@pytest.mark.parametrize("error", [None, ValueError("no")])
async def test_the_call_is_finished_even_if_every_caller_leaves_and_its_error_makes_no_noise(
    error: Exception | None,
) -> None:
    noises: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, noise: noises.append(noise))
    flights, call = SingleFlight[int](), Call(error)
    for task in await started(flights, call, waiters=3):
        task.cancel()
    call.may_end.set()
    await flights.drain()
    assert call.ended == 1
    await asyncio.sleep(0)
    assert len(flights) == 0
    gc.collect()
    await asyncio.sleep(0)
    assert noises == []
