"""The hosted page as plain HTTP: statuses, headers and redirects; its looks are tested in a browser."""

import asyncio
import re
from collections.abc import Mapping
from typing import Any

import pytest
import stripe

from tests.integration.sandbox.harness import Running

GOOD = {"card": "4242424242424242", "expiry": "12/34", "cvc": "123", "email": "a@b.test", "name": "A"}


async def _open(sandbox: Running, client: stripe.StripeClient, **changes: Any) -> str:
    return (await client.v1.checkout.sessions.create_async(sandbox.create_params(**changes))).id


async def _page(
    sandbox: Running, path: str, form: dict[str, str] | None = None, method: str = ""
) -> tuple[int, Mapping[str, str], str]:
    method = method or ("GET" if form is None else "POST")
    url = f"{sandbox.url}/c/pay/{path}"
    async with sandbox.http.request(method, url, data=form, allow_redirects=False) as response:
        return response.status, response.headers, await response.text()


async def test_pages_are_closed_to_scripts_frames_and_caches(sandbox: Running, client: stripe.StripeClient) -> None:
    status, headers, html = await _page(sandbox, await _open(sandbox, client))
    assert status == 200
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert (headers["Cache-Control"], headers["X-Content-Type-Options"]) == ("no-store", "nosniff")
    assert "<script" not in html
    assert re.findall(r'(?:src|href)="(?!data:,|https://booking\.test/back)', html) == []


async def test_success_leads_to_the_shop_with_the_id_filled_in(sandbox: Running, client: stripe.StripeClient) -> None:
    url = "https://booking.test/fertig/ü?s={CHECKOUT_SESSION_ID}&next={X}&p=%20"
    session_id = await _open(sandbox, client, success_url=url)
    status, headers, _ = await _page(sandbox, session_id, GOOD)
    assert status == 303
    assert headers["Location"] == f"https://booking.test/fertig/%C3%BC?s={session_id}&next={{X}}&p=%20"


async def test_two_clicks_at_once_pay_once_and_both_reach_the_shop(
    sandbox: Running, client: stripe.StripeClient
) -> None:
    session_id = await _open(sandbox, client)
    answers = await asyncio.gather(*(_page(sandbox, session_id, GOOD) for _ in range(5)))
    assert {(status, headers["Location"]) for status, headers, _ in answers} == {
        (303, f"https://booking.test/done?session={session_id}")
    }
    events = (await client.v1.events.list_async({"types": ["payment_intent.succeeded"]})).data
    assert len(events) == 1


async def test_a_decline_is_told_on_a_page_that_can_be_reloaded(sandbox: Running, client: stripe.StripeClient) -> None:
    session_id = await _open(sandbox, client)
    status, headers, _ = await _page(sandbox, session_id, {**GOOD, "card": "4000000000000002"})
    assert (status, headers["Location"]) == (303, f"/c/pay/{session_id}?declined=1")
    _, _, told = await _page(sandbox, f"{session_id}?declined=1")
    _, _, fresh = await _page(sandbox, session_id)
    assert "Your card was declined." in told
    assert "Your card was declined." not in fresh


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("card", "4242"),
        ("card", "four"),
        ("expiry", "13/34"),
        ("expiry", ""),
        ("expiry", "11/20"),
        ("cvc", "12"),
        ("cvc", "1234"),
        ("email", "x"),
        ("name", " "),
    ],
)
async def test_a_form_with_a_mistake_comes_back_without_an_attempt(
    sandbox: Running, client: stripe.StripeClient, field: str, value: str
) -> None:
    session_id = await _open(sandbox, client)
    status, _, html = await _page(sandbox, session_id, {**GOOD, field: value})
    assert status == 422
    assert f'aria-describedby="{field}-remark"' in html
    assert (await client.v1.checkout.sessions.retrieve_async(session_id)).payment_intent is None


async def test_the_payer_is_known_afterwards(sandbox: Running, client: stripe.StripeClient) -> None:
    session_id = await _open(sandbox, client)
    await _page(sandbox, session_id, {**GOOD, "card": "4000000000003220", "name": "Asha", "email": "asha@b.test"})
    await _page(sandbox, f"{session_id}/authenticate", {"outcome": "complete"})
    session = await client.v1.checkout.sessions.retrieve_async(session_id)
    assert session.customer_details is not None
    assert (session.customer_details.name, session.customer_details.email) == ("Asha", "asha@b.test")


async def test_3d_secure_waits_for_the_payer(sandbox: Running, client: stripe.StripeClient) -> None:
    session_id = await _open(sandbox, client)
    assert (await _page(sandbox, f"{session_id}/authenticate"))[0] == 303  # nothing to authenticate yet
    status, headers, _ = await _page(sandbox, session_id, {**GOOD, "card": "4000000000003220"})
    assert (status, headers["Location"]) == (303, f"/c/pay/{session_id}/authenticate")
    session = await client.v1.checkout.sessions.retrieve_async(session_id, {"expand": ["payment_intent"]})
    assert isinstance(session.payment_intent, stripe.PaymentIntent)
    assert session.payment_intent.status == "requires_action"
    assert (await _page(sandbox, f"{session_id}/authenticate", {"outcome": "later"}))[0] == 200
    status, headers, _ = await _page(sandbox, f"{session_id}/authenticate", {"outcome": "complete"})
    assert (status, session_id in headers["Location"]) == (303, True)


async def test_pages_that_take_no_money_have_a_fitting_status(sandbox: Running, client: stripe.StripeClient) -> None:
    paid, expired = await _open(sandbox, client), await _open(sandbox, client)
    await sandbox.pay(paid)
    await client.v1.checkout.sessions.expire_async(expired)
    assert (await _page(sandbox, paid))[0] == 200
    assert (await _page(sandbox, expired))[0] == 410
    assert (await _page(sandbox, expired, GOOD))[0] == 410
    assert (await _page(sandbox, "cs_test_nobody"))[0] == 404
    assert (await _page(sandbox, "cs_test_nobody", GOOD))[0] == 404
    assert (await _page(sandbox, "%3Cscript%3E"))[0] == 404
    assert (await _page(sandbox, paid, method="DELETE"))[0] == 405


async def test_a_chosen_test_card_fills_the_form(sandbox: Running, client: stripe.StripeClient) -> None:
    session_id = await _open(sandbox, client, customer_email="asha@b.test")
    _, _, html = await _page(sandbox, f"{session_id}?card=378282246310005")
    for value in ("3782 822463 10005", "1234", "asha@b.test"):
        assert f'value="{value}"' in html
    _, _, html = await _page(sandbox, f'{session_id}?card="><b>')
    assert "<b>" not in html
