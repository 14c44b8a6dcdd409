"""Keys, versions and headers."""

from base64 import b64encode

import pytest
import stripe

from tests.integration.sandbox.harness import Running

SECRET = "51H8abcdefghijklmnop4321"


@pytest.mark.parametrize("key", ["sk_test_1", "rk_test_abc_DEF", f"sk_test_{SECRET}"])
async def test_every_well_formed_test_key_is_the_one_account(sandbox: Running, key: str) -> None:
    session = await sandbox.client("sk_test_maker").v1.checkout.sessions.create_async(sandbox.create_params())
    assert (await sandbox.client(key).v1.checkout.sessions.retrieve_async(session.id)).id == session.id


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        (f"sk_live_{SECRET}", "Invalid API Key provided: sk_live_********************4321"),
        (f"rk_live_{SECRET}", "Invalid API Key provided: rk_live_********************4321"),
        ("sk_live_short", "Invalid API Key provided: sk_live_*****"),
        ("sk_test_", "Invalid API Key provided: sk_test_"),
        ("sk_test_a-b", "Invalid API Key provided: sk_test_***"),
        ("nonsense", "Invalid API Key provided: ********"),
        ("pk_test_1", "publishable API key"),
    ],
)
async def test_other_keys_are_refused_and_never_repeated(sandbox: Running, key: str, shown: str) -> None:
    with pytest.raises(stripe.AuthenticationError) as refused:
        await sandbox.client(key).v1.events.list_async()
    assert refused.value.http_status == 401
    assert shown in str(refused.value)
    assert SECRET not in str(refused.value)
    assert refused.value.headers is not None
    assert refused.value.headers["WWW-Authenticate"] == 'Basic realm="Stripe"'


@pytest.mark.parametrize("authorization", ["", "Basic !", "Digest x", "Bearer "])
async def test_a_call_without_a_key_is_challenged(sandbox: Running, authorization: str) -> None:
    status, headers, body = await sandbox.raw("GET", "/v1/events", headers={"Authorization": authorization})
    assert (status, headers["WWW-Authenticate"]) == (401, 'Basic realm="Stripe"')
    assert body["error"]["message"].startswith("You did not provide an API key.")


async def test_the_key_may_come_as_a_user_name(sandbox: Running) -> None:
    basic = b64encode(b"sk_test_basic:").decode()
    status, _, _ = await sandbox.raw("GET", "/v1/events", headers={"Authorization": f"Basic {basic}"})
    assert status == 200


async def test_answers_carry_the_headers_of_stripe(sandbox: Running, client: stripe.StripeClient) -> None:
    session = await client.v1.checkout.sessions.create_async(sandbox.create_params())
    headers = session.last_response.headers
    assert headers["Stripe-Version"] == "2026-10-28.endive"
    assert headers["Stripe-Should-Retry"] == "false"
    assert headers["Content-Type"] == "application/json"
    assert headers["Request-Id"].startswith("req_")


@pytest.mark.parametrize(
    ("version", "status"),
    [("2026-09-30.endive", 200), ("2026-10-28.endive", 200), ("2025-03-31.basil", 400), ("newest", 400)],
)
async def test_only_releases_that_mean_the_same_are_spoken(sandbox: Running, version: str, status: int) -> None:
    answered, headers, _ = await sandbox.raw("GET", "/v1/events", headers={"Stripe-Version": version})
    assert (answered, headers["Stripe-Version"]) == (status, version)


@pytest.mark.parametrize(
    ("host", "base"),
    [
        ("sandbox:12111", "http://sandbox:12111"),
        ("[::1]:80", "http://[::1]:80"),
        ('x"><b>', None),
    ],
)
async def test_the_page_has_the_name_that_the_caller_used(sandbox: Running, host: str, base: str | None) -> None:
    form = "mode=payment&success_url=https://a.test&line_items[0][quantity]=1&line_items[0][price_data][currency]=inr"
    form += "&line_items[0][price_data][unit_amount]=900&line_items[0][price_data][product_data][name]=n"
    _, _, body = await sandbox.raw("POST", "/v1/checkout/sessions", form, {"Host": host})
    assert body["url"].startswith(f"{base or sandbox.url}/c/pay/cs_test_")
