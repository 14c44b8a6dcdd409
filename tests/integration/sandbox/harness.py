"""A sandbox on a free port of this process, and the two kinds of callers it has: Stripe's SDK and the control API."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import stripe

from deploy.sandbox.app import Sandbox
from deploy.sandbox.server import build
from tests import canary

stripe.enable_telemetry = False
KEY = f"sk_test_{canary.MARK}sandboxTests"


@dataclass(kw_only=True)
class Running:
    sandbox: Sandbox
    url: str
    http: aiohttp.ClientSession
    sdk_clients: list[stripe.AIOHTTPClient] = field(default_factory=list)

    def client(self, key: str = KEY, **options: Any) -> stripe.StripeClient:
        """Stripe's own client, which makes no retries unless told so."""
        transport = stripe.AIOHTTPClient()
        self.sdk_clients.append(transport)
        return stripe.StripeClient(key, http_client=transport, base_addresses={"api": self.url}, **options)

    async def control(self, path: str, body: Any = None, *, expected: int = 200) -> Any:
        method = "GET" if body is None else "POST"
        async with self.http.request(method, f"{self.url}/_sandbox/{path}", json=body) as response:
            answer = await response.json()
            assert response.status == expected, answer
            return answer

    async def pay(self, session_id: str, card: str = "4242 4242 4242 4242", *, expected: int = 200, **more: str) -> Any:
        return await self.control(f"sessions/{session_id}/pay", {"card": card, **more}, expected=expected)

    async def raw(
        self,
        method: str,
        path: str,
        form: Mapping[str, str] | str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Mapping[str, str], Any]:
        """A call without the SDK: status, headers, JSON."""
        sent = {"Authorization": f"Bearer {KEY}", **(headers or {})}
        if isinstance(form, str):
            sent.setdefault("Content-Type", "application/x-www-form-urlencoded")
        async with self.http.request(method, f"{self.url}{path}", data=form, headers=sent) as response:
            return response.status, response.headers, await response.json()

    def create_params(self, **changes: Any) -> dict[str, Any]:
        """What the payment service sends."""
        return {
            "mode": "payment",
            "success_url": "https://booking.test/done?session={CHECKOUT_SESSION_ID}",
            "cancel_url": "https://booking.test/back",
            "client_reference_id": "7",
            "metadata": {"bookingId": "7"},
            "payment_intent_data": {"metadata": {"paymentId": "70"}},
            "allowed_payment_method_types": ["card"],
            "expires_at": self.sandbox.account.now() + 3600,
            "line_items": [line()],
            **changes,
        }


def line(amount: int = 44997, currency: str = "inr", quantity: int = 1, name: str = "3 seats") -> dict[str, Any]:
    price_data = {"currency": currency, "unit_amount": amount, "product_data": {"name": name}}
    return {"price_data": price_data, "quantity": quantity}


@asynccontextmanager
async def running_sandbox() -> AsyncIterator[Running]:
    sandbox = Sandbox()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        server = build(sandbox, host=host, port=port)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:  # noqa: ASYNC110 - uvicorn offers no event to wait for
            await asyncio.sleep(0.005)
        async with aiohttp.ClientSession() as http:
            running = Running(sandbox=sandbox, url=f"http://{host}:{port}", http=http)
            yield running
            for transport in running.sdk_clients:
                await transport.close_async()
        server.should_exit = True
        await serving
