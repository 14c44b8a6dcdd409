"""The web shop's pages, asked over HTTP, before a bridge that the test plays."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from deploy.local.processes import free_ports
from deploy.storefront.bridge import Bridge
from deploy.storefront.server import handler

SESSION = "cs_test_a1B2"


class FakeBridge(BaseHTTPRequestHandler):
    """Answers what the test has put there and keeps what it was asked."""

    status = 200
    answer: dict[str, Any]
    asked: dict[str, Any]

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        type(self).asked = {
            "path": self.path,
            "roles": self.headers["X-User-Roles"],
            "body": json.loads(self.rfile.read(length) or "null"),
        }
        content = json.dumps(self.answer).encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET  # noqa: N815 - the standard library's name

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


def _serve(server: HTTPServer) -> Iterator[str]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def bridge() -> Iterator[str]:
    yield from _serve(HTTPServer(("127.0.0.1", 0), FakeBridge))


@pytest.fixture
def shop(bridge: str) -> Iterator[httpx.Client]:
    for url in _serve(ThreadingHTTPServer(("127.0.0.1", 0), handler(Bridge(url=bridge)))):
        with httpx.Client(base_url=url, trust_env=False) as client:
            yield client


def _verified(status: str, message: str = "") -> dict[str, Any]:
    return {"paymentStatus": status, "amount": 449.5, "bookingId": 7, "message": message}


def _set(status: int, answer: dict[str, Any]) -> None:
    FakeBridge.status, FakeBridge.answer = status, answer


def test_a_paid_payment_is_thanked_for_and_not_asked_about_again(shop: httpx.Client) -> None:
    _set(200, _verified("COMPLETED"))
    page = shop.get("/payments/success", params={"session_id": SESSION})
    assert page.status_code == 200
    assert "Thank you" in page.text
    assert "449.50" in page.text
    assert "http-equiv" not in page.text
    assert FakeBridge.asked["path"].endswith(f"/checkout/verify/{SESSION}")
    assert FakeBridge.asked["roles"] == "USER,SERVICE_ACCOUNT"


def test_a_pending_payment_is_asked_about_again_by_the_page_itself(shop: httpx.Client) -> None:
    _set(200, _verified("PENDING"))
    assert '<meta http-equiv="refresh"' in shop.get("/payments/success", params={"session_id": SESSION}).text


def test_a_failed_payment_says_why(shop: httpx.Client) -> None:
    _set(200, _verified("FAILED", "The payment page has expired."))
    assert "The payment page has expired." in shop.get("/payments/success", params={"session_id": SESSION}).text


def test_what_the_bridge_says_is_only_ever_text(shop: httpx.Client) -> None:
    _set(404, {"message": "<script>alert(1)</script>"})
    page = shop.get("/payments/success", params={"session_id": SESSION})
    assert page.status_code == 404
    assert "<script" not in page.text
    assert "script" not in page.headers["Content-Security-Policy"]


@pytest.mark.parametrize("wrong", ["", "pi_1", "cs_../../x", "cs_1?x=1", "cs_<b>"])
def test_a_wrong_address_is_not_passed_on(shop: httpx.Client, wrong: str) -> None:
    FakeBridge.asked = {}
    assert shop.get("/payments/success", params={"session_id": wrong}).status_code == 404
    assert FakeBridge.asked == {}


def test_a_bridge_that_is_down_is_said_in_words_and_tried_again() -> None:
    (port,) = free_ports(1)
    pages = handler(Bridge(url=f"http://127.0.0.1:{port}"))
    for url in _serve(ThreadingHTTPServer(("127.0.0.1", 0), pages)):
        page = httpx.get(f"{url}/payments/success?session_id={SESSION}", trust_env=False)
        assert page.status_code == 503
        assert "cannot be reached" in page.text
        assert '<meta http-equiv="refresh"' in page.text


def test_an_amount_becomes_a_checkout(shop: httpx.Client) -> None:
    _set(200, {"paymentUrl": "https://checkout.stripe.com/c/pay/cs_1#x"})
    answer = shop.post("/checkout", data={"amount": "12.50"})
    assert answer.status_code == 303
    assert answer.headers["Location"] == "https://checkout.stripe.com/c/pay/cs_1#x"
    assert FakeBridge.asked["body"]["amount"] == "12.50"


def test_a_refused_amount_comes_back_with_the_reason(shop: httpx.Client) -> None:
    _set(400, {"message": "The amount is too small."})
    answer = shop.post("/checkout", data={"amount": '"><b>'})
    assert answer.status_code == 400
    assert "The amount is too small." in answer.text
    assert "<b>" not in answer.text


def test_a_payment_url_that_is_no_web_page_is_not_followed(shop: httpx.Client) -> None:
    _set(200, {"paymentUrl": "javascript:alert(1)"})
    assert shop.post("/checkout", data={"amount": "5"}).status_code == 400


def test_the_other_pages_are_there(shop: httpx.Client) -> None:
    assert "Nothing was charged" in shop.get("/payments/cancelled").text
    assert 'name="amount"' in shop.get("/").text
    assert shop.get("/elsewhere").status_code == 404
    assert shop.head("/").text == ""
