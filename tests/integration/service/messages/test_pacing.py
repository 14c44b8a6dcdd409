"""Two services before a Stripe that limits: what they call together is within it, and their pages say how."""

import asyncio
from typing import Any

import httpx

from service.bootstrap import Service
from tests.integration.service.messages.rig import CREATE, a_create, running, serving

LIMIT = 10
BUYERS = 40
"""Too many for the limit and for the second's worth that Stripe's bucket holds."""


async def test_what_two_services_create_at_once_is_never_too_much_for_stripe(amqp_url: str, migrated_url: str) -> None:
    rates = {"stripe_requests_per_second": LIMIT, "stripe_global_requests_per_second": 2 * LIMIT}
    rates["stripe_concurrency"] = BUYERS // 2  # commands that one service takes: the rest is the other's
    async with running(amqp_url, migrated_url, **rates) as rig, serving(rig.settings) as other:
        assert rig.service is not None
        await rig.sandbox.control("config", {"rate_limits": {"default": LIMIT}})
        replies = await asyncio.gather(*(rig.ask(CREATE, a_create()) for _ in range(BUYERS)))
        assert {reply.type for reply in replies} == {"checkout.create.reply"}
        calls = (await rig.sandbox.control("stats"))["calls"]["checkout.sessions.create"]
        assert (calls["calls"], calls["rate_limited"]) == (BUYERS, 0)
        pages = [await metrics(service) for service in (rig.service, other)]
        used = 'payment_service_turns_total{endpoint="create",result="used"}'
        assert sum(page.get(used, 0) for page in pages) == BUYERS
        for page in pages:
            assert page['payment_service_turns_waiting{endpoint="create",priority="write"}'] == 0
            assert page['payment_service_pace{endpoint="create"}'] == 1
            assert page["payment_service_turns_alone"] == 0


async def metrics(service: Service) -> dict[str, float]:
    """The page's series."""
    transport: Any = httpx.ASGITransport(service.asgi)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        page = (await client.get("/actuator/prometheus")).text
    lines = (line.rpartition(" ") for line in page.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}
