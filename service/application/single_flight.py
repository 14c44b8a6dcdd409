"""Concurrent calls for the same thing share one."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class SingleFlight(Generic[Result]):
    """Runs one call per key at a time; whoever comes while it runs gets its result, or its error.

    The call is a task of its own: a caller that is cancelled leaves, the others still get their answer.
    """

    def __init__(self) -> None:
        self._flights: dict[object, asyncio.Task[Result]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    async def run(
        self, key: object, call: Callable[[], Coroutine[Any, Any, Result]], *, seconds: float | None = None
    ) -> Result:
        """The result of `call`, or of the one under way for `key`; TimeoutError after `seconds`: the call goes on."""
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.create_task(call(), name=f"flight-{key}")
            self._flights[key] = flight
            flight.add_done_callback(functools.partial(self._land, key))
        async with asyncio.timeout(seconds):
            return await asyncio.shield(flight)

    async def drain(self) -> None:
        """Wait until nothing is under way (at shutdown: an answer that is on its way must be stored)."""
        while self._flights:
            await asyncio.wait(list(self._flights.values()))

    def _land(self, key: object, done: "asyncio.Task[Result]") -> None:
        del self._flights[key]
        if not done.cancelled():
            done.exception()  # retrieved: with every caller gone nobody else would
