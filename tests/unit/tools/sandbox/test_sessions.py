"""The life of sessions: payments, expiry, events, metadata, lists and the hosted page."""

import re
from typing import Any

import pytest

from tests.unit.tools.sandbox.caller import BASE_URL, NOW, SESSIONS, Caller, line

GOOD = {"card": "4242424242424242", "expiry": "12/34", "cvc": "123", "email": "a@b.test", "name": "A"}


@pytest.fixture
def caller() -> Caller:
    return Caller()


async def made(caller: Caller, count: int) -> list[str]:
    return [(await caller.create(client_reference_id=str(number)))["id"] for number in range(count)]


async def page_of(caller: Caller, path: str, form: dict[str, str] | None = None, method: str = "") -> Any:
    return await caller.call(method or ("GET" if form is None else "POST"), f"/c/pay/{path}", form)


# --- payments and expiry ----------------------------------------------------------------------------------------------


async def test_a_new_session_has_a_page_of_its_own_and_no_event(caller: Caller) -> None:
    session = await caller.create()
    assert len(session["id"]) == 66
    assert session["url"].startswith(f"{BASE_URL}/c/pay/{session['id']}#")
    assert 350 <= len(session["url"]) <= 450
    assert await caller.events() == []


async def test_payers_are_sent_to_the_public_url() -> None:
    """Between containers the API is called by a name that no browser knows."""
    caller = Caller(public_url="http://pay.test")
    session = await caller.create()
    assert session["url"].startswith(f"http://pay.test/c/pay/{session['id']}#")


async def test_a_payer_may_try_again_on_the_same_payment_intent_which_has_metadata_of_its_own(caller: Caller) -> None:
    identifier = (await caller.create())["id"]
    declined = await caller.pay(identifier, "4000-0000-0000-0002")
    assert (declined["object"], declined["status"]) == ("checkout.session", "open")
    paid = await caller.pay(identifier, "4000 0025 0000 3155", authentication="complete")
    assert (paid["status"], paid["payment_intent"]) == ("complete", declined["payment_intent"])
    assert (await caller.get(f"/v1/payment_intents/{paid['payment_intent']}"))["metadata"] == {"paymentId": "70"}


async def test_an_open_session_can_be_expired_once_and_takes_its_payment_intent_along(caller: Caller) -> None:
    identifier = (await caller.create())["id"]
    declined = await caller.pay(identifier, "4000 0000 0000 0002")
    expired = await caller.expire(identifier)
    assert (expired.body["status"], expired.body["payment_status"], expired.body["url"]) == ("expired", "unpaid", None)
    assert (await caller.get(f"/v1/payment_intents/{declined['payment_intent']}"))["status"] == "canceled"
    [event] = await caller.events(type="checkout.session.expired")
    assert (event["data"]["object"]["id"], event["request"]["id"]) == (identifier, expired.headers["Request-Id"])
    refused = await caller.expire(identifier)
    assert (refused.status, "has a status of `expired`" in refused.error["message"]) == (400, True)


async def test_a_complete_session_cannot_be_expired_or_paid_again(caller: Caller) -> None:
    identifier = (await caller.create())["id"]
    await caller.pay(identifier)
    assert "has a status of `complete`" in (await caller.expire(identifier)).error["message"]
    assert "it takes no payment" in (await caller.pay(identifier, expected=409))["error"]


async def test_time_expires_a_session_by_the_clock_of_the_sandbox(caller: Caller) -> None:
    session = await caller.create()
    await caller.control("clock", {"advance_seconds": 3599})
    assert (await caller.session(session["id"]))["status"] == "open"
    assert await caller.control("clock", {"advance_seconds": 2}) == {"now": NOW + 3601}
    assert (await caller.session(session["id"]))["status"] == "expired"
    events = await caller.events(types=["checkout.session.expired"])
    assert [(e["data"]["object"]["id"], e["created"]) for e in events] == [(session["id"], session["expires_at"])]
    later = await caller.create(expires_at=NOW + 3601 + 1800)
    assert later["created"] == NOW + 3601


async def test_an_event_keeps_the_object_as_it_was(caller: Caller) -> None:
    identifier = (await caller.create())["id"]
    await caller.pay(identifier)
    await caller.post(f"{SESSIONS}/{identifier}", {"metadata": {"later": "yes"}})
    [listed] = await caller.events(type="checkout.session.completed")
    event = await caller.get(f"/v1/events/{listed['id']}")
    assert event["data"]["object"]["metadata"] == {"bookingId": "7"}


async def test_manual_capture_completes_the_session_without_payment(caller: Caller) -> None:
    session = await caller.pay((await caller.create(payment_intent_data={"capture_method": "manual"}))["id"])
    assert (session["status"], session["payment_status"]) == ("complete", "unpaid")
    intent = await caller.get(f"/v1/payment_intents/{session['payment_intent']}")
    assert (intent["status"], intent["amount_capturable"]) == ("requires_capture", 44997)


async def test_a_free_session_completes_without_a_card(caller: Caller) -> None:
    session = await caller.pay((await caller.create(line_items=[line(0)]))["id"])
    assert (session["status"], session["payment_status"]) == ("complete", "no_payment_required")
    assert session["payment_intent"] is None


async def test_metadata_is_merged_unset_and_cleared(caller: Caller) -> None:
    identifier = (await caller.create(metadata={"a": "1", "b": "2"}))["id"]
    merged = await caller.post(f"{SESSIONS}/{identifier}", {"metadata": {"a": "", "c": "3"}})
    assert merged.body["metadata"] == {"b": "2", "c": "3"}
    assert (await caller.post(f"{SESSIONS}/{identifier}", {"metadata": ""})).body["metadata"] == {}


async def test_line_items_are_there_when_they_are_asked_for_and_decimals_are_rounded_on_the_line(
    caller: Caller,
) -> None:
    decimal = {"currency": "inr", "unit_amount_decimal": "33.335", "product_data": {"name": "Snack"}}
    items = [line(1000, quantity=3), {"price_data": decimal, "quantity": 3}]
    session = await caller.create(line_items=items, expand=["line_items"])
    shown = [(item["description"], item["quantity"], item["amount_total"]) for item in session["line_items"]["data"]]
    assert shown == [("3 seats", 3, 3000), ("Snack", 3, 100)]
    assert session["line_items"]["data"][1]["price"]["unit_amount_decimal"] == "33.335"
    assert "line_items" not in await caller.session(session["id"])


# --- lists ------------------------------------------------------------------------------------------------------------


async def test_a_page_has_ten_sessions_newest_first(caller: Caller) -> None:
    ids = await made(caller, 11)
    page = await caller.get(SESSIONS)
    assert ([session["id"] for session in page["data"]], page["has_more"], page["url"]) == (ids[:0:-1], True, SESSIONS)


async def test_filters_narrow_the_list(caller: Caller) -> None:
    ids = []
    for seconds in (0, 10, 10, 10, 10):
        await caller.control("clock", {"advance_seconds": seconds})
        ids += await made(caller, 1)
    paid = await caller.pay(ids[1])
    await caller.pay(ids[3])
    await caller.expire(ids[4])
    filters: list[tuple[dict[str, Any], list[int]]] = [
        ({"status": "complete"}, [3, 1]),
        ({"status": "open"}, [2, 0]),
        ({"status": "expired"}, [4]),
        ({"status": "complete", "starting_after": ids[3]}, [1]),
        ({"payment_intent": paid["payment_intent"]}, [1]),
        ({"customer_details": {"email": "payer@example.com"}}, [3, 1]),
        ({"created": {"gte": NOW + 30}}, [4, 3]),
        ({"created": {"gt": NOW + 30}}, [4]),
        ({"created": {"lte": NOW + 10}}, [1, 0]),
        ({"created": {"lt": NOW + 10}}, [0]),
        ({"created": {"gt": NOW, "lt": NOW + 20}}, [1]),
        ({"created": NOW + 10}, [1]),
    ]
    for params, expected in filters:
        assert [ids.index(each["id"]) for each in (await caller.get(SESSIONS, **params))["data"]] == expected, params


async def test_events_are_filtered_by_type_and_paged_in_the_order_they_happened(caller: Caller) -> None:
    ids = await made(caller, 2)
    await caller.pay(ids[0])
    await caller.expire(ids[1])
    completed, expired = "checkout.session.completed", "checkout.session.expired"
    others = ["payment_intent.succeeded", "payment_intent.created"]
    filters: list[tuple[dict[str, Any], list[str]]] = [
        ({"type": completed}, [completed]),
        ({"type": "checkout.session.*"}, [expired, completed]),
        ({"type": "*"}, [expired, completed, *others]),
        ({"types": [expired, "charge.refunded"]}, [expired]),
        ({"types": ["charge.refunded"]}, []),
        ({"delivery_success": False}, []),
        ({"limit": 1}, [expired]),
    ]
    for params, expected in filters:
        assert [event["type"] for event in await caller.events(**params)] == expected, params
    newest, *_, oldest = await caller.events()
    for cursor in ({"starting_after": newest["id"]}, {"ending_before": oldest["id"]}):
        assert [event["type"] for event in await caller.events(**cursor, limit=2)] == [completed, others[0]]


# --- the hosted page; its looks are tested in a browser ---------------------------------------------------------------


async def test_pages_are_closed_to_scripts_frames_and_caches_and_callers_write_no_markup(caller: Caller) -> None:
    markup = '<img src=x onerror="alert(1)">'
    page = await page_of(caller, (await caller.create(line_items=[line(name=markup)]))["id"])
    assert page.status == 200
    assert "&lt;img" in page.text
    assert "<img" not in page.text
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert (page.headers["Cache-Control"], page.headers["X-Content-Type-Options"]) == ("no-store", "nosniff")
    assert "<script" not in page.text
    assert re.findall(r'(?:src|href)="(?!data:,|https://booking\.test/back)', page.text) == []


async def test_success_leads_to_the_shop_with_the_id_filled_in_and_a_second_click_pays_nothing(caller: Caller) -> None:
    url = "https://booking.test/fertig/ü?s={CHECKOUT_SESSION_ID}&next={X}&p=%20"
    identifier = (await caller.create(success_url=url))["id"]
    for _ in range(2):
        page = await page_of(caller, identifier, GOOD)
        place = f"https://booking.test/fertig/%C3%BC?s={identifier}&next={{X}}&p=%20"
        assert (page.status, page.headers["Location"]) == (303, place)
    assert len(await caller.events(type="payment_intent.succeeded")) == 1


async def test_a_decline_is_shown_on_a_page_that_can_be_reloaded(caller: Caller) -> None:
    identifier = (await caller.create())["id"]
    page = await page_of(caller, identifier, {**GOOD, "card": "4000000000000002"})
    assert (page.status, page.headers["Location"]) == (303, f"/c/pay/{identifier}?declined=1")
    assert "Your card was declined." in (await page_of(caller, f"{identifier}?declined=1")).text
    assert "Your card was declined." not in (await page_of(caller, identifier)).text


async def test_3d_secure_waits_for_the_payer_who_is_known_afterwards(caller: Caller) -> None:
    identifier = (await caller.create())["id"]
    bank = f"{identifier}/authenticate"
    assert (await page_of(caller, bank)).status == 303  # nothing to authenticate yet
    page = await page_of(caller, identifier, {**GOOD, "card": "4000000000003220", "name": "Asha"})
    assert (page.status, page.headers["Location"]) == (303, f"/c/pay/{bank}")
    intent = (await caller.session(identifier, expand=["payment_intent"]))["payment_intent"]
    assert intent["status"] == "requires_action"
    assert (await page_of(caller, bank, {"outcome": "later"})).status == 200
    page = await page_of(caller, bank, {"outcome": "complete"})
    assert (page.status, identifier in page.headers["Location"]) == (303, True)
    payer = (await caller.session(identifier))["customer_details"]
    assert (payer["name"], payer["email"]) == ("Asha", "a@b.test")


async def test_pages_that_take_no_money_have_a_fitting_status(caller: Caller) -> None:
    paid, expired = await made(caller, 2)
    await caller.pay(paid)
    await caller.expire(expired)
    pages: list[tuple[str, dict[str, str] | None, str, int, str]] = [
        (paid, None, "", 200, "You have already paid"),
        (paid, None, "DELETE", 405, ""),
        (expired, None, "", 410, "This checkout has expired"),
        (expired, GOOD, "", 410, "This checkout has expired"),
        ("cs_test_nobody", None, "", 404, "no checkout at this address"),
        ("cs_test_nobody", GOOD, "", 404, "no checkout at this address"),
        ("%3Cscript%3E", None, "", 404, "no checkout at this address"),
    ]
    for path, form, method, status, words in pages:
        page = await page_of(caller, path, form, method)
        assert (page.status, words in page.text) == (status, True)


@pytest.mark.parametrize("by_time", [False, True])
async def test_an_open_page_stays_as_it_was_until_one_pays(caller: Caller, by_time: bool) -> None:  # noqa: FBT001
    identifier = (await caller.create())["id"]
    before = await page_of(caller, identifier)
    if by_time:
        await caller.control("clock", {"advance_seconds": 3600})
    else:
        await caller.expire(identifier)
    after = await page_of(caller, identifier)
    assert (before.status, after.status, after.text) == (200, 200, before.text)
    assert (await page_of(caller, f"{identifier}?card=4242424242424242")).status == 200
    for form in (GOOD, None, GOOD):
        page = await page_of(caller, identifier, form)
        assert (page.status, "This checkout has expired" in page.text) == (410, True)
    session = await caller.session(identifier)
    assert (session["status"], session["payment_intent"]) == ("expired", None)


async def test_the_way_back_is_there_only_if_there_is_one(caller: Caller) -> None:
    for url, links in (("https://booking.test/?a=1&b='", 1), (None, 0)):
        page = await page_of(caller, (await caller.create(cancel_url=url))["id"])
        assert page.text.count("<a ") == page.text.count("?a=1&amp;b=&#x27;") == links


async def test_a_chosen_test_card_fills_the_form(caller: Caller) -> None:
    identifier = (await caller.create(customer_email="asha@b.test"))["id"]
    page = await page_of(caller, f"{identifier}?card=378282246310005")
    for value in ("3782 822463 10005", "1234", "asha@b.test"):
        assert f'value="{value}"' in page.text
    assert "<b>" not in (await page_of(caller, f'{identifier}?card="><b>')).text
