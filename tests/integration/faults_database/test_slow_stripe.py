"""A slow Stripe must not eat the database's connections."""

import asyncio

import pytest

from service.adapters.store import database
from tests.integration.service.messages.rig import CREATE, a_create, running


async def test_a_hundred_creates_wait_for_a_slow_stripe_without_a_connection(
    amqp_url: str, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F36 Slow Stripe, a pool of 5 and 100 creates: no connection is held during the call, nobody waits for one."""
    monkeypatch.setattr(database, "POOL_SIZE", 5)
    async with running(amqp_url, migrated_url, stripe_concurrency=100) as rig:
        await rig.sandbox.control("config", {"latency_ms": 3000})
        replies = await asyncio.gather(*(rig.ask(CREATE, a_create()) for _ in range(100)))
        assert {reply.type for reply in replies} == {"checkout.create.reply"}
