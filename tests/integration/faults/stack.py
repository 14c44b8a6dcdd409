"""A bridge on a real port, and links to the servers that can be cut."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from pydantic import SecretStr

from bridge.rpc_client import RpcClient
from service.settings import Settings
from tests.integration.bridge.conftest import BASE, IDENTITY, served
from tests.kit.bridge import an_app, an_rpc_client
from tests.kit.until import until
from tools.chaos.proxy import Proxy, behind


@dataclass(frozen=True, kw_only=True)
class Bridge:
    """A bridge that serves HTTP, and its caller."""

    client: httpx.AsyncClient
    rpc_client: RpcClient

    async def create(self, command: dict[str, Any], *, key: str | None = None, **options: Any) -> httpx.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        return await self.client.post(f"{BASE}/checkout/create", json=command, headers=headers, **options)


@asynccontextmanager
async def bridge(amqp_url: str, *, timeout_seconds: float = 30, **parts: Any) -> AsyncIterator[Bridge]:
    """Connected to the broker; no bound is so short that a busy machine reaches it."""
    async with an_rpc_client(amqp_url, timeout_seconds=timeout_seconds, max_in_flight=2000, **parts) as rpc_client:
        await until(lambda: rpc_client.ready)
        limits, timeout = httpx.Limits(max_connections=None), httpx.Timeout(60)
        async with (
            served(an_app(rpc_client)) as port,
            httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}", headers=IDENTITY, limits=limits, timeout=timeout
            ) as client,
        ):
            yield Bridge(client=client, rpc_client=rpc_client)


@asynccontextmanager
async def breakable(settings: Settings, name: str, kind: type[Proxy] = Proxy) -> AsyncIterator[tuple[Any, Settings]]:
    """A proxy before the server that a setting names, and the settings that lead through it."""
    secret: SecretStr = getattr(settings, name)
    async with behind(kind, secret.get_secret_value()) as (proxy, url):
        yield proxy, settings.model_copy(update={name: SecretStr(url)})
