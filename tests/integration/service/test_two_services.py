"""Two services that share a database and Stripe's limits."""

import asyncio

from service.application.waiters import WaitResult
from tests.integration.operators.conftest import gauge, pages, scraped
from tests.integration.service.messages.rig import CREATE, a_create, around, running, serving, until

LIMIT = 10
BUYERS = 40
"""Too many for the limit and for the second's worth that Stripe's bucket holds."""


async def test_a_service_that_does_not_lead_asks_the_leader_to_read_and_is_notified_of_it(
    amqp_url: str, migrated_url: str
) -> None:
    """By itself the leader reads once a minute: a hang ends sooner than five such reads."""
    leader = "SELECT leader FROM feed WHERE leader_until > now()"
    async with around(amqp_url, migrated_url, feed_interval_seconds=60) as rig, serving(rig.settings):
        [first] = await until(lambda: rig.sql(leader))
        async with serving(rig.settings) as other:
            session, waiters = (await rig.created())["sessionId"], other.application.waiters
            payment_id = (await rig.payment(session))["id"]

            async def notified() -> bool:
                waiters.request_read()
                return await waiters.wait(payment_id, seconds=1, read=True) is WaitResult.READ

            async with asyncio.timeout(60):
                for _ in range(5):
                    await until(notified)
            assert waiters.last_read_seconds_ago() < 60
            await rig.sandbox.pay(session)
            waiters.request_read()
            await rig.until_rows(1, "SELECT 1 FROM payments WHERE id = $1 AND status = 'COMPLETED'", payment_id)
            assert await waiters.wait(payment_id, seconds=60) is WaitResult.FINAL
            assert await rig.sql(leader) == [first]


async def test_what_two_services_create_at_once_is_never_too_much_for_stripe(amqp_url: str, migrated_url: str) -> None:
    rates = {"stripe_requests_per_second": LIMIT, "stripe_global_requests_per_second": 2 * LIMIT}
    rates["stripe_concurrency"] = BUYERS // 2  # commands that one service takes: the rest is the other's
    of_creates, used = ("endpoint", "create"), 0.0
    async with running(amqp_url, migrated_url, **rates) as rig, serving(rig.settings) as other:
        assert rig.service is not None
        await rig.sandbox.control("config", {"rate_limits": {"default": LIMIT}})
        replies = await asyncio.gather(*(rig.ask(CREATE, a_create()) for _ in range(BUYERS)))
        assert {reply.type for reply in replies} == {"checkout.create.reply"}
        calls = (await rig.sandbox.control("stats"))["calls"]["checkout.sessions.create"]
        assert (calls["calls"], calls["rate_limited"]) == (BUYERS, 0)
        for service in (rig.service, other):
            async with pages(service.asgi) as client:
                page = await scraped(client)
            used += page.get(("payment_service_permits_total", frozenset({of_creates, ("result", "used")})), 0)
            waiting = page["payment_service_permits_waiting", frozenset({of_creates, ("priority", "write")})]
            assert (waiting, gauge(page, "payment_service_quota_local")) == (0, 0)
            assert page["payment_service_rate_factor", frozenset({of_creates})] == 1
    assert used == BUYERS
