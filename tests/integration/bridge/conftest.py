import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from bridge.app import create_app
from bridge.http import BridgeProtocol
from bridge.reading import BodyLimits
from bridge.requester import Requester
from tests.conftest import RoleUrl
from tests.integration.bridge.peer import Peer

IDENTITY = {"X-User-Id": "7", "X-User-Roles": "USER,SERVICE_ACCOUNT"}
BASE = "/api/v1/internal/payments"


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for knows no event
            await asyncio.sleep(0.01)


@pytest.fixture
async def peer(amqp_url: str) -> AsyncIterator[Peer]:
    async with Peer(amqp_url) as peer:
        yield peer


@pytest.fixture
async def requester(role_url: RoleUrl, peer: Peer) -> AsyncIterator[Requester]:  # noqa: ARG001 - it must be there first
    """Connected, by its own user, with a peer behind the broker."""
    async with Requester(amqp_url=role_url("payment-bridge"), timeout_seconds=5, max_in_flight=500) as requester:
        await until(lambda: requester.ready)
        yield requester
        assert requester.in_flight == 0


@pytest.fixture
async def app(requester: Requester) -> FastAPI:
    return create_app(requester, limits=BodyLimits(seconds=0.3))


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Calls the application without a socket; its requests carry an identity."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://bridge", headers=IDENTITY) as client:
        yield client


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # pytest keeps its own


Serve = Callable[[FastAPI], Awaitable[int]]


@contextlib.asynccontextmanager
async def served(app: Any) -> AsyncIterator[int]:
    """An ASGI application on a free port, served as the bridge is."""
    config = uvicorn.Config(
        app, port=0, http=BridgeProtocol, ws="none", lifespan="off", log_config=None, access_log=False
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serves applications, as the bridge does."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(app: FastAPI) -> int:
            return await stack.enter_async_context(served(app))

        yield start
