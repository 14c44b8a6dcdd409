"""What is sent to Stripe is what its SDK would send, and what comes back means what the SDK says."""

from collections.abc import Mapping
from typing import Any, Self

import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from service.adapters.stripe.sdk_requests import StripeRequests, encoded
from tests.kit.service import QUICK

KEY = "sk_test_1234567890"
BASE = "http://127.0.0.1:12111"
PATH = "/v1/checkout/sessions"
CREATE = {
    "mode": "payment",
    "allowed_payment_method_types": ["card"],
    "line_items": [{"price_data": {"currency": "inr", "product_data": {"name": "Booking & 7"}}, "quantity": 1}],
    "success_url": "https://shop.example/done?session_id={CHECKOUT_SESSION_ID}&a[b]=%20ü",
    "cancel_url": None,
    "metadata": {"bookingId": "7"},
    "adaptive_pricing": {"enabled": False},
}
NAMES = st.text("abcXYZ_", min_size=1, max_size=5)
VALUES = st.recursive(
    st.text() | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner | st.booleans(), max_size=3),
    max_leaves=8,
)

Sent = tuple[str, str, dict[str, str], str | None]


class SdkClient(stripe.HTTPClient):
    """Keeps what the SDK sends."""

    name = "aiohttp"
    sent: Sent

    def request(self, method: str, url: str, headers: Any, post_data: Any = None) -> Any:  # type: ignore[override]
        self.sent = (method, url, dict(headers), post_data or None)
        return b"{}", 200, {}


def theirs(sdk: SdkClient) -> stripe.StripeClient:
    stripe.enable_telemetry = False
    return stripe.StripeClient(KEY, http_client=sdk, base_addresses={"api": BASE})


class Answer:
    def __init__(self, body: bytes, status: int) -> None:
        self.body, self.status, self.headers = body, status, CIMultiDict({"Request-Id": "req_1"})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def read(self) -> bytes:
        return self.body


class Session:
    """Keeps what we send, and has one answer."""

    def __init__(self, body: bytes = b"{}", status: int = 200) -> None:
        self.answer = Answer(body, status)
        self.sent: Sent

    async def request(self, method: str, url: object, *, headers: Mapping[str, str], data: bytes | None) -> Answer:
        self.sent = (method, str(url), dict(headers), None if data is None else data.decode() or None)
        return self.answer


def ours(session: Session) -> StripeRequests:
    return StripeRequests(session, api_key=KEY, api_base=BASE + "/")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "path", "params"),
    [
        ("post", PATH, CREATE),
        ("post", f"{PATH}/cs_test_1/expire", {}),
        ("get", f"{PATH}/cs_test_1", {}),
        ("get", "/v1/events", {"created": {"gte": 1}, "limit": 100, "types": ["a.b", "c.d"]}),
    ],
)
async def test_a_request_is_the_one_that_the_sdk_would_send(method: str, path: str, params: dict[str, Any]) -> None:
    sdk, session = SdkClient(), Session()
    theirs(sdk).raw_request(method, path, **params, idempotency_key="payment-1")
    await ours(session).send(method, path, params, idempotency_key="payment-1")
    expected = sdk.sent
    if method == "get":  # no key is needed there
        del expected[2]["Idempotency-Key"]
    assert session.sent == expected


async def test_a_write_without_a_key_has_a_new_one_each_time() -> None:
    session, keys = Session(), set()
    requests = ours(session)
    for _ in range(3):
        await requests.send("post", PATH, {})
        keys.add(session.sent[2]["Idempotency-Key"])
    assert len(keys) == 3


@QUICK
@given(st.dictionaries(NAMES, st.none() | st.booleans() | VALUES, max_size=5))
def test_parameters_are_encoded_as_the_sdk_encodes_them(params: dict[str, Any]) -> None:
    sdk = SdkClient()
    params = {f"p_{name}": value for name, value in params.items()}  # none of the SDK's own options
    theirs(sdk).raw_request("post", PATH, **params)
    assert encoded(params) == (sdk.sent[3] or "")


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, b'{"error": {"type": "invalid_request_error", "message": "no"}}', stripe.InvalidRequestError),
        (401, b'{"error": {"message": "no"}}', stripe.AuthenticationError),
        (402, b'{"error": {"type": "card_error", "message": "no", "code": "x"}}', stripe.CardError),
        (429, b'{"error": {"message": "slow"}}', stripe.RateLimitError),
        (500, b"<html>", stripe.APIError),
        (200, b"<html>", stripe.APIError),
        (204, b"", stripe.APIError),
    ],
)
async def test_an_answer_that_is_no_success_raises_the_error_of_the_sdk(
    status: int, body: bytes, error: type[stripe.StripeError]
) -> None:
    with pytest.raises(error) as raised:
        await ours(Session(body, status)).send("get", PATH, {})
    assert type(raised.value) is error
    assert raised.value.http_status == status


async def test_json_that_only_the_sdk_reads_is_read_by_it() -> None:
    """A lone surrogate and a number without bounds are no JSON for the quick parser."""
    answer, headers = await ours(Session(b'{"a": "\\ud800", "b": NaN}')).send("get", PATH, {})
    assert answer["a"] == "\ud800"
    assert headers["request-id"] == "req_1"
