"""What lives as long as a block."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar


class Closable(Protocol):
    def close(self) -> Awaitable[object]: ...


Thing = TypeVar("Thing", bound=Closable)


@asynccontextmanager
async def closing(thing: Thing) -> AsyncIterator[Thing]:
    """A connection, a database or a gateway, which is closed in the end."""
    try:
        yield thing
    finally:
        await thing.close()


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, Any]) -> AsyncIterator[None]:
    """Work that goes on beside the block and is cancelled in the end."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
