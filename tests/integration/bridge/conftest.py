import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from bridge.rpc_client import RpcClient
from bridge.uvicorn_protocol import BridgeProtocol
from runtime.http_protocol import KEEP_ALIVE_SECONDS
from tests.integration.bridge.peer import Peer
from tests.kit.bridge import an_app, an_rpc_client
from tests.kit.brokers import RoleUrl
from tests.kit.until import until
from tests.kit.web import listening

IDENTITY = {"X-User-Id": "7", "X-User-Roles": "USER,SERVICE_ACCOUNT"}
BASE = "/api/v1/internal/payments"


@pytest.fixture
async def peer(amqp_url: str) -> AsyncIterator[Peer]:
    async with Peer(amqp_url) as peer:
        yield peer


@pytest.fixture
async def rpc_client(role_url: RoleUrl, peer: Peer) -> AsyncIterator[RpcClient]:  # noqa: ARG001 - it must be there first
    """Connected, by its own user, with a peer behind the broker."""
    async with an_rpc_client(role_url("payment-bridge"), timeout_seconds=5, max_in_flight=500) as rpc_client:
        await until(lambda: rpc_client.ready)
        yield rpc_client
        assert rpc_client.in_flight == 0


@pytest.fixture
async def app(rpc_client: RpcClient, monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    monkeypatch.setattr("bridge.request_body.BODY_SECONDS", 0.3)
    return an_app(rpc_client)


def client_of(app: FastAPI, headers: dict[str, str] = IDENTITY) -> httpx.AsyncClient:
    """Calls the application without a socket; its requests carry an identity."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://bridge", headers=headers)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as client:
        yield client


@contextlib.asynccontextmanager
async def served(app: Any, *, keep_alive_seconds: int = KEEP_ALIVE_SECONDS) -> AsyncIterator[int]:
    """An ASGI application on a free port, served as the bridge is."""
    config = uvicorn.Config(
        app,
        port=0,
        http=BridgeProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_keep_alive=keep_alive_seconds,
    )
    async with listening(config) as port:
        yield port


@pytest.fixture
async def port(app: FastAPI) -> AsyncIterator[int]:
    """Where the application is served."""
    async with served(app) as port:
        yield port
