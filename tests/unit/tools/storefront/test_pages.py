"""The web shop's pages, with a fake bridge behind them."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tools.storefront.bridge_client import Bridge
from tools.storefront.shop import shop

SUCCESS = "/payments/success?session_id=cs_test_a1B2"
AGAIN = '<meta http-equiv="refresh"'
Handler = Callable[[httpx.Request], httpx.Response]


def a_shop(bridge: Handler) -> httpx.AsyncClient:
    application = shop(Bridge(url="http://bridge", transport=httpx.MockTransport(bridge)))
    return httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://shop")


def answering(status: int, answer: dict[str, Any], asked: list[httpx.Request] | None = None) -> Handler:
    def bridge(request: httpx.Request) -> httpx.Response:
        if asked is not None:
            asked.append(request)
        return httpx.Response(status, json=answer)

    return bridge


def verified(status: str) -> dict[str, Any]:
    return {"paymentStatus": status, "amount": 449.5, "bookingId": 7, "message": "The page has expired."}


@pytest.mark.parametrize(
    ("status", "answer", "words", "absent"),
    [
        (200, verified("COMPLETED"), ["Thank you", "449.50 INR"], AGAIN),
        (200, verified("PENDING"), [AGAIN, 'href="/"'], "Thank you"),
        (200, verified("FAILED"), ["The page has expired."], AGAIN),
        (404, {"message": "<script>alert(1)</script>"}, ["alert(1)"], "<script"),
    ],
)
async def test_a_payment_is_shown_as_the_bridge_reports_it(
    status: int, answer: dict[str, Any], words: list[str], absent: str
) -> None:
    asked: list[httpx.Request] = []
    page = await a_shop(answering(status, answer, asked)).get(SUCCESS)
    assert page.status_code == status
    assert all(word in page.text for word in words)
    assert absent not in page.text
    assert "script" not in page.headers["Content-Security-Policy"]
    assert asked[0].url.path.endswith("/checkout/verify/cs_test_a1B2")
    assert asked[0].headers["X-User-Roles"] == "USER,SERVICE_ACCOUNT"


@pytest.mark.parametrize("wrong", ["", "pi_1", "cs_../../x", "cs_1?x=1", "cs_<b>"])
async def test_a_wrong_address_is_not_passed_on(wrong: str) -> None:
    asked: list[httpx.Request] = []
    page = await a_shop(answering(200, {}, asked)).get("/payments/success", params={"session_id": wrong})
    assert (page.status_code, asked) == (404, [])


async def test_a_bridge_that_is_down_is_said_in_words_and_tried_again() -> None:
    def down(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    page = await a_shop(down).get(SUCCESS)
    assert page.status_code == 503
    assert "cannot be reached" in page.text
    assert AGAIN in page.text


async def test_an_amount_becomes_a_checkout() -> None:
    asked: list[httpx.Request] = []
    url = "https://checkout.stripe.com/c/pay/cs_1#x"
    answer = await a_shop(answering(200, {"paymentUrl": url}, asked)).post("/checkout", data={"amount": "12.50"})
    assert (answer.status_code, answer.headers["Location"]) == (303, url)
    assert b'"amount":"12.50","currency":"inr"' in asked[0].content


async def test_a_refused_amount_comes_back_with_the_reason() -> None:
    a_bridge = answering(400, {"message": "The amount is too small."})
    answer = await a_shop(a_bridge).post("/checkout", data={"amount": '"><b>'})
    assert answer.status_code == 400
    assert "The amount is too small." in answer.text
    assert "<b>" not in answer.text


async def test_a_payment_url_that_is_no_web_page_is_not_followed() -> None:
    a_bridge = answering(200, {"paymentUrl": "javascript:alert(1)"})
    assert (await a_shop(a_bridge).post("/checkout", data={"amount": "5"})).status_code == 400


async def test_the_other_pages_are_there() -> None:
    client = a_shop(answering(200, {}))
    assert "Nothing was charged" in (await client.get("/payments/cancelled")).text
    assert 'name="amount"' in (await client.get("/")).text
    assert (await client.get("/elsewhere")).status_code == (await client.post("/elsewhere")).status_code == 404
    assert (await client.head("/")).status_code == 200
