"""Calls a sandbox in this process, without a network: Stripe's API, the control API and the hosted page."""

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from stripe._encode import _api_encode

from tools.sandbox.asgi import Request
from tools.sandbox.sandbox_app import Sandbox
from tools.sandbox.stepped_clock import SteppedClock

NOW = 1_900_000_000
KEY = "sk_test_conformance"
BASE_URL = "http://sandbox.test"
SESSIONS = "/v1/checkout/sessions"


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    headers: dict[str, str]
    text: str

    @property
    def body(self) -> Any:
        return json.loads(self.text)

    @property
    def error(self) -> dict[str, str]:
        error: dict[str, str] = self.body["error"]
        return error


class Caller:
    """`call` is any request; the other methods expect success and return what was asked for."""

    def __init__(self, *, public_url: str | None = None) -> None:
        self.sandbox = Sandbox(SteppedClock(lambda: NOW), public_url=public_url)

    async def call(
        self, method: str, target: str, params: Any = None, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """`params` become the form of a POST, or the query of a GET; `body` is sent as it is."""
        path, _, query = target.partition("?")
        form = urlencode([*_api_encode(params)]) if params else ""
        request = Request(
            method=method,
            path=path,
            query=query if method == "POST" or not form else form,
            headers={"authorization": f"Bearer {KEY}", **(headers or {})},
            body=body or (form.encode() if method == "POST" else b""),
            base_url=BASE_URL,
        )
        response = await self.sandbox.answer(request)
        return Answer(status=response.status, headers=dict(response.headers), text=response.body.decode())

    async def get(self, target: str, **params: Any) -> Any:
        answer = await self.call("GET", target, params)
        assert answer.status == 200, answer.text
        return answer.body

    async def post(self, target: str, params: Any = None, *, key: str = "") -> Answer:
        return await self.call("POST", target, params, {"idempotency-key": key} if key else None)

    async def create(self, *, key: str = "", **changes: Any) -> Any:
        answer = await self.post(SESSIONS, create_params(**changes), key=key)
        assert answer.status == 200, answer.text
        return answer.body

    async def session(self, identifier: str, **params: Any) -> Any:
        return await self.get(f"{SESSIONS}/{identifier}", **params)

    async def expire(self, identifier: str) -> Answer:
        return await self.post(f"{SESSIONS}/{identifier}/expire")

    async def events(self, **params: Any) -> Any:
        return (await self.get("/v1/events", **{"limit": 100, **params}))["data"]

    async def control(self, path: str, body: Any = None, *, expected: int = 200) -> Any:
        sent = b"" if body is None else json.dumps(body).encode()
        answer = await self.call("GET" if body is None else "POST", f"/_sandbox/{path}", body=sent)
        assert answer.status == expected, answer.text
        return answer.body

    async def pay(self, identifier: str, card: str = "4242 4242 4242 4242", *, expected: int = 200, **more: str) -> Any:
        return await self.control(f"sessions/{identifier}/pay", {"card": card, **more}, expected=expected)


def create_params(*, now: int = NOW, **changes: Any) -> dict[str, Any]:
    """What the payment service sends; a change to None leaves the parameter out."""
    return {
        "mode": "payment",
        "success_url": "https://booking.test/done?session={CHECKOUT_SESSION_ID}",
        "cancel_url": "https://booking.test/back",
        "client_reference_id": "7",
        "metadata": {"bookingId": "7"},
        "payment_intent_data": {"metadata": {"paymentId": "70"}},
        "allowed_payment_method_types": ["card"],
        "expires_at": now + 3600,
        "line_items": [line()],
        **changes,
    }


def line(amount: object = 44997, currency: str = "inr", quantity: object = 1, name: str = "3 seats") -> dict[str, Any]:
    price_data = {"currency": currency, "unit_amount": amount, "product_data": {"name": name}}
    return {"price_data": price_data, "quantity": quantity}
