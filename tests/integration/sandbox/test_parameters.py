"""What create, list and the others refuse, and in which words."""

from typing import Any

import pytest
import stripe

from tests.integration.sandbox.harness import Running, line

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
    ("long url", {"cancel_url": "https://a.test/" + "x" * 2034}, "url_invalid", "cancel_url", "2048 characters"),
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
    ("text quantity", {"line_items": [{**line(), "quantity": "x"}]}, "parameter_invalid_integer", None, "Invalid int"),
    ("no quantity", {"line_items": [line(quantity=0)]}, "parameter_invalid_integer", None, "equal to 1"),
    ("negative", {"line_items": [line(-5)]}, "parameter_invalid_integer", None, "equal to 0"),
    ("fraction", {"line_items": [line(1.5)]}, "parameter_invalid_integer", None, "Invalid integer: 1.5"),  # type: ignore[arg-type]
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
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case[0])
async def test_create_refuses_what_stripe_refuses(
    sandbox: Running, client: stripe.StripeClient, case: tuple[str, dict[str, Any], str | None, str | None, str]
) -> None:
    _, changes, code, param, words = case
    params = {name: value for name, value in sandbox.create_params(**changes).items() if value is not None}
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await client.v1.checkout.sessions.create_async(params)  # type: ignore[arg-type]
    assert refused.value.http_status == 400
    assert refused.value.code == code
    assert words in str(refused.value)
    if param is not None:
        assert refused.value.param == param
    assert await sandbox.control("ledger") == []


@pytest.mark.parametrize(
    ("amount", "currency", "code"),
    [
        (49, "inr", "amount_too_small"),
        (50, "inr", None),
        (29, "gbp", "amount_too_small"),
        (30, "gbp", None),
        (49, "jpy", "amount_too_small"),
        (500, "jpy", None),
        (99_999_999, "inr", None),
        (100_000_000, "inr", "amount_too_large"),
        (5124, "kwd", "parameter_invalid_integer"),
        (5120, "kwd", None),
        (550, "isk", "parameter_invalid_integer"),
        (500, "isk", None),
        (550, "ugx", "parameter_invalid_integer"),
        (500, "ugx", None),
        (17499, "huf", "amount_too_small"),
        (500, "INR", None),
        (500, "xxx", ""),
        (500, "₹", ""),
    ],
)
async def test_amounts_follow_the_rules_of_their_currency(
    sandbox: Running, client: stripe.StripeClient, amount: int, currency: str, code: str | None
) -> None:
    params = sandbox.create_params(line_items=[line(amount, currency)])
    if code is None:
        session = await client.v1.checkout.sessions.create_async(params)
        assert (session.amount_total, session.currency) == (amount, currency.lower())
        return
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await client.v1.checkout.sessions.create_async(params)
    assert (refused.value.code or "") == code


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1799, "at least 30 minutes"), (1800, None), (86400, None), (86401, "less than 24 hours"), (-1, "at least 30")],
)
async def test_expiry_is_measured_by_the_clock_of_the_sandbox(
    sandbox: Running, client: stripe.StripeClient, seconds: int, words: str | None
) -> None:
    moment = 2_000_000_000
    sandbox.sandbox.account._wall_clock = lambda: moment
    await sandbox.control("clock", {"advance_seconds": 500})
    params = sandbox.create_params(expires_at=moment + 500 + seconds)
    if words is None:
        session = await client.v1.checkout.sessions.create_async(params)
        assert (session.created, session.expires_at) == (moment + 500, moment + 500 + seconds)
        return
    with pytest.raises(stripe.InvalidRequestError, match=words):
        await client.v1.checkout.sessions.create_async(params)


async def test_without_expires_at_a_session_lives_24_hours(sandbox: Running, client: stripe.StripeClient) -> None:
    params = sandbox.create_params()
    del params["expires_at"]
    session = await client.v1.checkout.sessions.create_async(params)
    assert session.expires_at - session.created == 86400


async def test_decimal_amounts_are_rounded_on_the_line(sandbox: Running, client: stripe.StripeClient) -> None:
    data = {"currency": "usd", "unit_amount_decimal": "33.335", "product_data": {"name": "n"}}
    params = sandbox.create_params(line_items=[{"price_data": data, "quantity": 3}], expand=["line_items"])
    session = await client.v1.checkout.sessions.create_async(params)
    assert session.amount_total == 100
    assert session.line_items is not None
    assert session.line_items.data[0].price is not None
    assert str(session.line_items.data[0].price.unit_amount_decimal) == "33.335"


@pytest.mark.parametrize("index", ["", "0"], ids=["brackets", "numbers"])
async def test_lists_may_be_written_both_ways(sandbox: Running, index: str) -> None:
    fields = {"quantity": "2", "price_data][currency": "inr", "price_data][product_data][name": "x"}
    lines = "".join(f"&line_items[{index}][{name}]={value}" for name, value in fields.items())
    lines += f"&line_items[{index}][price_data][unit_amount]=90&allowed_payment_method_types[{index}]=card"
    form = f"mode=payment&success_url=https%3A%2F%2Fa.test{lines}"
    status, _, body = await sandbox.raw("POST", "/v1/checkout/sessions", form)
    assert (status, body.get("amount_total")) == (200, 180), body


async def test_what_is_not_a_form_is_refused(sandbox: Running) -> None:
    json_type = {"Content-Type": "application/json"}
    status, _, body = await sandbox.raw("POST", "/v1/checkout/sessions", '{"mode": "payment"}', json_type)
    assert (status, "application/x-www-form-urlencoded" in body["error"]["message"]) == (400, True)
    status, _, body = await sandbox.raw("POST", "/v1/checkout/sessions", "mode=%ff")
    assert (status, body["error"]["message"]) == (400, "Invalid UTF-8 in the request.")


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"limit": "x"}, "limit"),
        ({"status": "done"}, "status"),
        ({"starting_after": "cs_test_x"}, "starting_after"),
        ({"starting_after": "a", "ending_before": "b"}, "ending_before"),
        ({"created": {"after": 1}}, "created[after]"),
        ({"client_reference_id": "7"}, "client_reference_id"),
    ],
)
async def test_list_refuses_what_stripe_refuses(
    client: stripe.StripeClient, params: dict[str, Any], param: str
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await client.v1.checkout.sessions.list_async(params)  # type: ignore[arg-type]
    assert (refused.value.http_status, refused.value.param) == (400, param)


async def test_events_take_a_type_or_types_but_not_both(client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await client.v1.events.list_async({"type": "a", "types": ["b"]})
    assert refused.value.code == "parameters_exclusive"
    with pytest.raises(stripe.InvalidRequestError):
        await client.v1.events.list_async({"types": ["x"] * 21})


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/refunds"), ("DELETE", "/v1/checkout/sessions"), ("GET", "/v1/")]
)
async def test_what_is_no_endpoint_is_404(sandbox: Running, method: str, path: str) -> None:
    status, _, body = await sandbox.raw(method, path)
    assert status == 404
    assert body["error"]["message"].startswith(f"Unrecognized request URL ({method}: {path})")
