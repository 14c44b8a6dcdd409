"""The sandbox over HTTP: Stripe's own SDK works with it, and errors are the SDK's."""

from email.utils import parsedate_to_datetime
from io import BytesIO
from typing import Any

import pytest
import stripe

from tests.integration.sandbox.harness import KEY, Running

KEYED: Any = {"idempotency_key": "key-1"}


async def test_the_sdk_creates_pays_and_pages_through_everything(sandbox: Running, client: stripe.StripeClient) -> None:
    sessions = client.v1.checkout.sessions
    made = [await sessions.create_async(sandbox.create_params()) for _ in range(7)]
    assert made[0].last_response.headers["Stripe-Version"] == "2026-10-28.endive"
    for session in made:
        await sandbox.pay(session.id)
    ids = [session.id for session in made]
    page = await sessions.list_async({"limit": 3})
    assert [session.id async for session in page.auto_paging_iter()] == ids[::-1]
    page = await sessions.list_async({"ending_before": ids[1], "limit": 2})
    assert [session.id async for session in page.auto_paging_iter()] == ids[2:]
    paid = await sessions.retrieve_async(ids[0], {"expand": ["payment_intent"]})
    assert isinstance(paid.payment_intent, stripe.PaymentIntent)
    events = await client.v1.events.list_async({"type": "checkout.session.completed", "limit": 2})
    assert [event.data.object.id async for event in events.auto_paging_iter()] == ids[::-1]


async def test_the_sdk_reads_what_follows_a_payment_and_whose_account_it_is(
    sandbox: Running, client: stripe.StripeClient
) -> None:
    sessions = [await client.v1.checkout.sessions.create_async(sandbox.create_params()) for _ in range(2)]
    await sandbox.control(f"sessions/{sessions[0].id}/settle", {"outcome": "paid", "amount_total": 900})
    await sandbox.control(f"sessions/{sessions[0].id}/refund", {"amount": 400})
    await sandbox.control(f"sessions/{sessions[0].id}/dispute", {})
    types = ["charge.refunded", "charge.dispute.created", "checkout.session.async_payment_succeeded"]
    page = await client.v1.events.list_async({"types": types})
    dispute, charge, session = [event.data.object async for event in page.auto_paging_iter()]
    assert isinstance(dispute, stripe.Dispute)
    assert isinstance(charge, stripe.Charge)
    assert (dispute.amount, charge.amount_refunded, session.amount_total) == (500, 400, 900)
    assert charge.metadata["paymentId"] == "70"
    found = await client.v1.checkout.sessions.list_async({"payment_intent": str(dispute.payment_intent)})
    assert [each.id for each in found.data] == [sessions[0].id]
    await sandbox.control("config", {"accounts": {"sk_test_other": "acct_1Other"}})
    other = sandbox.client("sk_test_other")
    assert (await other.v1.accounts.retrieve_current_async()).id == "acct_1Other"
    with pytest.raises(stripe.InvalidRequestError, match=r"No such checkout\.session") as refused:
        await other.v1.checkout.sessions.retrieve_async(sessions[0].id)
    assert refused.value.http_status == 404


async def test_the_date_of_an_answer_is_the_sandboxs_and_stands_there_once(
    sandbox: Running, client: stripe.StripeClient
) -> None:
    now = (await sandbox.control("clock", {"advance_seconds": -3600}))["now"]
    page = await client.v1.events.list_async()
    moment = parsedate_to_datetime(page.last_response.headers["Date"]).timestamp()
    assert now <= moment <= sandbox.sandbox.clock.now()
    async with sandbox.http.get(f"{sandbox.url}/_sandbox/stats") as answer:
        assert len(answer.headers.getall("Date")) == 1


async def test_errors_are_those_of_the_sdk(sandbox: Running, client: stripe.StripeClient) -> None:
    create = client.v1.checkout.sessions.create_async
    await create(sandbox.create_params(), KEYED)
    with pytest.raises(stripe.IdempotencyError):
        await create(sandbox.create_params(client_reference_id="8"), KEYED)
    with pytest.raises(stripe.InvalidRequestError, match="must be one of") as refused:
        await create(sandbox.create_params(mode="gift"))
    assert (refused.value.http_status, refused.value.param) == (400, "mode")
    with pytest.raises(stripe.AuthenticationError):
        await sandbox.client("sk_live_0123456789abcdef").v1.events.list_async()
    await sandbox.control("config", {"rate_limits": {"global": 0}})
    with pytest.raises(stripe.RateLimitError):
        await create(sandbox.create_params())
    await sandbox.control("config", {"rate_limits": {}, "error_rate": 1})
    with pytest.raises(stripe.APIError) as failed:
        await create(sandbox.create_params())
    assert failed.value.http_status == 500


@pytest.mark.parametrize("fault", [{"down": True}, {"drop_responses": 1}])
async def test_a_cut_connection_is_one_for_the_sdk(
    sandbox: Running, client: stripe.StripeClient, fault: dict[str, Any]
) -> None:
    await sandbox.control("config", fault)
    with pytest.raises(stripe.APIConnectionError):
        await client.v1.checkout.sessions.create_async(sandbox.create_params())
    assert len(await sandbox.control("ledger")) == fault.get("drop_responses", 0)


async def test_the_retries_of_the_sdk_survive_a_dropped_response(sandbox: Running) -> None:
    await sandbox.control("config", {"drop_responses": 2})
    patient = sandbox.client(max_network_retries=2)
    await patient.v1.checkout.sessions.create_async(sandbox.create_params())
    assert len(await sandbox.control("ledger")) == 1


@pytest.mark.parametrize(
    ("host", "base"), [("sandbox:12111", "http://sandbox:12111"), ("[::1]:80", "http://[::1]:80"), ('x"><b>', None)]
)
async def test_the_page_has_the_name_that_the_caller_used(sandbox: Running, host: str, base: str | None) -> None:
    form = "mode=payment&success_url=https://a.test&line_items[0][quantity]=1&line_items[0][price_data][currency]=inr"
    form += "&line_items[0][price_data][unit_amount]=900&line_items[0][price_data][product_data][name]=n"
    headers = {"Host": host, "Authorization": f"Bearer {KEY}", "Content-Type": "application/x-www-form-urlencoded"}
    async with sandbox.http.post(f"{sandbox.url}/v1/checkout/sessions", data=form, headers=headers) as answer:
        assert (await answer.json())["url"].startswith(f"{base or sandbox.url}/c/pay/cs_test_")


async def test_a_body_that_is_too_long_is_refused(sandbox: Running) -> None:
    async with sandbox.http.post(f"{sandbox.url}/_sandbox/config", data=BytesIO(b"x" * (1 << 21))) as answer:
        assert answer.status == 413
