"""Calls that are under way at the same moment share a statement: one round trip, one commit, one wait for the disk."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Final, Generic, TypeVar

from service.adapters.postgres.reasons import is_rolled_back

Item = TypeVar("Item")
Answer = TypeVar("Answer")

MOST: Final = 50
"""Items in one statement: more would save little, and keep each of them waiting for all."""
PATIENCE_SECONDS: Final = 0.1
"""How long a statement may keep the next one waiting: it may itself be waiting for a lock."""


class Batching(Generic[Item, Answer]):
    """Runs an item at once if no other is on its way; those that come meanwhile share the next statement.

    So nobody waits for a batch to fill, and without load there is none. A batch that the database refuses is run again
    item by item, so that each gets its own answer. A caller that leaves before its batch begins takes its item along;
    one that leaves later changes nothing for the others.
    """

    def __init__(self, run: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]]) -> None:
        """`run` does all of several items in one transaction and answers each of them; if it raises it did none."""
        self._run = run
        self._latest: object | None = None
        """The statement that the others wait for."""
        self._waiting: deque[tuple[Item, asyncio.Future[Answer]]] = deque()
        self._patience: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, item: Item) -> Answer:
        """The item's answer, or its error."""
        if self._latest is None:
            statement = self._latest = object()
            try:
                return await self._single(item)
            finally:
                self._ended(statement)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        self._be_patient()
        return await answer

    def _ended(self, statement: object) -> None:
        if self._latest is statement:
            self._latest = None
            self._begin_next()

    def _be_patient(self) -> None:
        if self._waiting and self._patience is None:
            self._patience = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, self._begin_next)

    def _begin_next(self) -> None:
        """Begin a statement for those who wait."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        batch: list[tuple[Item, asyncio.Future[Answer]]] = []
        while self._waiting and len(batch) < MOST:
            item, answer = self._waiting.popleft()
            if not answer.done():  # its caller has left
                batch.append((item, answer))
        if batch:
            statement = self._latest = object()
            # In a context of its own: the statement is no part of the command of the caller that happens to start it.
            task = asyncio.create_task(self._together(batch, statement), context=Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._be_patient()

    async def _together(self, batch: Sequence[tuple[Item, asyncio.Future[Answer]]], statement: object) -> None:
        try:
            try:
                answers = await self._run([item for item, _ in batch])
            finally:
                self._ended(statement)
            for (_, waiting), answer in zip(batch, answers, strict=True):
                _set(waiting, answer)
        except Exception as error:  # noqa: BLE001 - the callers get it
            if is_rolled_back(error):
                await asyncio.gather(*(self._again(item, waiting) for item, waiting in batch))
            for _, waiting in batch:
                _set(waiting, error)
        finally:
            for _, waiting in batch:
                waiting.cancel()  # of those that have no answer, as the loop ends

    async def _again(self, item: Item, waiting: "asyncio.Future[Answer]") -> None:
        try:
            _set(waiting, await self._single(item))
        except Exception as error:  # noqa: BLE001 - the caller gets it
            _set(waiting, error)

    async def _single(self, item: Item) -> Answer:
        (answer,) = await self._run([item])
        return answer


def _set(waiting: "asyncio.Future[Answer]", answer: Answer | Exception) -> None:
    """Answer a caller that is still there and has no answer."""
    if waiting.done():
        return
    if isinstance(answer, Exception):
        waiting.set_exception(answer)
    else:
        waiting.set_result(answer)
