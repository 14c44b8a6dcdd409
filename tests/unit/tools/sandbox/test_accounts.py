"""Accounts that are another's or not set up, and events that come late."""

from typing import Any

import pytest

from tests.unit.tools.sandbox.caller import KEY, NOW, SESSIONS, Answer, Caller, create_params
from tools.sandbox.accounts import THE_ACCOUNT

OTHER_KEY, OTHER_ACCOUNT = "rk_test_other", "acct_1Other"


@pytest.fixture
def caller() -> Caller:
    return Caller()


async def called(caller: Caller, method: str, target: str, params: Any = None, *, key: str = OTHER_KEY) -> Answer:
    return await caller.call(method, target, params, {"authorization": f"Bearer {key}"})


async def stepped(caller: Caller, seconds: int) -> None:
    await caller.control("clock", {"advance_seconds": seconds})


# --- accounts ---------------------------------------------------------------------------------------------------------


async def test_a_key_of_another_account_sees_and_changes_nothing_of_this_one(caller: Caller) -> None:
    session = await caller.pay((await caller.create(key="k"))["id"])
    [event, *_] = await caller.events()
    await caller.control("config", {"accounts": {OTHER_KEY: OTHER_ACCOUNT}})
    paths = {
        f"{SESSIONS}/{session['id']}": "checkout.session",
        f"/v1/payment_intents/{session['payment_intent']}": "payment_intent",
        f"/v1/events/{event['id']}": "event",
    }
    for path, resource in paths.items():
        refused = await called(caller, "GET", path)
        assert (refused.status, refused.error["code"]) == (404, "resource_missing")
        assert refused.error["message"].startswith(f"No such {resource}: '")
    assert (await called(caller, "POST", f"{SESSIONS}/{session['id']}/expire")).status == 404
    for path in (SESSIONS, f"{SESSIONS}?payment_intent={session['payment_intent']}", "/v1/events"):
        assert (await called(caller, "GET", path)).body["data"] == []
    headers = {"authorization": f"Bearer {OTHER_KEY}", "idempotency-key": "k"}
    made = await caller.call("POST", SESSIONS, create_params(), headers)
    assert (made.status, "Idempotent-Replayed" in made.headers, made.body["id"] != session["id"]) == (200, False, True)


async def test_an_account_keeps_what_it_has_while_no_key_belongs_to_it(caller: Caller) -> None:
    await caller.control("config", {"accounts": {KEY: OTHER_ACCOUNT}})
    session = await caller.create()
    await caller.control("config", {"accounts": {}})
    assert (await caller.call("GET", f"{SESSIONS}/{session['id']}")).status == 404
    await caller.control("config", {"accounts": {OTHER_KEY: OTHER_ACCOUNT}})
    assert (await called(caller, "GET", f"{SESSIONS}/{session['id']}")).body == session


async def test_an_account_says_who_it_is(caller: Caller) -> None:
    await caller.control("config", {"accounts": {OTHER_KEY: OTHER_ACCOUNT}, "settlement_currency": "eur"})
    account = await caller.get("/v1/account")
    assert (account["id"], account["default_currency"]) == (THE_ACCOUNT, "eur")
    assert (await called(caller, "GET", "/v1/account")).body["id"] == OTHER_ACCOUNT
    assert (await caller.control("stats"))["calls"]["account.retrieve"]["calls"] == 2


async def test_ledger_stats_pages_and_control_calls_know_all_accounts(caller: Caller) -> None:
    first = (await caller.create())["id"]
    await caller.control("config", {"accounts": {OTHER_KEY: OTHER_ACCOUNT}})
    await stepped(caller, 1)
    second = (await called(caller, "POST", SESSIONS, create_params())).body["id"]
    await stepped(caller, 1)
    third = (await caller.create())["id"]
    assert [session["id"] for session in await caller.control("ledger")] == [first, second, third]
    stats = await caller.control("stats")
    assert (stats["sessions"]["open"], stats["max_payable_per_booking"]) == (3, 3)
    assert (await caller.call("GET", f"/c/pay/{second}")).status == 200
    assert (await caller.pay(second))["id"] == second
    assert (await caller.control(f"sessions/{second}/refund", {}))["amount"] == 44997
    assert (await called(caller, "POST", SESSIONS, create_params())).status == 200
    await stepped(caller, 7200)
    assert (await caller.control("stats"))["sessions"] == {"open": 0, "complete": 1, "expired": 3}
    await caller.control("reset", {})
    assert await caller.control("ledger") == []


async def test_an_account_that_is_not_set_up_refuses_every_create_and_nothing_else(caller: Caller) -> None:
    session = await caller.create()
    await caller.control("config", {"account_error": True})
    for _ in range(2):
        refused = await caller.post(SESSIONS, create_params(), key="k")
        assert (refused.status, refused.error["type"]) == (400, "invalid_request_error")
        assert "you must set an account or business name" in refused.error["message"]
        assert set(refused.error) == {"message", "request_log_url", "type"}, "no code and no param names the cause"
    assert await caller.session(session["id"]) == session
    assert (await caller.post(SESSIONS, create_params(mode="gift"))).error["param"] == "mode"
    await caller.control("config", {"account_error": False})
    assert (await caller.post(SESSIONS, create_params(), key="k")).status == 200, "the key was not used up"


async def test_a_revoked_key_is_refused_everywhere_and_another_one_of_the_account_is_not(caller: Caller) -> None:
    session = await caller.create()
    await caller.control("config", {"revoked_keys": [KEY]})
    for refused in (await caller.post(SESSIONS, create_params()), await caller.call("GET", "/v1/events")):
        assert (refused.status, refused.error["code"]) == (401, "api_key_expired")
        assert KEY not in refused.error["message"]
    assert (await called(caller, "GET", f"{SESSIONS}/{session['id']}")).body == session
    await caller.control("config", {"revoked_keys": []})
    assert await caller.session(session["id"]) == session


# --- late events ------------------------------------------------------------------------------------------------------


async def test_a_late_event_enters_the_list_in_its_old_place(caller: Caller) -> None:
    on_time, late = (await caller.create())["id"], (await caller.create())["id"]
    completed: dict[str, Any] = {"type": "checkout.session.completed"}
    await caller.control("config", {"events_late_seconds": 30})
    await caller.pay(late)
    await caller.control("config", {"events_late_seconds": 0.5})
    await stepped(caller, 1)
    await caller.control("config", {"events_late_seconds": 30})
    await caller.pay(on_time)
    assert await caller.events(**completed) == [], "an event keeps the delay that it began with"
    await stepped(caller, 29)
    [event] = await caller.events(**completed)
    assert (event["data"]["object"]["id"], event["created"]) == (late, NOW)
    await stepped(caller, 1)
    assert [e["data"]["object"]["id"] for e in await caller.events(**completed)] == [on_time, late]
    assert [e["created"] for e in await caller.events(**completed)] == [NOW + 1, NOW]


async def test_late_events_are_retrieved_by_id_and_all_listed_when_none_is_late_any_more(caller: Caller) -> None:
    await caller.pay((await caller.create())["id"])
    seen = await caller.events()
    await caller.control("config", {"events_late_seconds": 600})
    assert await caller.events() == seen, "what was seen stays seen"
    await caller.pay((await caller.create())["id"])
    [waiting] = [
        event for event in caller.sandbox.account.events.bodies if event["type"] == "payment_intent.succeeded"
    ][1:]
    assert await caller.get(f"/v1/events/{waiting['id']}") == waiting
    assert await caller.events() == seen
    await caller.control("config", {"events_late_seconds": 0})
    assert len(await caller.events()) == 2 * len(seen)


async def test_a_step_back_does_not_make_events_later(caller: Caller) -> None:
    await caller.control("config", {"events_late_seconds": 10})
    await caller.pay((await caller.create())["id"])
    await stepped(caller, -3600)
    await stepped(caller, 10)
    assert len(await caller.events(type="checkout.session.completed")) == 1
