"""Every answer is what the SDK's own types declare, in every state of a session."""

from typing import Any

import pytest
import stripe
from stripe.checkout import Session

from tests.integration.sandbox import shapes
from tests.integration.sandbox.harness import Running

STATES: dict[str, list[dict[str, str]]] = {
    "fresh": [],
    "declined": [{"card": "4000000000000002"}],
    "not authenticated": [{"card": "4000000000003220", "authentication": "fail"}],
    "complete": [{"card": "4242424242424242"}],
    "complete after a decline": [{"card": "4000000000009995"}, {"card": "378282246310005"}],
}
RICH: dict[str, Any] = {
    "adaptive_pricing": {"enabled": True},
    "customer_creation": "always",
    "customer_email": "a@b.test",
    "excluded_payment_method_types": ["klarna"],
    "integration_identifier": "booking",
    "locale": "hi-IN",
    "origin_context": "web",
    "payment_intent_data": {"description": "d", "receipt_email": "a@b.test", "statement_descriptor_suffix": "TICKET"},
    "payment_method_options": {"card": {"request_three_d_secure": "any"}},
    "submit_type": "book",
    "ui_mode": "hosted_page",
    "wallet_options": {"link": {"display": "never"}},
}


@pytest.mark.parametrize("richness", ["plain", "rich"])
@pytest.mark.parametrize("expires", [False, True], ids=["", "expired"])
@pytest.mark.parametrize("state", STATES)
async def test_sessions_and_intents_have_the_declared_shape(
    sandbox: Running, state: str, richness: str, *, expires: bool
) -> None:
    client = sandbox.client()
    more = RICH if richness == "rich" else {}
    created = await client.v1.checkout.sessions.create_async(sandbox.create_params(**more))
    assert shapes.problems(_json(created), Session) == []
    for attempt in STATES[state]:
        assert shapes.problems(await sandbox.pay(created.id, **attempt), Session) == []
    if expires and not state.startswith("complete"):
        assert shapes.problems(_json(await client.v1.checkout.sessions.expire_async(created.id)), Session) == []

    path = f"/v1/checkout/sessions/{created.id}"
    _, _, plain = await sandbox.raw("GET", path)
    assert "line_items" not in plain
    _, _, full = await sandbox.raw("GET", f"{path}?expand[]=payment_intent&expand[]=line_items")
    assert shapes.problems(plain, Session) == []
    assert shapes.problems(full, Session) == []
    if plain["payment_intent"] is not None:
        _, _, intent = await sandbox.raw("GET", f"/v1/payment_intents/{plain['payment_intent']}")
        assert shapes.problems(intent, stripe.PaymentIntent) == []
        assert full["payment_intent"] == intent


async def test_events_and_lists_have_the_declared_shape(sandbox: Running) -> None:
    client = sandbox.client()
    for attempt in ({"card": "4000000000000002"}, {"card": "4242424242424242"}):
        session = await client.v1.checkout.sessions.create_async(sandbox.create_params())
        await sandbox.pay(session.id, **attempt)
    await sandbox.control("clock", {"advance_seconds": 7200})

    _, _, events = await sandbox.raw("GET", "/v1/events?limit=100")
    assert (events["object"], events["url"], events["has_more"]) == ("list", "/v1/events", False)
    assert {event["type"] for event in events["data"]} >= {
        "checkout.session.completed",
        "checkout.session.expired",
        "payment_intent.payment_failed",
        "payment_intent.succeeded",
    }
    for event in events["data"]:
        assert shapes.problems(event, stripe.Event) == []
        subject = Session if event["data"]["object"]["object"] == "checkout.session" else stripe.PaymentIntent
        assert shapes.problems(event["data"]["object"], subject) == []
    _, _, sessions = await sandbox.raw("GET", "/v1/checkout/sessions?expand[]=data.payment_intent")
    assert set(sessions) == {"object", "url", "has_more", "data"}
    for session in sessions["data"]:
        assert shapes.problems(session, Session) == []


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/v1/checkout/sessions/cs_test_x", {}),
        ("GET", "/v1/nothing", {}),
        ("GET", "/v1/events", {"Authorization": "Bearer sk_live_1234567890abcdef"}),
        ("POST", "/v1/checkout/sessions", {}),
        ("POST", "/v1/checkout/sessions", {"Content-Type": "application/json"}),
    ],
)
async def test_refusals_have_the_declared_shape(
    sandbox: Running, method: str, path: str, headers: dict[str, str]
) -> None:
    status, sent, body = await sandbox.raw(method, path, "mode=x" if method == "POST" else None, headers)
    assert status >= 400
    assert set(body) == {"error"}
    assert shapes.problems(body["error"], stripe.ErrorObject) == []
    assert None not in body["error"].values()
    assert sent["Request-Id"].startswith("req_")


def test_the_checker_sees_what_is_wrong() -> None:
    event = {"id": 1, "object": "event", "created": None, "stranger": True}
    found = "\n".join(shapes.problems(event, stripe.Event))
    for expected in (
        "Event.id: 1 is no",
        "Event.created: None is no",
        "Event.stranger: unknown",
        "Event.data: missing",
    ):
        assert expected in found


def _json(value: stripe.StripeObject) -> Any:
    return value.last_response.data
