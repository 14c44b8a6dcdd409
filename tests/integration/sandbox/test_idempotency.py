"""Idempotency keys: https://docs.stripe.com/api/idempotent_requests, rule by rule."""

import asyncio
from typing import Any

import pytest
import stripe

from tests.integration.sandbox.harness import Running

KEYED: Any = {"idempotency_key": "key-1"}


async def test_a_repeat_gets_the_first_answer_even_after_the_session_moved_on(
    sandbox: Running, client: stripe.StripeClient
) -> None:
    params = sandbox.create_params()
    first = await client.v1.checkout.sessions.create_async(params, KEYED)
    await sandbox.pay(first.id)
    again = await client.v1.checkout.sessions.create_async(params, KEYED)
    assert again.to_dict() == first.to_dict()
    assert (again.status, again.url) == ("open", first.url)

    headers = again.last_response.headers
    assert headers["Idempotent-Replayed"] == "true"
    assert headers["Original-Request"] == first.last_response.request_id
    assert headers["Idempotency-Key"] == "key-1"
    assert headers["Request-Id"] != first.last_response.request_id
    assert "Idempotent-Replayed" not in first.last_response.headers
    assert first.last_response.headers["Original-Request"] == first.last_response.request_id


async def test_the_order_of_parameters_does_not_matter(sandbox: Running, client: stripe.StripeClient) -> None:
    params = sandbox.create_params()
    first = await client.v1.checkout.sessions.create_async(params, KEYED)
    backwards: Any = dict(reversed(params.items()))
    again = await client.v1.checkout.sessions.create_async(backwards, KEYED)
    assert again.id == first.id


async def test_a_key_belongs_to_its_parameters_and_its_endpoint(sandbox: Running, client: stripe.StripeClient) -> None:
    session = await client.v1.checkout.sessions.create_async(sandbox.create_params(), KEYED)
    with pytest.raises(stripe.IdempotencyError, match="other than 'key-1'") as refused:
        await client.v1.checkout.sessions.create_async(sandbox.create_params(client_reference_id="8"), KEYED)
    assert refused.value.http_status == 400
    assert refused.value.error is not None
    assert (refused.value.error.type, refused.value.error.to_dict().get("code")) == ("idempotency_error", None)
    with pytest.raises(stripe.IdempotencyError):
        await client.v1.checkout.sessions.expire_async(session.id, {}, KEYED)


async def test_a_refused_parameter_leaves_the_key_free(sandbox: Running, client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        await client.v1.checkout.sessions.create_async(sandbox.create_params(mode="gift"), KEYED)
    with pytest.raises(stripe.InvalidRequestError):
        await client.v1.checkout.sessions.create_async(sandbox.create_params(expires_at=1), KEYED)
    assert (await client.v1.checkout.sessions.create_async(sandbox.create_params(), KEYED)).status == "open"


async def test_an_executed_refusal_is_kept(sandbox: Running, client: stripe.StripeClient) -> None:
    session = await client.v1.checkout.sessions.create_async(sandbox.create_params())
    await sandbox.pay(session.id)
    for replayed in (None, "true"):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            await client.v1.checkout.sessions.expire_async(session.id, {}, KEYED)
        assert refused.value.headers is not None
        assert refused.value.headers.get("Idempotent-Replayed") == replayed


async def test_a_500_after_the_work_is_kept(sandbox: Running, client: stripe.StripeClient) -> None:
    await sandbox.control("config", {"lose_responses": 1})
    for replayed in (None, "true"):
        with pytest.raises(stripe.APIError) as failed:
            await client.v1.checkout.sessions.create_async(sandbox.create_params(), KEYED)
        assert failed.value.http_status == 500
        assert failed.value.headers is not None
        assert failed.value.headers.get("Idempotent-Replayed") == replayed
    assert len(await sandbox.control("ledger")) == 1


async def test_a_500_before_the_work_leaves_the_key_free(sandbox: Running, client: stripe.StripeClient) -> None:
    await sandbox.control("config", {"error_rate": 1})
    with pytest.raises(stripe.APIError) as failed:
        await client.v1.checkout.sessions.create_async(sandbox.create_params(), KEYED)
    assert failed.value.http_status == 500
    await sandbox.control("config", {"error_rate": 0})
    session = await client.v1.checkout.sessions.create_async(sandbox.create_params(), KEYED)
    assert "Idempotent-Replayed" not in session.last_response.headers


async def test_a_repeat_while_the_first_is_running_is_409(sandbox: Running, client: stripe.StripeClient) -> None:
    await sandbox.control("config", {"latency_ms": 300})
    params = sandbox.create_params()
    first = asyncio.create_task(client.v1.checkout.sessions.create_async(params, KEYED))
    await asyncio.sleep(0.1)
    with pytest.raises(stripe.APIError, match="another in-progress request") as refused:
        await client.v1.checkout.sessions.create_async(params, KEYED)
    assert refused.value.http_status == 409
    assert refused.value.error is not None
    assert (refused.value.error.code, refused.value.error.type) == ("idempotency_key_in_use", "invalid_request_error")
    session = await first
    assert (await client.v1.checkout.sessions.create_async(params, KEYED)).id == session.id


async def test_a_key_is_forgotten_after_24_hours(sandbox: Running, client: stripe.StripeClient) -> None:
    params = sandbox.create_params()
    del params["expires_at"]
    first = await client.v1.checkout.sessions.create_async(params, KEYED)
    await sandbox.control("clock", {"advance_seconds": 86390})
    assert (await client.v1.checkout.sessions.create_async(params, KEYED)).id == first.id
    await sandbox.control("clock", {"advance_seconds": 20})
    assert (await client.v1.checkout.sessions.create_async(params, KEYED)).id != first.id


async def test_without_a_key_every_post_is_new(sandbox: Running) -> None:
    form = "mode=payment&success_url=https://a.test&line_items[0][quantity]=1&line_items[0][price_data][currency]=inr"
    form += "&line_items[0][price_data][unit_amount]=900&line_items[0][price_data][product_data][name]=n"
    made = [await sandbox.raw("POST", "/v1/checkout/sessions", form) for _ in range(2)]
    assert made[0][2]["id"] != made[1][2]["id"]
    assert "Idempotency-Key" not in made[0][1]


async def test_a_key_may_have_255_characters(sandbox: Running, client: stripe.StripeClient) -> None:
    params = sandbox.create_params()
    await client.v1.checkout.sessions.create_async(params, {"idempotency_key": "k" * 255})
    with pytest.raises(stripe.InvalidRequestError, match="at most 255"):
        await client.v1.checkout.sessions.create_async(params, {"idempotency_key": "k" * 256})
