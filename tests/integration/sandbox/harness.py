"""A sandbox on a free port of this process, with clients of Stripe's API and of the control API."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import stripe

from tests.kit import canary
from tests.kit.web import listening
from tests.unit.tools.sandbox.caller import create_params
from tools.sandbox.sandbox_app import Sandbox
from tools.sandbox.server import build

stripe.enable_telemetry = False
KEY = f"sk_test_{canary.MARK}sandboxTests"


@dataclass(kw_only=True)
class Running:
    sandbox: Sandbox
    url: str
    http: aiohttp.ClientSession
    sdk_clients: list[stripe.AIOHTTPClient] = field(default_factory=list)

    def client(self, key: str = KEY, **options: Any) -> stripe.StripeClient:
        """Stripe's own client, by default without retries."""
        transport = stripe.AIOHTTPClient()
        self.sdk_clients.append(transport)
        return stripe.StripeClient(key, http_client=transport, base_addresses={"api": self.url}, **options)

    async def control(self, path: str, body: Any = None) -> Any:
        return await self._json("GET" if body is None else "POST", f"/_sandbox/{path}", json=body)

    async def pay(self, session_id: str, card: str = "4242 4242 4242 4242", **more: str) -> Any:
        return await self.control(f"sessions/{session_id}/pay", {"card": card, **more})

    async def raw(self, method: str, path: str) -> Any:
        """A call of Stripe's API without the SDK."""
        return await self._json(method, path, headers={"Authorization": f"Bearer {KEY}"})

    async def _json(self, method: str, path: str, **options: Any) -> Any:
        async with self.http.request(method, f"{self.url}{path}", **options) as response:
            answer = await response.json()
            assert response.status == 200, answer
            return answer

    def create_params(self, **changes: Any) -> dict[str, Any]:
        """What the payment service sends."""
        return create_params(now=self.sandbox.account.now(), **changes)


@asynccontextmanager
async def running_sandbox() -> AsyncIterator[Running]:
    sandbox = Sandbox()
    async with listening(build(sandbox, host="127.0.0.1", port=0).config) as port, aiohttp.ClientSession() as http:
        running = Running(sandbox=sandbox, url=f"http://127.0.0.1:{port}", http=http)
        yield running
        for transport in running.sdk_clients:
            await transport.close_async()
