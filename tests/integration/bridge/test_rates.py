"""Limits per caller and per booking: what the flooder gets, and that nobody else gets it."""

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any

import httpx

from bridge.app import create_app
from bridge.rates import RateLimit, RateLimits
from bridge.requester import Requester
from tests.integration.bridge.conftest import BASE, IDENTITY, Serve
from tests.integration.bridge.peer import Peer

CREATE, READ = f"{BASE}/checkout/create", f"{BASE}/status/cs_test_a1"
FLOODER, OTHER = IDENTITY | {"X-User-Id": "666"}, IDENTITY


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def client_of(requester: Requester, rates: RateLimits) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(create_app(requester, rates=rates))
    return httpx.AsyncClient(transport=transport, base_url="http://bridge", headers=OTHER)


def a_create(booking: int) -> dict[str, Any]:
    return {"bookingId": booking, "userId": 42, "amount": 540.9}


async def test_a_flood_is_refused_and_the_other_caller_is_served(
    requester: Requester, peer: Peer, serve: Serve
) -> None:
    """S17: over real sockets, on one bridge: 429 for what is beyond the limit, for the flooder alone."""
    rates = RateLimits(callers=RateLimit(per_second=1e-6, burst=50))
    port = await serve(create_app(requester, rates=rates))
    counts: dict[str, Counter[int]] = {"flooder": Counter(), "other": Counter()}

    async def ask(who: str, headers: dict[str, str], times: int) -> None:
        for _ in range(times):
            counts[who][(await client.get(READ, headers=headers)).status_code] += 1

    limits = httpx.Limits(max_connections=20)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", limits=limits, timeout=60) as client:
        await asyncio.gather(*(ask("flooder", FLOODER, 25) for _ in range(10)), ask("other", OTHER, 40))
    assert counts == {"flooder": Counter({429: 200, 200: 50}), "other": Counter({200: 40})}
    assert len(peer.commands) == 90


async def test_a_refusal_says_when_to_come_back_and_then_it_is_true(requester: Requester, peer: Peer) -> None:
    clock = Clock()
    rates = RateLimits(callers=RateLimit(per_second=0.5, burst=2, clock=clock))
    async with client_of(requester, rates) as client:
        assert [(await client.get(READ)).status_code for _ in range(2)] == [200, 200]
        for _ in range(30):
            refused = await client.post(CREATE, json=a_create(1))
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")
        assert refused.headers["content-type"] == "application/problem+json"
        problem = refused.json()
        assert (problem["paymentStatus"], problem["retryable"]) == ("RATE_LIMITED", True)
        assert problem["requestId"] == refused.headers["x-request-id"]
        clock.now += 2
        assert (await client.post(CREATE, json=a_create(1))).status_code == 200
    assert len(peer.commands) == 3


async def test_a_booking_may_be_created_so_often_a_minute_whoever_asks(requester: Requester, peer: Peer) -> None:
    """Its payment can still be read, other bookings are created, and the booking itself again after a while."""
    clock = Clock()
    rates = RateLimits(bookings=RateLimit(per_second=6 / 60, burst=6, clock=clock))
    async with client_of(requester, rates) as client:
        callers = (FLOODER, OTHER)
        asked = [await client.post(CREATE, json=a_create(7), headers=callers[each % 2]) for each in range(20)]
        assert [answer.status_code for answer in asked] == [200] * 6 + [429] * 14
        assert {answer.headers["retry-after"] for answer in asked[6:]} == {"10"}
        assert (await client.post(CREATE, json=a_create(8))).status_code == 200
        assert (await client.get(READ)).status_code == 200
        clock.now += 10
        asked = [await client.post(CREATE, json=a_create(7)) for _ in range(2)]
        assert [answer.status_code for answer in asked] == [200, 429]
    assert len(peer.commands) == 9


async def test_what_is_refused_for_another_reason_does_not_count_for_the_booking(
    requester: Requester, peer: Peer
) -> None:
    rates = RateLimits(bookings=RateLimit(per_second=1e-6, burst=1))
    async with client_of(requester, rates) as client:
        for wrong in ({"amount": -1}, {"status": "paid"}, {"userId": 0}):
            assert (await client.post(CREATE, json=a_create(7) | wrong)).status_code == 400
        assert (await client.post(CREATE, json=a_create(7))).status_code == 200
    assert len(peer.commands) == 1


async def test_strangers_do_not_count_and_health_is_never_refused(requester: Requester, peer: Peer) -> None:
    """Whoever only claims to be the caller, without the role, uses up nothing of what the caller may."""
    rates = RateLimits(callers=RateLimit(per_second=1e-6, burst=1))
    async with client_of(requester, rates) as client:
        for _ in range(20):
            assert (await client.get(READ, headers={"X-User-Roles": "USER"})).status_code == 403
            assert (await client.get("/actuator/health/liveness")).status_code == 200
            assert (await client.get("/actuator/health/readiness")).status_code == 200
        assert [(await client.get(READ)).status_code for _ in range(2)] == [200, 429]
    assert len(peer.commands) == 1
