"""A stand-in for a Eureka server: the four calls that an instance makes, over real HTTP, and ways to fail."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tools.devstack.processes import free_ports


@dataclass(kw_only=True)
class Eureka:
    """`instances` by id, as they registered. With `refuses` every call gets that status; with `hangs` none."""

    port: int
    instances: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    credentials: set[str] = field(default_factory=set)
    refuses: int | None = None
    hangs: bool = False
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/eureka/"

    @property
    def instance(self) -> dict[str, Any]:
        [instance] = self.instances.values()
        return instance

    async def start(self) -> None:
        """It knows nobody when it starts."""
        self.instances.clear()
        app = web.Application(middlewares=[self._on_any])
        app.router.add_post("/eureka/apps/{app}", self._register)
        app.router.add_put("/eureka/apps/{app}/{id}", self._heartbeat)
        app.router.add_put("/eureka/apps/{app}/{id}/status", self._status)
        app.router.add_delete("/eureka/apps/{app}/{id}", self._cancel)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @web.middleware
    async def _on_any(self, request: web.Request, handler: Any) -> web.StreamResponse:
        kind, _, credentials = request.headers.get("Authorization", "").partition(" ")
        if kind == "Basic":
            self.credentials.add(base64.b64decode(credentials).decode())
        if self.hangs:
            self.calls.append("hangs")
            await asyncio.Event().wait()
        if self.refuses is not None:
            self.calls.append("refused")
            return web.Response(status=self.refuses)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _register(self, request: web.Request) -> web.Response:
        self.calls.append("register")
        instance = (await request.json())["instance"]
        assert request.match_info["app"] == instance["app"]
        self.instances[instance["instanceId"]] = instance
        return web.Response(status=204)

    async def _heartbeat(self, request: web.Request) -> web.Response:
        self.calls.append("heartbeat")
        instance = self.instances.get(request.match_info["id"])
        if instance is None or instance["lastDirtyTimestamp"] != request.query["lastDirtyTimestamp"]:
            return web.Response(status=404)
        return web.Response()

    async def _status(self, request: web.Request) -> web.Response:
        self.calls.append(request.query["value"])
        return web.Response(status=200 if request.match_info["id"] in self.instances else 404)

    async def _cancel(self, request: web.Request) -> web.Response:
        self.calls.append("cancel")
        return web.Response(status=200 if self.instances.pop(request.match_info["id"], None) else 404)


@asynccontextmanager
async def eureka(*, down: bool = False) -> AsyncIterator[Eureka]:
    server = Eureka(port=free_ports(1)[0])
    if not down:
        await server.start()
    try:
        yield server
    finally:
        await server.stop()
