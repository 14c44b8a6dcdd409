"""Requests and Stripe's answers, as tables: create, the other endpoints, cards and the control API."""

from base64 import b64encode
from typing import Any

import pytest

from tests.unit.tools.sandbox.caller import KEY, NOW, SESSIONS, Caller, create_params, line
from tools.sandbox import cards

URL_2049 = "https://a.test/" + "x" * 2034
SECRET = "51H8abcdefghijklmnop4321"


def price(**data: object) -> dict[str, Any]:
    return {"line_items": [{"price_data": {**line()["price_data"], **data}, "quantity": 3}]}


ANY_METHOD: dict[str, Any] = {"allowed_payment_method_types": None}
"""Not only cards, whose largest amount has more digits."""
REFUSED: list[tuple[str, dict[str, Any], str | None, str | None, str]] = [
    # changes to a good create, code, param, words
    ("removed", {"payment_method_types": ["card"]}, "parameter_unknown", "payment_method_types", "unknown parameter"),
    ("unknown", {"colour": "red"}, "parameter_unknown", "colour", "Received unknown parameter: colour"),
    ("unknown inside", {"line_items": [{**line(), "x": 1}]}, "parameter_unknown", "line_items[0][x]", "unknown"),
    ("several unknown", {"aa": "1", "bb": "2"}, "parameter_unknown", "aa", "parameters: aa, bb"),
    ("no mode", {"mode": None}, "parameter_missing", "mode", "Missing required param: mode."),
    ("no lines", {"line_items": None}, "parameter_missing", "line_items", "Missing required param: line_items."),
    ("no success", {"success_url": None}, "parameter_missing", "success_url", "Missing required param"),
    ("odd mode", {"mode": "gift"}, None, "mode", "must be one of payment, setup, or subscription"),
    ("other mode", {"mode": "setup"}, None, "mode", "sandbox does not play"),
    ("old ui", {"ui_mode": "hosted"}, None, "ui_mode", "must be one of elements"),
    ("other ui", {"ui_mode": "elements"}, None, "ui_mode", "sandbox does not play"),
    ("empty", {"success_url": ""}, "parameter_invalid_empty", "success_url", "You passed an empty string"),
    ("no scheme", {"success_url": "booking.test/x"}, "url_invalid", "success_url", "explicit scheme"),
    ("host and port", {"success_url": "localhost:80/x"}, "url_invalid", "success_url", "explicit scheme"),
    ("script", {"cancel_url": "javascript:alert(1)"}, "url_invalid", "cancel_url", "Not a valid URL"),
    ("space", {"cancel_url": "https://a b"}, "url_invalid", "cancel_url", "Not a valid URL"),
    ("bad port", {"cancel_url": "https://a:99999/"}, "url_invalid", "cancel_url", "Not a valid URL"),
    ("long url", {"cancel_url": URL_2049}, "url_invalid", "cancel_url", "2048 characters"),
    ("long reference", {"client_reference_id": "x" * 201}, None, "client_reference_id", "at most 200"),
    ("51 pairs", {"metadata": {f"k{n}": "v" for n in range(51)}}, None, "metadata", "at most 50"),
    ("long key", {"metadata": {"k" * 41: "v"}}, None, "metadata", "40 characters"),
    ("long value", {"metadata": {"k": "v" * 501}}, None, "metadata[k]", "500 characters"),
    ("nested", {"metadata": {"k": {"deep": "v"}}}, None, "metadata[k]", "must be strings"),
    ("email", {"customer_email": "nobody"}, "email_invalid", "customer_email", "Invalid email"),
    ("customer", {"customer": "cus_x"}, "resource_missing", "customer", "No such customer: 'cus_x'"),
    ("101 lines", {"line_items": [line(100)] * 101}, None, "line_items", "at most 100"),
    ("no price", {"line_items": [{"quantity": 1}]}, None, "line_items[0]", "either `price` or `price_data`"),
    ("price", {"line_items": [{"price": "p", "quantity": 1}]}, "resource_missing", "line_items[0][price]", "No such"),
    ("text", {"line_items": [line(quantity="x")]}, "parameter_invalid_integer", "line_items[0][quantity]", "Invalid"),
    ("none", {"line_items": [line(quantity=0)]}, "parameter_invalid_integer", "line_items[0][quantity]", "equal to 1"),
    ("negative", price(unit_amount=-5), "parameter_invalid_integer", None, "equal to 0"),
    ("fraction", price(unit_amount=1.5), "parameter_invalid_integer", None, "Invalid integer: 1.5"),
    ("two currencies", {"line_items": [line(), line(currency="usd")]}, None, "line_items", "same currency"),
    ("list expected", {"allowed_payment_method_types": "card"}, None, "allowed_payment_method_types", "Invalid array"),
    ("hash expected", {"line_items": ["x"]}, None, "line_items[0]", "Invalid hash"),
    ("boolean", {"adaptive_pricing": {"enabled": "yes"}}, None, "adaptive_pricing[enabled]", "Invalid boolean"),
    ("tax", {"automatic_tax": {"enabled": True}}, None, "automatic_tax[enabled]", "sandbox does not play"),
    ("descriptor", {"payment_intent_data": {"statement_descriptor": "X"}}, None, None, "statement_descriptor_suffix"),
    ("no cards", {"allowed_payment_method_types": ["upi"]}, None, None, "No valid payment method types"),
    ("cards out", {"excluded_payment_method_types": ["card"]}, None, None, "No valid payment method types"),
    ("odd method", {"allowed_payment_method_types": ["cash"]}, None, "allowed_payment_method_types[0]", "one of"),
    ("expand", {"expand": ["colour"]}, None, "expand[0]", "This property cannot be expanded (colour)."),
    ("49 paise", {"line_items": [line(49)]}, "amount_too_small", None, "at least ₹0.50 inr"),
    ("a fen", {"line_items": [line(1, "cny")]}, "amount_too_small", None, "converts to approximately ₹0.12."),
    (
        "ten million",
        ANY_METHOD | {"line_items": [line(10**9)]},
        "amount_too_large",
        None,
        "no more than ₹9,999,999.99.",
    ),
    ("a million $", ANY_METHOD | {"line_items": [line(10**8, "usd")]}, "amount_too_large", None, "than $999,999.99."),
    ("13 digits of $", {"line_items": [line(10**12, "usd")]}, "amount_too_large", None, "than $9,999,999,999.99."),
    (
        "13 digits",
        {"line_items": [line(10**12, "idr")]},
        "amount_too_large",
        None,
        "more than IDR\u00a09,999,999,999.99.",
    ),
    ("levs", {"line_items": [line(5000, "bgn")]}, None, "line_items[0][price_data][currency]", "Invalid currency: bgn"),
    ("fils", {"line_items": [line(5124, "kwd")]}, "parameter_invalid_integer", None, "divisible by 10"),
    ("aurar", {"line_items": [line(550, "isk")]}, "parameter_invalid_integer", None, "divisible by 100"),
    ("cents", {"line_items": [line(550, "ugx")]}, "parameter_invalid_integer", None, "divisible by 100"),
    ("no currency", price(currency="xxx"), None, "line_items[0][price_data][currency]", "Invalid currency: xxx"),
    ("a symbol", price(currency="₹"), None, "line_items[0][price_data][currency]", "Invalid currency: ₹"),
    ("past", {"expires_at": NOW - 1}, None, "expires_at", "at least 30 minutes"),
    ("too soon", {"expires_at": NOW + 1799}, None, "expires_at", "at least 30 minutes"),
    ("too late", {"expires_at": NOW + 86_401}, None, "expires_at", "less than 24 hours"),
]


@pytest.mark.parametrize(
    ("changes", "code", "param", "words"), [row[1:] for row in REFUSED], ids=[r[0] for r in REFUSED]
)
async def test_create_refuses_what_stripe_refuses(
    changes: dict[str, Any], code: str | None, param: str | None, words: str
) -> None:
    caller = Caller()
    refused = await caller.post(SESSIONS, create_params(**changes))
    assert (refused.status, refused.error["type"]) == (400, "invalid_request_error")
    assert refused.error.get("code") == code
    assert words in refused.error["message"]
    assert param is None or refused.error["param"] == param
    assert await caller.control("ledger") == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"status": "open", "payment_status": "unpaid", "payment_intent": None, "amount_total": 44997}),
        ({"line_items": [line(50)]}, {"amount_total": 50, "currency": "inr"}),
        ({"line_items": [line(1, "gbp")]}, {"amount_total": 1}),
        ({"line_items": [line(100_000_000, "idr")]}, {"amount_total": 100_000_000}),
        (ANY_METHOD | {"line_items": [line(999_999_999)]}, {"amount_total": 999_999_999}),
        ({"line_items": [line(1_234_567_890)]}, {"amount_total": 1_234_567_890}),
        ({"line_items": [line(500, "jpy")]}, {"amount_total": 500}),
        ({"line_items": [line(99_999_999)]}, {"amount_total": 99_999_999}),
        ({"line_items": [line(5120, "kwd")]}, {"amount_total": 5120}),
        ({"line_items": [line(500, "isk")]}, {"amount_total": 500}),
        ({"line_items": [line(5000, "ugx")]}, {"amount_total": 5000}),
        ({"line_items": [line(500, "INR")]}, {"currency": "inr"}),
        ({"line_items": [line(1000, quantity=3), line(250, name="Snack")]}, {"amount_total": 3250}),
        (price(unit_amount=90), {"amount_total": 270}),
        ({"expires_at": NOW + 1800}, {"created": NOW, "expires_at": NOW + 1800}),
        ({"expires_at": NOW + 86_400}, {"expires_at": NOW + 86_400}),
        ({"expires_at": None}, {"expires_at": NOW + 86_400}),
    ],
    ids=str,
)
async def test_create_takes_what_stripe_takes(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    session = await Caller().create(**changes)
    assert {name: session[name] for name in expected} == expected


BASIC, LIVE = b64encode(f"{KEY}:".encode()).decode(), f"sk_live_{SECRET}"
NO_KEY, BAD_KEY = "You did not provide an API key.", "Invalid API Key provided: "
FORM = "mode=payment&success_url=https%3A%2F%2Fa.test"
REQUESTS: list[tuple[str, dict[str, str], int, str]] = [
    # request, headers, status, words of the error
    ("GET /v1/events", {"authorization": "Bearer sk_test_1"}, 200, ""),
    ("GET /v1/events", {"authorization": "Bearer rk_test_abc_DEF"}, 200, ""),
    ("GET /v1/events", {"authorization": f"Basic {BASIC}"}, 200, ""),
    ("GET /v1/events", {"authorization": ""}, 401, NO_KEY),
    ("GET /v1/events", {"authorization": "Basic !"}, 401, NO_KEY),
    ("GET /v1/events", {"authorization": "Digest x"}, 401, NO_KEY),
    ("GET /v1/events", {"authorization": "Bearer "}, 401, NO_KEY),
    ("GET /v1/events", {"authorization": f"Bearer {LIVE}"}, 401, f"{BAD_KEY}sk_live_********************4321"),
    ("GET /v1/events", {"authorization": f"Bearer r{LIVE[1:]}"}, 401, f"{BAD_KEY}rk_live_********************4321"),
    ("GET /v1/events", {"authorization": "Bearer sk_live_short"}, 401, f"{BAD_KEY}sk_live_*****"),
    ("GET /v1/events", {"authorization": "Bearer sk_test_"}, 401, f"{BAD_KEY}sk_test_"),
    ("GET /v1/events", {"authorization": "Bearer sk_test_a-b"}, 401, f"{BAD_KEY}sk_test_***"),
    ("GET /v1/events", {"authorization": "Bearer nonsense"}, 401, f"{BAD_KEY}********"),
    ("GET /v1/events", {"authorization": "Bearer pk_test_1"}, 401, "publishable API key"),
    ("GET /v1/events", {"stripe-version": "2026-09-30.endive"}, 200, ""),
    ("GET /v1/events", {"stripe-version": "2026-10-28.endive"}, 200, ""),
    ("GET /v1/events", {"stripe-version": "2025-03-31.basil"}, 400, "Invalid Stripe API version: 2025-03-31.basil"),
    ("GET /v1/events", {"stripe-version": "newest"}, 400, "Invalid Stripe API version: newest"),
    ("GET /v1/events?type=a&types[]=b", {}, 400, "only specify one of these parameters: type, types"),
    (f"GET /v1/events?{'&'.join(['types[]=x'] * 21)}", {}, 400, "at most 20 elements"),
    ("GET /v1/refunds", {}, 404, "Unrecognized request URL (GET: /v1/refunds)"),
    ("DELETE /v1/checkout/sessions", {}, 404, "Unrecognized request URL (DELETE: /v1/checkout/sessions)"),
    ("GET /v1/", {}, 404, "Unrecognized request URL (GET: /v1/)"),
    ("GET /v1/checkout/sessions/cs_test_nobody", {}, 404, "No such checkout.session: 'cs_test_nobody'"),
    ("GET /v1/checkout/sessions/cs_live_nobody", {}, 404, "No such checkout.session: 'cs_live_nobody'"),
    ("POST /v1/checkout/sessions/x/expire", {}, 404, "No such checkout.session: 'x'"),
    ("GET /v1/payment_intents/pi_x", {}, 404, "No such payment_intent: 'pi_x'"),
    ("GET /v1/events/evt_x", {}, 404, "No such event: 'evt_x'"),
    ("GET /v1/checkout/sessions?limit=0", {}, 400, "greater than or equal to 1"),
    ("GET /v1/checkout/sessions?limit=101", {}, 400, "less than or equal to 100"),
    ("GET /v1/checkout/sessions?limit=x", {}, 400, "Invalid integer: x"),
    ("GET /v1/checkout/sessions?status=done", {}, 400, "Invalid status: must be one of complete, expired, or open"),
    ("GET /v1/checkout/sessions?starting_after=cs_test_x", {}, 400, "No such checkout.session: 'cs_test_x'"),
    ("GET /v1/checkout/sessions?starting_after=a&ending_before=b", {}, 400, "ending_before, starting_after"),
    ("GET /v1/checkout/sessions?created[after]=1", {}, 400, "unknown parameter: created[after]"),
    ("GET /v1/checkout/sessions?client_reference_id=7", {}, 400, "unknown parameter: client_reference_id"),
    ("POST /v1/checkout/sessions?mode=%ff", {}, 400, "Invalid UTF-8 in the request."),
]


@pytest.mark.parametrize(("request_line", "headers", "status", "words"), REQUESTS)
async def test_a_request_is_answered_as_by_stripe(
    request_line: str, headers: dict[str, str], status: int, words: str
) -> None:
    method, _, target = request_line.partition(" ")
    answer = await Caller().call(method, target, headers=headers)
    assert answer.status == status, answer.text
    assert answer.headers["Request-Id"].startswith("req_")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Stripe-Version"] == headers.get("stripe-version", "2026-10-28.endive")
    assert answer.headers["Stripe-Should-Retry"] == "false"
    assert answer.headers.get("WWW-Authenticate") == ('Basic realm="Stripe"' if status == 401 else None)
    assert SECRET not in answer.text
    if status != 200:
        assert words in answer.error["message"]
        assert "No such" not in words or answer.error["code"] == "resource_missing"


@pytest.mark.parametrize(
    ("settlement", "amount", "currency", "words"),
    [
        ("inr", 49, "inr", "total amount due must add up to at least ₹0.50 inr"),
        ("gbp", 29, "gbp", "total amount due must add up to at least £0.30 gbp"),
        ("jpy", 49, "jpy", "total amount due must add up to at least ¥50 jpy"),
        ("huf", 17_499, "huf", "total amount due must add up to at least HUF\u00a0175.00 huf"),
        ("usd", 300, "cny", "must convert to at least 50 cents. CN¥3.00 converts to approximately $0.42."),
        ("gbp", 10, "usd", "must convert to at least 30 pence. $0.10 converts to approximately £0.08."),
        ("hkd", 50, "usd", "must convert to at least 400 cents. $0.50 converts to approximately HK$3.90."),
        (
            "pln",
            1000,
            "rub",
            "must convert to at least 200 grosz. RUB\u00a010.00 converts to approximately PLN\u00a00.42.",
        ),
        ("jpy", 1, "inr", "must convert to at least ¥50. ₹0.01 converts to approximately ¥0."),
    ],
)
async def test_an_amount_that_is_too_small_is_told_in_the_settlement_currency(
    settlement: str, amount: int, currency: str, words: str
) -> None:
    caller = Caller()
    await caller.control("config", {"settlement_currency": settlement})
    refused = await caller.post(SESSIONS, create_params(line_items=[line(amount, currency)]))
    assert (refused.status, refused.error["code"], "param" in refused.error) == (400, "amount_too_small", False)
    assert words in refused.error["message"]


async def test_every_test_key_is_the_one_account() -> None:
    caller = Caller()
    session = await caller.create()
    found = await caller.call("GET", f"{SESSIONS}/{session['id']}", headers={"authorization": "Bearer rk_test_other"})
    assert found.body == session


@pytest.mark.parametrize(
    ("body", "content_type", "words"),
    [
        (b"mode=%ff", "", "Invalid UTF-8"),
        (b"\xff", "", "Invalid UTF-8"),
        (b"{}", "application/json", "form-urlencoded"),
    ],
)
async def test_what_is_not_a_form_is_refused(body: bytes, content_type: str, words: str) -> None:
    answer = await Caller().call("POST", SESSIONS, headers={"content-type": content_type}, body=body)
    assert (answer.status, words in answer.error["message"]) == (400, True)


@pytest.mark.parametrize("index", ["", "0"], ids=["brackets", "numbers"])
async def test_lists_may_be_written_both_ways(index: str) -> None:
    fields = {"quantity": "2", "price_data][currency": "inr", "price_data][product_data][name": "x"}
    lines = "".join(f"&line_items[{index}][{name}]={value}" for name, value in fields.items())
    lines += f"&line_items[{index}][price_data][unit_amount]=90&allowed_payment_method_types[{index}]=card"
    answer = await Caller().call("POST", SESSIONS, body=f"{FORM}{lines}".encode())
    assert (answer.status, answer.body.get("amount_total")) == (200, 180), answer.text


@pytest.mark.parametrize("card", cards.TEST_CARDS, ids=lambda card: card.label)
async def test_every_test_card_does_what_stripe_says(card: cards.Card) -> None:
    caller = Caller()
    identifier = (await caller.create())["id"]
    answers = {"authentication": "complete"} if card.authenticates else {}
    await caller.pay(identifier, cards.grouped(card.number), **answers)
    session = await caller.session(identifier, expand=["payment_intent"])
    intent, events = session["payment_intent"], [event["type"] for event in await caller.events()]
    if card.decline is None:
        assert (session["status"], session["payment_status"], session["url"]) == ("complete", "paid", None)
        assert (intent["status"], intent["amount_received"], intent["last_payment_error"]) == ("succeeded", 44997, None)
        assert events == ["checkout.session.completed", "payment_intent.succeeded", "payment_intent.created"]
    else:
        assert (session["status"], session["payment_status"]) == ("open", "unpaid")
        assert intent["status"] == "requires_payment_method"
        error = intent["last_payment_error"]
        assert (error["code"], error.get("decline_code")) == (card.decline.code, card.decline.decline_code)
        assert events == ["payment_intent.payment_failed", "payment_intent.created"]


@pytest.mark.parametrize(
    ("card", "more", "code"),
    [
        ("4111111111111111", {}, "card_declined"),  # no test card
        ("4111111111111112", {}, "incorrect_number"),
        ("4000 0000 0000 3220", {"authentication": "fail"}, "payment_intent_authentication_failure"),
    ],
)
async def test_a_failed_attempt_leaves_the_session_open(card: str, more: dict[str, str], code: str) -> None:
    caller = Caller()
    session = await caller.pay((await caller.create())["id"], card, **more)
    intent = await caller.get(f"/v1/payment_intents/{session['payment_intent']}")
    assert (session["status"], intent["last_payment_error"]["code"]) == ("open", code)


SECURE = "4000 0000 0000 3220"
CONTROL: list[tuple[str, Any, int, str]] = [
    # path, body (None: a GET), status, words
    ("nothing", None, 404, "There is no /_sandbox/nothing here."),
    ("config", None, 405, "takes POST only"),
    ("ledger", {}, 405, "takes GET only"),
    ("sessions/cs_test_x/pay", {"card": "4242 4242 4242 4242"}, 404, "No such checkout.session"),
    ("sessions/{id}/pay", {}, 400, "card: Field required"),
    ("sessions/{id}/pay", {"card": 4242}, 400, "card: "),
    ("sessions/{id}/pay", {"card": "four"}, 400, "12 to 19 digits"),
    ("sessions/{id}/pay", {"card": "4242 4242 4242 4242", "colour": "red"}, 400, "colour: "),
    ("sessions/{id}/pay", {"card": SECURE}, 400, "wants 3-D Secure"),
    ("sessions/{id}/pay", {"card": SECURE, "authentication": "maybe"}, 400, "'complete' or 'fail'"),
    ("sessions/{id}/pay", {"card": SECURE, "authentication": ["fail"]}, 400, "'complete' or 'fail'"),
    ("sessions/cs_test_x/settle", {"outcome": "paid"}, 404, "No such checkout.session"),
    ("sessions/cs_test_x/refund", {}, 404, "No such checkout.session"),
    ("sessions/cs_test_x/dispute", {}, 404, "No such checkout.session"),
    ("sessions/{id}/settle", None, 405, "takes POST only"),
    ("sessions/{id}/forgive", {}, 404, "There is no /_sandbox/sessions/"),
    ("sessions/{id}/settle", {}, 400, "outcome: Field required"),
    ("sessions/{id}/settle", {"outcome": "lost"}, 400, "outcome: Input should be 'paid', 'failed' or 'unpaid'"),
    *(
        ("sessions/{id}/settle", {"outcome": "paid", "amount_total": wrong}, 400, "amount_total: ")
        for wrong in (0, -1, 1.5, "5", True, 10**12)
    ),
    ("sessions/{id}/settle", {"outcome": "paid", "amount": 5}, 400, "amount: "),
    ("sessions/{id}/refund", {}, 409, "This session is open and unpaid."),
    *(("sessions/{id}/refund", {"amount": wrong}, 400, "amount: ") for wrong in (0, -1, 1.5, "5", True, 10**12)),
    ("sessions/{id}/refund", {"reason": "rain"}, 400, "reason: "),
    ("sessions/{id}/refund", {"fail": 1}, 400, "fail: "),
    ("sessions/{id}/dispute", {}, 409, "This session is open and unpaid."),
    ("sessions/{id}/dispute", {"amount": 5}, 400, "amount: "),
    ("sessions/{id}/dispute", {"status": "forgotten"}, 400, "status: Input should be 'needs_response', "),
    *(("clock", {"advance_seconds": wrong}, 400, "advance_seconds: ") for wrong in ("5", True, 1.5, 10**10, -(10**10))),
    ("clock", {}, 400, "advance_seconds: "),
    ("config", [], 400, "body: Input should be an object"),
    ("config", {"error_rate": 7, "down": 1}, 400, "error_rate: Input should be less than or equal to 1; down: "),
    ("config", {"error_rate": True}, 400, "error_rate: "),
    *(
        ("config", {"error_rate": 0.25, name: wrong}, 400, f"{name}")
        for name, wrong in [
            *(("latency", 5), ("latency_ms", -1), ("latency_ms", "5"), ("down", "yes"), ("drop_responses", 1.5)),
            *(("rate_limits", 5), ("rate_limits", {"default": -1}), ("rate_limits", {"default": None})),
            *(("account_error", 1), ("events_late_seconds", -1), ("events_late_seconds", "5")),
            *(("accounts", 5), ("accounts", {"sk_live_1": "acct_2"}), ("accounts", {"sk_test_1": "two"})),
            *(("revoked_keys", "sk_test_1"), ("revoked_keys", ["sk_live_1"])),
            *(("settlement_currency", "xxx"), ("settlement_currency", "CNY"), ("settlement_currency", None)),
        ]
    ),
    ("config", {"error_rate": 0.25, "rate_limits": {"checkout.create": 1}}, 400, "rate_limits names checkout.create"),
]


@pytest.mark.parametrize(("path", "body", "status", "words"), CONTROL)
async def test_a_control_call_that_makes_no_sense_is_refused_and_changes_nothing(
    path: str, body: Any, status: int, words: str
) -> None:
    caller = Caller()
    session = await caller.create()
    refused = await caller.control(path.format(id=session["id"]), body, expected=status)
    assert words in refused["error"]
    assert await caller.session(session["id"]) == session
    assert (await caller.control("config", {}))["error_rate"] == 0
    assert await caller.control("clock", {"advance_seconds": 0}) == {"now": NOW}


GOOD = {"card": "4242424242424242", "expiry": "12/34", "cvc": "123", "email": "a@b.test", "name": "A"}
MISTAKES = [
    *(("card", value, "Your card number is incomplete.") for value in ("4242", "four")),
    *(("expiry", value, "expiration date is incomplete.") for value in ("13/34", "")),
    ("expiry", "11/20", "expiration date is in the past."),
    *(("cvc", value, "security code is incomplete.") for value in ("12", "1234")),
    ("email", "x", "Your email is incomplete."),
    ("name", " ", "Your cardholder name is incomplete."),
]


@pytest.mark.parametrize(("field", "value", "words"), MISTAKES)
async def test_a_form_with_a_mistake_comes_back_without_an_attempt(field: str, value: str, words: str) -> None:
    caller = Caller()
    identifier = (await caller.create())["id"]
    page = await caller.call("POST", f"/c/pay/{identifier}", {**GOOD, field: value})
    assert (page.status, f'aria-describedby="{field}-remark"' in page.text, words in page.text) == (422, True, True)
    assert (await caller.session(identifier))["payment_intent"] is None
