"""The baseline: the same calls, sent to Stripe by its SDK alone."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import stripe

from tools.bench.load_generator import OK

KEY = "sk_test_benchmark0001"
FAILED = 502
LIMITED = 429


class BareSdk:
    """A service that calls Stripe at once for each create and each poll, and passes its HTTP status on."""

    def __init__(self, client: stripe.StripeClient) -> None:
        self._sessions = client.v1.checkout.sessions

    async def create(self, booking: int) -> tuple[int, str, None]:
        """Status and session; Stripe says nothing about when to come back."""
        price = {"currency": "inr", "unit_amount": 44997, "product_data": {"name": "Booking"}}
        params: Any = {
            "mode": "payment",
            "line_items": [{"price_data": price, "quantity": 1}],
            "success_url": "http://127.0.0.1/success",
            "client_reference_id": str(booking),
        }
        try:
            session = await self._sessions.create_async(params)
        except stripe.RateLimitError:
            return LIMITED, "", None
        except stripe.StripeError:
            return FAILED, "", None
        return OK, session.id, None

    async def verify(self, session: str) -> tuple[int, bool]:
        """Status, and whether the session is paid."""
        try:
            return OK, (await self._sessions.retrieve_async(session)).payment_status == "paid"
        except stripe.RateLimitError:
            return LIMITED, False
        except stripe.StripeError:
            return FAILED, False


@asynccontextmanager
async def bare_sdk(sandbox: str) -> AsyncIterator[BareSdk]:
    """The SDK on its own connections to the sandbox, without retries."""
    stripe.enable_telemetry = False
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        http_client = stripe.AIOHTTPClient(session=session)
        client = stripe.StripeClient(
            KEY, http_client=http_client, base_addresses={"api": sandbox}, max_network_retries=0
        )
        yield BareSdk(client)
