"""The baseline: the same calls sent to Stripe by its SDK and nothing else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import stripe

from tests.bench.load import OK, bookings

KEY = "sk_test_benchmark0001"
FAILED = 502
LIMITED = 429


class Bare:
    """Answers with the HTTP status that a service which only passes on would give."""

    def __init__(self, client: stripe.StripeClient) -> None:
        self._sessions = client.v1.checkout.sessions

    async def create(self, booking: int | None = None) -> tuple[int, str]:
        """Status and session."""
        price = {"currency": "inr", "unit_amount": 44997, "product_data": {"name": "Booking"}}
        params: Any = {
            "mode": "payment",
            "line_items": [{"price_data": price, "quantity": 1}],
            "success_url": "http://127.0.0.1/success",
            "client_reference_id": str(next(bookings) if booking is None else booking),
        }
        try:
            session = await self._sessions.create_async(params)
        except stripe.RateLimitError:
            return LIMITED, ""
        except stripe.StripeError:
            return FAILED, ""
        return OK, session.id

    async def retrieve(self, session: str) -> tuple[int, bool]:
        """Status, and whether the session is paid."""
        try:
            return OK, (await self._sessions.retrieve_async(session)).payment_status == "paid"
        except stripe.RateLimitError:
            return LIMITED, False
        except stripe.StripeError:
            return FAILED, False


@asynccontextmanager
async def bare(sandbox: str) -> AsyncIterator[Bare]:
    stripe.enable_telemetry = False
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        http_client = stripe.AIOHTTPClient(session=session)
        client = stripe.StripeClient(
            KEY, http_client=http_client, base_addresses={"api": sandbox}, max_network_retries=0
        )
        yield Bare(client)
