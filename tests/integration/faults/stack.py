"""A bridge on a real port, and ways to the servers that can be cut."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn
from pydantic import SecretStr

from bridge.app import create_app
from bridge.http import BridgeProtocol
from bridge.requester import Requester
from service.settings import Settings
from tests.integration.bridge.conftest import BASE, IDENTITY
from tests.integration.service.messages.rig import until
from tests.proxy import Proxy, behind_proxy


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # pytest keeps its own


@dataclass(frozen=True, kw_only=True)
class Bridge:
    """A bridge that serves HTTP, and a caller of it."""

    client: httpx.AsyncClient
    requester: Requester

    async def create(self, command: dict[str, Any], *, key: str | None = None, **options: Any) -> httpx.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        return await self.client.post(f"{BASE}/checkout/create", json=command, headers=headers, **options)


@asynccontextmanager
async def bridge(amqp_url: str, *, timeout_seconds: float = 30) -> AsyncIterator[Bridge]:
    """Connected to the broker, with no bound that a loaded machine could reach."""
    async with Requester(amqp_url=amqp_url, timeout_seconds=timeout_seconds, max_in_flight=2000) as requester:
        await until(lambda: requester.ready)
        config = uvicorn.Config(
            create_app(requester), port=0, http=BridgeProtocol, ws="none", lifespan="off", log_config=None, backlog=2048
        )
        server = _Server(config)
        serving = asyncio.create_task(server.serve())
        await until(lambda: server.started)
        port: int = server.servers[0].sockets[0].getsockname()[1]
        limits = httpx.Limits(max_connections=None)
        base, timeout = f"http://127.0.0.1:{port}", httpx.Timeout(60)
        try:
            async with httpx.AsyncClient(base_url=base, headers=IDENTITY, limits=limits, timeout=timeout) as client:
                yield Bridge(client=client, requester=requester)
        finally:
            server.should_exit = True
            await serving


@asynccontextmanager
async def breakable(settings: Settings, name: str) -> AsyncIterator[tuple[Proxy, Settings]]:
    """The server that a setting names behind a proxy, and the settings that lead there."""
    secret: SecretStr = getattr(settings, name)
    async with behind_proxy(secret.get_secret_value()) as (proxy, url):
        yield proxy, settings.model_copy(update={name: SecretStr(url)})
