"""ASGI applications on real sockets of this process."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import uvicorn


class _Server(uvicorn.Server):
    """Ends when it is told to, where uvicorn looks ten times a second, and leaves the signals to pytest."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stop = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        while not self.stop.is_set():
            await self.on_tick(0)  # sets the header `Date`
            with suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await self.stop.wait()


@asynccontextmanager
async def listening(config: uvicorn.Config) -> AsyncIterator[int]:
    """The port at which the configured application answers."""
    server = _Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # uvicorn offers no event
        assert not serving.done(), serving
        await asyncio.sleep(0.005)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.stop.set()
        await serving
        # A connection that was accepted while the server ended is in nobody's hands: it would warn in a later test.
        for _ in range(3):
            await asyncio.sleep(0)
            for connection in list(server.server_state.connections):
                if connection.transport is not None:
                    connection.transport.abort()
