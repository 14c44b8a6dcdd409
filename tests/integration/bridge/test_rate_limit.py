"""Limits per caller and per booking: what the flooder gets, and that nobody else gets it."""

import asyncio
from collections import Counter
from typing import Any

import httpx

from bridge.rate_limit import RateLimit
from bridge.rpc_client import RpcClient
from tests.integration.bridge.conftest import BASE, IDENTITY, client_of, served
from tests.integration.bridge.peer import Peer
from tests.kit.bridge import an_app, rate_limits
from tests.kit.clock import Seconds

CREATE, READ = f"{BASE}/checkout/create", f"{BASE}/status/cs_test_a1"
FLOODER, OTHER = IDENTITY | {"X-User-Id": "666"}, IDENTITY


def a_create(booking: int) -> dict[str, Any]:
    return {"bookingId": booking, "userId": 42, "amount": 540.9}


async def test_a_flood_is_refused_and_the_other_caller_is_served(rpc_client: RpcClient, peer: Peer) -> None:
    """S17: over real sockets, on one bridge: 429 for what is beyond the limit, for the flooder alone."""
    rates = rate_limits(callers=RateLimit(per_second=1e-6, burst=50))
    counts: dict[str, Counter[int]] = {"flooder": Counter(), "other": Counter()}

    async def ask(who: str, headers: dict[str, str], times: int) -> None:
        for _ in range(times):
            counts[who][(await client.get(READ, headers=headers)).status_code] += 1

    limits = httpx.Limits(max_connections=20)
    async with (
        served(an_app(rpc_client, rate_limits=rates)) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", limits=limits, timeout=60) as client,
    ):
        await asyncio.gather(*(ask("flooder", FLOODER, 25) for _ in range(10)), ask("other", OTHER, 40))
    assert counts == {"flooder": Counter({429: 200, 200: 50}), "other": Counter({200: 40})}
    assert len(peer.commands) == 90


async def test_a_booking_may_be_created_so_often_a_minute_whoever_asks(rpc_client: RpcClient, peer: Peer) -> None:
    """The refusal says when to come back, and then that is true. Meanwhile the payment is read, and others created."""
    clock = Seconds()
    rates = rate_limits(bookings=RateLimit(per_second=6 / 60, burst=6, clock=clock))
    async with client_of(an_app(rpc_client, rate_limits=rates)) as client:
        callers = (FLOODER, OTHER)
        asked = [await client.post(CREATE, json=a_create(7), headers=callers[each % 2]) for each in range(20)]
        assert [answer.status_code for answer in asked] == [200] * 6 + [429] * 14
        assert {answer.headers["retry-after"] for answer in asked[6:]} == {"10"}
        problem = asked[-1].json()
        assert (problem["paymentStatus"], problem["retryable"]) == ("RATE_LIMITED", True)
        assert (await client.post(CREATE, json=a_create(8))).status_code == 200
        assert (await client.get(READ)).status_code == 200
        clock.now += 10
        asked = [await client.post(CREATE, json=a_create(7)) for _ in range(2)]
        assert [answer.status_code for answer in asked] == [200, 429]
    assert len(peer.commands) == 9


async def test_what_is_refused_for_another_reason_does_not_count_and_health_is_never_refused(
    rpc_client: RpcClient, peer: Peer
) -> None:
    """Whoever only claims to be the caller, without the role, uses up nothing of what the caller may."""
    limit = RateLimit(per_second=1e-6, burst=1)
    async with client_of(an_app(rpc_client, rate_limits=rate_limits(bookings=limit))) as client:
        for wrong in ({"amount": -1}, {"status": "paid"}, {"userId": 0}):
            assert (await client.post(CREATE, json=a_create(7) | wrong)).status_code == 400
        assert (await client.post(CREATE, json=a_create(7))).status_code == 200
    async with client_of(an_app(rpc_client, rate_limits=rate_limits(callers=limit))) as client:
        for _ in range(20):
            assert (await client.get(READ, headers={"X-User-Roles": "USER"})).status_code == 403
            assert (await client.get("/actuator/health/liveness")).status_code == 200
            assert (await client.get("/actuator/health/readiness")).status_code == 200
        assert [(await client.get(READ)).status_code for _ in range(2)] == [200, 429]
    assert len(peer.commands) == 2
