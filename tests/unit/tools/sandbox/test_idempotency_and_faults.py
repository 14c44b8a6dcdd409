"""Idempotency keys (https://docs.stripe.com/api/idempotent_requests), the faults, and what the control API counts."""

import asyncio
from typing import Any

import pytest

from tests.kit.virtual_time import simulated
from tests.unit.tools.sandbox.caller import NOW, SESSIONS, Answer, Caller, create_params
from tools.sandbox.asgi import CutError

KEY = "key-1"


@pytest.fixture
def caller() -> Caller:
    return Caller()


async def sent(caller: Caller, *, key: str = KEY, **changes: Any) -> Answer:
    return await caller.post(SESSIONS, create_params(**changes), key=key)


async def calls_of(caller: Caller, endpoint: str) -> dict[str, int]:
    calls: dict[str, int] = (await caller.control("stats"))["calls"][endpoint]
    return calls


# --- keys -------------------------------------------------------------------------------------------------------------


async def test_a_repeat_gets_the_first_answer_even_after_the_session_moved_on(caller: Caller) -> None:
    first = await sent(caller)
    await caller.pay(first.body["id"])
    backwards = dict(reversed(create_params().items()))
    again = await caller.post(SESSIONS, backwards, key=KEY)  # the order of parameters does not matter
    assert again.text == first.text
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Original-Request"] == first.headers["Original-Request"] == first.headers["Request-Id"]
    assert first.headers["Idempotency-Key"] == again.headers["Idempotency-Key"] == KEY
    assert again.headers["Request-Id"] != first.headers["Request-Id"]
    assert "Idempotent-Replayed" not in first.headers


async def test_a_key_belongs_to_its_parameters_and_its_endpoint(caller: Caller) -> None:
    session = (await sent(caller)).body
    elsewhere = await caller.post(f"{SESSIONS}/{session['id']}/expire", key=KEY)
    for refused in (await sent(caller, client_reference_id="8"), elsewhere):
        assert (refused.status, refused.error["type"], refused.error.get("code")) == (400, "idempotency_error", None)
        assert f"other than '{KEY}'" in refused.error["message"]


@pytest.mark.parametrize("changes", [{"mode": "gift"}, {"expires_at": 1}])
async def test_a_refused_parameter_leaves_the_key_free(caller: Caller, changes: dict[str, Any]) -> None:
    assert (await sent(caller, **changes)).status == 400
    assert (await sent(caller)).status == 200


async def test_an_executed_refusal_is_kept(caller: Caller) -> None:
    identifier = (await caller.create())["id"]
    await caller.pay(identifier)
    for replayed in (None, "true"):
        refused = await caller.post(f"{SESSIONS}/{identifier}/expire", key=KEY)
        assert (refused.status, refused.headers.get("Idempotent-Replayed")) == (400, replayed)


async def test_a_repeat_while_the_first_is_running_is_409(caller: Caller) -> None:
    await caller.control("config", {"latency_ms": 1})
    first, second = await asyncio.gather(sent(caller), sent(caller))
    assert (first.status, second.status) == (200, 409)
    assert (second.error["code"], second.error["type"]) == ("idempotency_key_in_use", "invalid_request_error")
    assert second.headers["Stripe-Should-Retry"] == "true"
    assert (await sent(caller)).text == first.text


async def test_a_key_is_forgotten_after_24_hours(caller: Caller) -> None:
    first = await sent(caller, expires_at=None)
    await caller.control("clock", {"advance_seconds": 86_400})
    assert (await sent(caller, expires_at=None)).text == first.text
    younger = await sent(caller, key="younger", expires_at=None)
    await caller.control("clock", {"advance_seconds": 1})
    assert (await sent(caller, expires_at=None)).text != first.text
    assert (await sent(caller, key="younger", expires_at=None)).text == younger.text


async def test_a_key_may_have_255_characters_and_without_one_every_post_is_new(caller: Caller) -> None:
    assert (await sent(caller, key="k" * 255)).status == 200
    assert "at most 255" in (await sent(caller, key="k" * 256)).error["message"]
    first, second = await sent(caller, key=""), await sent(caller, key="")
    assert first.body["id"] != second.body["id"]
    assert "Idempotency-Key" not in first.headers


# --- faults -----------------------------------------------------------------------------------------------------------


def test_latency_delays_answers_side_by_side() -> None:
    async def seconds() -> float:
        caller = Caller()
        await caller.control("config", {"latency_ms": 200})
        await asyncio.gather(*(caller.events() for _ in range(10)))
        return asyncio.get_running_loop().time()

    assert simulated(seconds()) == pytest.approx(0.2)


async def test_a_500_before_the_work_leaves_the_key_free_and_one_after_it_is_kept(caller: Caller) -> None:
    await caller.control("config", {"error_rate": 1})
    failed = await sent(caller)
    assert (failed.status, failed.error["type"]) == (500, "api_error")
    assert "Stripe-Should-Retry" not in failed.headers
    await caller.control("config", {"error_rate": 0, "lose_responses": 1})
    for replayed in (None, "true"):
        lost = await sent(caller)
        assert (lost.status, lost.headers.get("Idempotent-Replayed")) == (500, replayed)
    assert len(await caller.control("ledger")) == 1


async def test_dropped_responses_cut_posts_whose_answer_is_replayed_under_their_key(caller: Caller) -> None:
    await caller.control("config", {"drop_responses": 1})
    await caller.events()  # a read uses up nothing
    with pytest.raises(CutError):
        await sent(caller)
    [session] = await caller.control("ledger")
    again = await sent(caller)
    assert (again.body["id"], again.headers["Idempotent-Replayed"]) == (session["id"], "true")
    assert len(await caller.control("ledger")) == 1


async def test_down_cuts_connections_without_work(caller: Caller) -> None:
    await caller.control("config", {"down": True})
    for _ in range(3):
        with pytest.raises(CutError):
            await sent(caller)
    await caller.control("config", {"down": False})
    assert await caller.control("ledger") == []
    assert (await calls_of(caller, "checkout.sessions.create"))["errors"] == 3


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"events.list": 2}, "endpoint-rate"),
        ({"default": 2}, "endpoint-rate"),
        ({"global": 2}, "global-rate"),
        ({"events.list": 0}, "endpoint-rate"),
    ],
)
async def test_a_rate_limit_answers_429_and_says_which(caller: Caller, limits: dict[str, float], reason: str) -> None:
    await caller.control("config", {"rate_limits": limits})
    answers = [await caller.call("GET", "/v1/events") for _ in range(4)]
    refused = [answer for answer in answers if answer.status == 429]
    assert refused
    assert refused[0].headers["Stripe-Rate-Limited-Reason"] == reason
    assert refused[0].error["code"] == "rate_limit"
    counted = {"calls": 4, "errors": 0, "rate_limited": len(refused), "replays": 0}
    assert await calls_of(caller, "events.list") == counted
    await caller.control("config", {"rate_limits": {}})
    await caller.events()


async def test_a_limited_call_leaves_its_key_free(caller: Caller) -> None:
    await caller.control("config", {"rate_limits": {"checkout.sessions.create": 0}})
    assert (await sent(caller)).status == 429
    await caller.control("config", {"rate_limits": {}})
    assert "Idempotent-Replayed" not in (await sent(caller)).headers


async def test_faults_never_touch_the_control_api_or_the_page(caller: Caller) -> None:
    identifier = (await caller.create())["id"]
    faults = {"down": True, "error_rate": 1, "latency_ms": 60_000, "rate_limits": {"global": 0}, "drop_responses": 5}
    await caller.control("config", faults)
    assert (await caller.call("GET", f"/c/pay/{identifier}")).status == 200
    assert (await caller.pay(identifier))["status"] == "complete"
    assert (await caller.control("stats"))["sessions"]["complete"] == 1


# --- the control API --------------------------------------------------------------------------------------------------


async def test_settings_are_merged(caller: Caller) -> None:
    await caller.control("config", {"latency_ms": 5, "rate_limits": {"default": 3, "global": 9}})
    after = await caller.control("config", {"error_rate": 0.5, "rate_limits": {"default": 4}})
    kept: dict[str, Any] = {
        "latency_ms": 5,
        "down": False,
        "drop_responses": 0,
        "lose_responses": 0,
        "account_error": False,
    }
    kept |= {"events_late_seconds": 0, "accounts": {}, "revoked_keys": [], "settlement_currency": "inr"}
    assert after == kept | {"error_rate": 0.5, "rate_limits": {"default": 4}}
    answer = await caller.call("POST", "/_sandbox/config", body=b"{")
    assert (answer.status, "Invalid JSON" in answer.body["error"]) == (400, True)


async def test_the_ledger_has_every_session_oldest_first_and_stats_count_calls(caller: Caller) -> None:
    made = [(await sent(caller, key="k")).body["id"], (await caller.create())["id"]]
    await sent(caller, key="k")
    await caller.post(SESSIONS, {"mode": "gift"})
    assert [session["id"] for session in await caller.control("ledger")] == made
    stats = await caller.control("stats")
    assert stats["calls"]["checkout.sessions.create"] == {"calls": 4, "errors": 1, "rate_limited": 0, "replays": 1}
    assert stats["calls"]["events.list"] == {"calls": 0, "errors": 0, "rate_limited": 0, "replays": 0}
    assert stats["sessions"] == {"open": 2, "complete": 0, "expired": 0}


async def test_the_most_payable_sessions_of_a_booking_are_remembered(caller: Caller) -> None:
    async def figure() -> int:
        return int((await caller.control("stats"))["max_payable_per_booking"])

    assert await figure() == 0
    await caller.expire((await caller.create())["id"])
    second = (await caller.create())["id"]
    await caller.create(metadata={"bookingId": "8"}, client_reference_id="7")
    await caller.pay(second)
    assert await figure() == 1
    third = (await caller.create(metadata={}))["id"]  # the reference says 7 as well
    assert await figure() == 2
    await caller.expire(third)
    assert await figure() == 2


async def test_reset_goes_back_to_the_first_moment(caller: Caller) -> None:
    await caller.pay((await caller.create())["id"])
    await caller.control("config", {"down": True})
    assert await caller.control("clock", {"advance_seconds": 5000}) == {"now": NOW + 5000}
    assert await caller.control("reset", {}) == {"now": NOW}
    stats = await caller.control("stats")
    assert stats["calls"]["checkout.sessions.create"]["calls"] == 0
    assert (sum(stats["sessions"].values()), stats["max_payable_per_booking"]) == (0, 0)
    assert await caller.control("ledger") == await caller.events() == []
