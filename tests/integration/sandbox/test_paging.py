"""Lists: newest first, cursors in both directions, filters."""

from typing import Any

import pytest
import stripe

from tests.integration.sandbox.harness import Running


async def _made(sandbox: Running, client: stripe.StripeClient, count: int) -> list[str]:
    create = client.v1.checkout.sessions.create_async
    return [(await create(sandbox.create_params(client_reference_id=str(n)))).id for n in range(count)]


async def test_pages_run_from_the_newest_to_the_oldest(sandbox: Running, client: stripe.StripeClient) -> None:
    made = await _made(sandbox, client, 13)
    page = await client.v1.checkout.sessions.list_async()
    assert [session.id for session in page.data] == made[:-11:-1]
    assert (page.has_more, page.url) == (True, "/v1/checkout/sessions")
    rest = await client.v1.checkout.sessions.list_async({"starting_after": page.data[-1].id, "limit": 3})
    assert ([session.id for session in rest.data], rest.has_more) == ([made[2], made[1], made[0]], False)


async def test_ending_before_gives_the_page_next_to_the_cursor(sandbox: Running, client: stripe.StripeClient) -> None:
    made = await _made(sandbox, client, 6)
    page = await client.v1.checkout.sessions.list_async({"ending_before": made[1], "limit": 2})
    assert ([session.id for session in page.data], page.has_more) == ([made[3], made[2]], True)
    walked = [session.id async for session in page.auto_paging_iter()]
    assert walked == made[2:]


async def test_the_sdk_pages_through_everything(sandbox: Running, client: stripe.StripeClient) -> None:
    made = await _made(sandbox, client, 7)
    page = await client.v1.checkout.sessions.list_async({"limit": 3})
    assert [session.id async for session in page.auto_paging_iter()] == made[::-1]


async def test_filters_narrow_the_list(sandbox: Running, client: stripe.StripeClient) -> None:
    made = await _made(sandbox, client, 5)
    paid = await sandbox.pay(made[1])
    await sandbox.pay(made[3])
    await client.v1.checkout.sessions.expire_async(made[4])

    async def found(**params: Any) -> list[str]:
        page = await client.v1.checkout.sessions.list_async(params)  # type: ignore[arg-type]
        return [session.id for session in page.data]

    assert await found(status="complete") == [made[3], made[1]]
    assert await found(status="open") == [made[2], made[0]]
    assert await found(status="expired") == [made[4]]
    assert await found(status="complete", starting_after=made[3]) == [made[1]]
    assert await found(payment_intent=paid["payment_intent"]) == [made[1]]
    assert await found(customer_details={"email": "payer@example.com"}) == [made[3], made[1]]


async def test_created_bounds_are_inclusive_or_not_as_they_say(sandbox: Running, client: stripe.StripeClient) -> None:
    sandbox.sandbox.account._wall_clock = lambda: 1_900_000_000
    made = []
    for _ in range(3):
        made += await _made(sandbox, client, 1)
        await sandbox.control("clock", {"advance_seconds": 10})
    start = 1_900_000_000

    async def found(created: Any) -> list[str]:
        page = await client.v1.checkout.sessions.list_async({"created": created})
        return [session.id for session in page.data]

    assert await found({"gte": start + 10}) == [made[2], made[1]]
    assert await found({"gt": start + 10}) == [made[2]]
    assert await found({"lte": start + 10}) == [made[1], made[0]]
    assert await found({"lt": start + 10}) == [made[0]]
    assert await found({"gt": start, "lt": start + 20}) == [made[1]]
    assert await found(start + 10) == [made[1]]


@pytest.mark.parametrize(
    ("params", "kinds"),
    [
        ({"type": "checkout.session.completed"}, {"checkout.session.completed"}),
        ({"type": "checkout.session.*"}, {"checkout.session.completed", "checkout.session.expired"}),
        ({"type": "*"}, {"checkout.session.completed", "checkout.session.expired", "payment_intent.created"}),
        ({"types": ["checkout.session.expired", "charge.refunded"]}, {"checkout.session.expired"}),
        ({"types": ["charge.refunded"]}, set()),
        ({"delivery_success": False}, set()),
    ],
)
async def test_events_are_filtered_by_type(
    sandbox: Running, client: stripe.StripeClient, params: Any, kinds: set[str]
) -> None:
    made = await _made(sandbox, client, 2)
    await sandbox.pay(made[0])
    await client.v1.checkout.sessions.expire_async(made[1])
    page = await client.v1.events.list_async({"limit": 100, **params})
    assert {event.type for event in page.data} - {"payment_intent.succeeded"} == kinds


async def test_events_page_by_cursor_in_the_order_they_happened(sandbox: Running, client: stripe.StripeClient) -> None:
    made = await _made(sandbox, client, 5)
    for identifier in made:
        await sandbox.pay(identifier)
    kinds = ["checkout.session.completed", "checkout.session.expired"]
    first = await client.v1.events.list_async({"types": kinds, "limit": 2})
    older = await client.v1.events.list_async({"types": kinds, "limit": 10, "starting_after": first.data[-1].id})
    both = [*first.data, *older.data]
    assert [event.data.object.id for event in both] == made[::-1]
    assert (first.has_more, older.has_more) == (True, False)
    newer = await client.v1.events.list_async({"types": kinds, "ending_before": both[-1].id})
    walked = [event.data.object.id async for event in newer.auto_paging_iter()]
    assert walked == made[1:]
