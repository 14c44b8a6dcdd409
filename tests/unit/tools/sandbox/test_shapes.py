"""Every answer matches the SDK's types, in every state of a session."""

from typing import Any

import pytest
import stripe
from stripe.checkout import Session

from tests.unit.tools.sandbox import shapes
from tests.unit.tools.sandbox.caller import Caller

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
@pytest.mark.parametrize("state", STATES)
async def test_sessions_and_intents_have_the_declared_shape(state: str, richness: str) -> None:
    caller = Caller()
    session = await caller.create(**(RICH if richness == "rich" else {}))
    identifier = session["id"]
    assert shapes.problems(session, Session) == []
    for attempt in STATES[state]:
        assert shapes.problems(await caller.pay(identifier, **attempt), Session) == []
    for expires in (False, True):
        if expires and not state.startswith("complete"):
            assert shapes.problems((await caller.expire(identifier)).body, Session) == []
        plain = await caller.session(identifier)
        full = await caller.session(identifier, expand=["payment_intent", "line_items"])
        assert "line_items" not in plain
        assert shapes.problems(plain, Session) == shapes.problems(full, Session) == []
        if plain["payment_intent"] is not None:
            intent = await caller.get(f"/v1/payment_intents/{plain['payment_intent']}")
            assert shapes.problems(intent, stripe.PaymentIntent) == []
            assert full["payment_intent"] == intent


@pytest.mark.parametrize("card", ["4242424242424242", "4000000000000002", "378282246310005"])
async def test_charges_have_the_declared_shape(card: str) -> None:
    caller = Caller()
    session = await caller.pay((await caller.create(**RICH))["id"], card)
    intent = await caller.get(f"/v1/payment_intents/{session['payment_intent']}", expand=["latest_charge"])
    assert shapes.problems(intent["latest_charge"], stripe.Charge) == []
    assert intent["latest_charge"]["payment_intent"] == intent["id"]


async def test_the_account_has_the_declared_shape() -> None:
    assert shapes.problems(await Caller().get("/v1/account"), stripe.Account) == []


async def test_events_and_lists_have_the_declared_shape() -> None:
    caller = Caller()
    for card in ("4000000000000002", "4242424242424242"):
        await caller.pay((await caller.create())["id"], card)
    await caller.control("clock", {"advance_seconds": 7200})

    events = await caller.get("/v1/events", limit=100)
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
    sessions = await caller.get("/v1/checkout/sessions", expand=["data.payment_intent"])
    assert set(sessions) == {"object", "url", "has_more", "data"}
    for session in sessions["data"]:
        assert shapes.problems(session, Session) == []


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/v1/checkout/sessions/cs_test_x", {}),
        ("GET", "/v1/nothing", {}),
        ("GET", "/v1/events", {"authorization": "Bearer sk_live_1234567890abcdef"}),
        ("POST", "/v1/checkout/sessions", {}),
        ("POST", "/v1/checkout/sessions", {"content-type": "application/json"}),
    ],
)
async def test_refusals_have_the_declared_shape(method: str, path: str, headers: dict[str, str]) -> None:
    answer = await Caller().call(method, path, {"mode": "x"} if method == "POST" else None, headers)
    assert answer.status >= 400
    assert set(answer.body) == {"error"}
    assert shapes.problems(answer.error, stripe.ErrorObject) == []
    assert None not in answer.error.values()


def test_the_checker_sees_what_is_wrong() -> None:
    event = {"id": 1, "object": "event", "created": None, "stranger": True}
    found = "\n".join(shapes.problems(event, stripe.Event))
    for expected in ("id: 1 is no", "created: None is no", "stranger: unknown", "data: missing"):
        assert f"Event.{expected}" in found
