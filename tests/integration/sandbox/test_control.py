"""The control API and the faults it sets."""

import asyncio
import time
from io import BytesIO
from typing import Any

import pytest
import stripe

from tests.integration.sandbox.harness import Running


async def test_latency_delays_answers_side_by_side(sandbox: Running, client: stripe.StripeClient) -> None:
    await sandbox.control("config", {"latency_ms": 200})
    started = time.monotonic()
    await asyncio.gather(*(client.v1.events.list_async() for _ in range(10)))
    assert 0.2 <= time.monotonic() - started < 1.5


async def test_all_calls_fail_at_an_error_rate_of_one_and_none_at_zero(
    sandbox: Running, client: stripe.StripeClient
) -> None:
    await sandbox.control("config", {"error_rate": 1})
    with pytest.raises(stripe.APIError) as failed:
        await client.v1.events.list_async()
    assert failed.value.http_status == 500
    assert failed.value.error is not None
    assert failed.value.error.type == "api_error"
    await sandbox.control("config", {"error_rate": 0})
    await client.v1.events.list_async()


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"events.list": 2}, "endpoint-rate"),
        ({"default": 2}, "endpoint-rate"),
        ({"global": 2}, "global-rate"),
        ({"events.list": 0}, "endpoint-rate"),
    ],
)
async def test_a_rate_limit_answers_429_and_says_which(
    sandbox: Running, client: stripe.StripeClient, limits: dict[str, float], reason: str
) -> None:
    await sandbox.control("config", {"rate_limits": limits})
    refused: list[stripe.RateLimitError] = []
    for _ in range(4):
        try:
            await client.v1.events.list_async()
        except stripe.RateLimitError as error:
            refused.append(error)
    assert refused
    assert refused[0].headers is not None
    assert refused[0].headers["Stripe-Rate-Limited-Reason"] == reason
    assert refused[0].error is not None
    assert refused[0].error.code == "rate_limit"
    stats = await sandbox.control("stats")
    assert stats["calls"]["events.list"] == {"calls": 4, "errors": 0, "rate_limited": len(refused), "replays": 0}
    await sandbox.control("config", {"rate_limits": {}})
    await client.v1.events.list_async()


async def test_a_limited_call_leaves_its_key_free(sandbox: Running, client: stripe.StripeClient) -> None:
    await sandbox.control("config", {"rate_limits": {"checkout.sessions.create": 0}})
    options: Any = {"idempotency_key": "k"}
    with pytest.raises(stripe.RateLimitError):
        await client.v1.checkout.sessions.create_async(sandbox.create_params(), options)
    await sandbox.control("config", {"rate_limits": {}})
    await client.v1.checkout.sessions.create_async(sandbox.create_params(), options)


async def test_down_cuts_connections_without_work(sandbox: Running, client: stripe.StripeClient) -> None:
    await sandbox.control("config", {"down": True})
    for _ in range(3):
        with pytest.raises(stripe.APIConnectionError):
            await client.v1.checkout.sessions.create_async(sandbox.create_params())
    await sandbox.control("config", {"down": False})
    await client.v1.events.list_async()
    assert await sandbox.control("ledger") == []
    assert (await sandbox.control("stats"))["calls"]["checkout.sessions.create"]["errors"] == 3


async def test_a_dropped_response_is_replayed_under_its_key(sandbox: Running, client: stripe.StripeClient) -> None:
    await sandbox.control("config", {"drop_responses": 1})
    params, options = sandbox.create_params(), {"idempotency_key": "k"}
    with pytest.raises(stripe.APIConnectionError):
        await client.v1.checkout.sessions.create_async(params, options)  # type: ignore[arg-type]
    ledger = await sandbox.control("ledger")
    session = await client.v1.checkout.sessions.create_async(params, options)  # type: ignore[arg-type]
    assert [entry["id"] for entry in ledger] == [session.id]
    assert session.last_response.headers["Idempotent-Replayed"] == "true"
    assert len(await sandbox.control("ledger")) == 1


async def test_the_retries_of_the_sdk_survive_a_dropped_response(sandbox: Running) -> None:
    await sandbox.control("config", {"drop_responses": 2})
    patient = sandbox.client(max_network_retries=2)
    await patient.v1.checkout.sessions.create_async(sandbox.create_params())
    assert len(await sandbox.control("ledger")) == 1


async def test_reads_do_not_use_up_dropped_responses(sandbox: Running, client: stripe.StripeClient) -> None:
    await sandbox.control("config", {"drop_responses": 1})
    await client.v1.events.list_async()
    with pytest.raises(stripe.APIConnectionError):
        await client.v1.checkout.sessions.create_async(sandbox.create_params())


async def test_faults_never_touch_the_control_api_or_the_page(sandbox: Running, client: stripe.StripeClient) -> None:
    session = await client.v1.checkout.sessions.create_async(sandbox.create_params())
    faults = {"down": True, "error_rate": 1, "latency_ms": 60_000, "rate_limits": {"global": 0}, "drop_responses": 5}
    await sandbox.control("config", faults)
    async with sandbox.http.get(session.url or "") as page:
        assert page.status == 200
    assert (await sandbox.pay(session.id))["status"] == "complete"
    assert (await sandbox.control("stats"))["sessions"]["complete"] == 1


async def test_settings_are_merged(sandbox: Running) -> None:
    await sandbox.control("config", {"latency_ms": 5, "rate_limits": {"default": 3, "global": 9}})
    after = await sandbox.control("config", {"error_rate": 0.5, "rate_limits": {"default": 4}})
    assert after == {
        "latency_ms": 5,
        "error_rate": 0.5,
        "rate_limits": {"default": 4},
        "down": False,
        "drop_responses": 0,
        "lose_responses": 0,
    }


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"latency": 5}, "latency is no setting"),
        ({"latency_ms": -1}, "latency_ms must be"),
        ({"latency_ms": "5"}, "latency_ms must be"),
        ({"error_rate": 2}, "error_rate must be"),
        ({"error_rate": True}, "error_rate must be"),
        ({"down": "yes"}, "down must be"),
        ({"drop_responses": 1.5}, "drop_responses must be"),
        ({"rate_limits": 5}, "rate_limits must be"),
        ({"rate_limits": {"default": -1}}, "rate_limits must be"),
        ({"rate_limits": {"checkout.create": 1}}, "rate_limits names checkout.create"),
        ([], "must be a JSON object"),
    ],
)
async def test_a_wrong_setting_changes_nothing(sandbox: Running, body: Any, words: str) -> None:
    if isinstance(body, dict):
        body = {"error_rate": 0.25, **body}
    refused = await sandbox.control("config", body, expected=400)
    assert words in refused["error"]
    assert (await sandbox.control("config", {}))["error_rate"] == 0


async def test_all_wrong_settings_are_named_at_once(sandbox: Running) -> None:
    refused = await sandbox.control("config", {"down": 1, "error_rate": 7}, expected=400)
    assert "down must be" in refused["error"]
    assert "error_rate must be" in refused["error"]


async def test_paying_answers_with_the_session(sandbox: Running, client: stripe.StripeClient) -> None:
    session = await client.v1.checkout.sessions.create_async(sandbox.create_params())
    declined = await sandbox.pay(session.id, "4000-0000-0000-0002")
    assert (declined["object"], declined["status"]) == ("checkout.session", "open")
    paid = await sandbox.pay(session.id, "4000 0025 0000 3155", authentication="complete")
    assert paid["status"] == "complete"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"card": 4242}, 400),
        ({"card": "four"}, 400),
        ({"card": "4242 4242 4242 4242", "colour": "red"}, 400),
        ({"card": "4000 0000 0000 3220"}, 400),
        ({"card": "4000 0000 0000 3220", "authentication": "maybe"}, 400),
        ({"card": "4000 0000 0000 3220", "authentication": ["fail"]}, 400),
    ],
)
async def test_a_payment_that_makes_no_sense_is_refused(
    sandbox: Running, client: stripe.StripeClient, body: Any, status: int
) -> None:
    session = await client.v1.checkout.sessions.create_async(sandbox.create_params())
    refused = await sandbox.control(f"sessions/{session.id}/pay", body, expected=status)
    assert refused["error"]
    assert (await client.v1.checkout.sessions.retrieve_async(session.id)).to_dict() == session.to_dict()


async def test_control_calls_that_do_not_exist_are_refused(sandbox: Running) -> None:
    await sandbox.pay("cs_test_x", expected=404)
    await sandbox.control("nothing", expected=404)
    await sandbox.control("config", expected=405)
    await sandbox.control("ledger", {}, expected=405)
    async with sandbox.http.post(f"{sandbox.url}/_sandbox/config", data="{") as response:
        assert response.status == 400
    async with sandbox.http.post(f"{sandbox.url}/_sandbox/config", data=BytesIO(b"x" * (1 << 21))) as response:
        assert response.status == 413


async def test_the_ledger_has_every_session_oldest_first(sandbox: Running, client: stripe.StripeClient) -> None:
    made = [(await client.v1.checkout.sessions.create_async(sandbox.create_params())).id for _ in range(12)]
    assert [session["id"] for session in await sandbox.control("ledger")] == made


async def test_the_most_payable_sessions_of_a_booking_are_remembered(
    sandbox: Running, client: stripe.StripeClient
) -> None:
    async def open_for(**changes: Any) -> str:
        return (await client.v1.checkout.sessions.create_async(sandbox.create_params(**changes))).id

    async def figure() -> int:
        return int((await sandbox.control("stats"))["max_payable_per_booking"])

    assert await figure() == 0
    first = await open_for()
    await client.v1.checkout.sessions.expire_async(first)
    second = await open_for()
    await open_for(metadata={"bookingId": "8"}, client_reference_id="7")
    await sandbox.pay(second)
    assert await figure() == 1
    third = await open_for(metadata={})  # the reference says 7 as well
    assert await figure() == 2
    await client.v1.checkout.sessions.expire_async(third)
    assert await figure() == 2


async def test_stats_count_calls_errors_and_replays(sandbox: Running, client: stripe.StripeClient) -> None:
    params, options = sandbox.create_params(), {"idempotency_key": "k"}
    for _ in range(2):
        await client.v1.checkout.sessions.create_async(params, options)  # type: ignore[arg-type]
    with pytest.raises(stripe.InvalidRequestError):
        await client.v1.checkout.sessions.create_async({"mode": "gift"})
    stats = await sandbox.control("stats")
    assert stats["calls"]["checkout.sessions.create"] == {"calls": 3, "errors": 1, "rate_limited": 0, "replays": 1}
    assert stats["calls"]["events.list"] == {"calls": 0, "errors": 0, "rate_limited": 0, "replays": 0}
    assert stats["sessions"] == {"open": 1, "complete": 0, "expired": 0}


@pytest.mark.parametrize("body", [{}, {"advance_seconds": -1}, {"advance_seconds": "5"}, {"advance_seconds": True}])
async def test_the_clock_only_goes_forward(sandbox: Running, body: Any) -> None:
    await sandbox.control("clock", body, expected=400)


async def test_reset_goes_back_to_the_first_moment(sandbox: Running, client: stripe.StripeClient) -> None:
    session = await client.v1.checkout.sessions.create_async(sandbox.create_params())
    await sandbox.pay(session.id)
    await sandbox.control("config", {"down": True})
    ahead = (await sandbox.control("clock", {"advance_seconds": 5000}))["now"]
    now = (await sandbox.control("reset", {}))["now"]
    assert ahead - now >= 4990
    stats = await sandbox.control("stats")
    assert stats["calls"]["checkout.sessions.create"]["calls"] == 0
    assert (sum(stats["sessions"].values()), stats["max_payable_per_booking"]) == (0, 0)
    assert (await client.v1.events.list_async()).data == []
    assert await sandbox.control("ledger") == []
