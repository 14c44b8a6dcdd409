"""The bridge's pages: without its broker it is not ready, and what is done is counted exactly."""

import httpx

from bridge.app import Lifecycle, create_app
from bridge.requester import Requester
from tests.integration.bridge.conftest import BASE, IDENTITY
from tests.integration.bridge.peer import Answer, Command, Peer, fault, reply
from tests.integration.operators.conftest import counted, gauge, pages, scraped
from tests.integration.service.messages.rig import a_create, until
from tests.proxy import Mode, behind_proxy

CREATE, VERIFY, STATUS = f"{BASE}/checkout/create", f"{BASE}/checkout/verify", f"{BASE}/status"


async def test_what_is_done_is_counted_exactly_by_the_template_of_its_route(amqp_url: str) -> None:
    async def answer(command: Command) -> Answer:
        return fault("NOT_FOUND") if b"cs_test_unknown" in command.body else reply(command)

    async with (
        Peer(amqp_url) as peer,
        Requester(amqp_url=amqp_url, timeout_seconds=5, max_in_flight=10) as requester,
        pages(app := create_app(requester)) as client,
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://bridge", headers=IDENTITY) as caller,
    ):
        peer.handler = answer
        await until(lambda: requester.ready)
        before = await scraped(client)
        assert (await caller.post(CREATE, json=a_create())).status_code == 200
        for session in ("a1", "a2"):
            assert (await caller.get(f"{VERIFY}/cs_test_{session}")).status_code == 200
        assert (await caller.get(f"{STATUS}/cs_test_unknown")).status_code == 404
        assert (await caller.post(CREATE, json={})).status_code == 400
        assert (await caller.get("/one/nobody/knows")).status_code == 404
        for number in range(3):
            assert (await caller.request(f"WORD{number}", CREATE)).status_code == 405
        after = await scraped(client)
        found = await scraped(client)
    assert counted(before, after, "payment_bridge_http_requests_total") == {
        ("", "POST", CREATE, "200"): 1,
        ("", "GET", f"{VERIFY}/{{sessionId}}", "200"): 2,
        ("NOT_FOUND", "GET", f"{STATUS}/{{transactionId}}", "404"): 1,
        ("VALIDATION_ERROR", "POST", CREATE, "400"): 1,
        ("NOT_FOUND", "GET", "-", "404"): 1,
        ("METHOD_NOT_ALLOWED", "other", CREATE, "405"): 3,
    }
    durations = counted(before, after, "payment_bridge_http_request_duration_seconds_count")
    assert durations[("POST", CREATE)] == 2
    assert sum(durations.values()) == 9
    assert counted(before, after, "payment_bridge_calls_total") == {("answered",): 4}
    assert gauge(after, "payment_bridge_http_requests_in_flight") == 0
    assert gauge(after, "payment_bridge_calls_in_flight") == 0
    assert counted(after, found, "payment_bridge_http_requests_total") == {}, "probes are not what callers do"


async def test_two_applications_in_one_process_count_for_themselves(amqp_url: str) -> None:
    async with Requester(amqp_url=amqp_url, timeout_seconds=5, max_in_flight=10) as requester:
        one, other = create_app(requester, commit="90b07ff"), create_app(requester)
        async with pages(one) as client, pages(other) as second:
            await client.get("http://app/elsewhere")
            assert counted({}, await scraped(client), "payment_bridge_http_requests_total")
            assert not counted({}, await scraped(second), "payment_bridge_http_requests_total")
            info = (await client.get("info")).json()
            assert info == {
                "build": {"name": "payment-bridge", "version": "1.0.0"},
                "git": {"commit": {"id": "90b07ff"}},
            }


async def test_without_its_broker_it_lives_and_is_not_ready(amqp_url: str) -> None:
    async with (
        behind_proxy(amqp_url) as (proxy, url),
        Requester(amqp_url=url, timeout_seconds=5, max_in_flight=10) as requester,
        pages(create_app(requester)) as client,
    ):
        await until(lambda: requester.ready)
        up = {"status": "UP", "components": {"broker": {"status": "UP"}, "readinessState": {"status": "UP"}}}
        groups = {"groups": ["liveness", "readiness"]}
        assert (await client.get("health/readiness")).json() == up
        assert (await client.get("health")).json() == up | groups
        await proxy.set(Mode.DOWN)
        await until(lambda: not requester.ready, 30)
        ready, whole = await client.get("health/readiness"), await client.get("health")
        assert (ready.status_code, whole.status_code) == (503, 503)
        down = up | {"status": "DOWN", "components": up["components"] | {"broker": {"status": "DOWN"}}}  # type: ignore[operator]
        assert (ready.json(), whole.json()) == (down, down | groups)
        assert gauge(await scraped(client), "payment_bridge_broker_connected") == 0
        live = await client.get("health/liveness")
        assert (live.status_code, live.json()) == (200, {"status": "UP"})
        await proxy.set(Mode.NORMAL)
        await until(lambda: requester.ready, 30)
        assert (await client.get("health/readiness")).status_code == 200


async def test_while_it_leaves_it_is_out_of_service_and_lives(amqp_url: str) -> None:
    async with (
        Requester(amqp_url=amqp_url, timeout_seconds=5, max_in_flight=10) as requester,
        pages(create_app(requester, lifecycle=Lifecycle(stopping=True))) as client,
    ):
        ready = await client.get("health/readiness")
        assert (ready.status_code, ready.json()["status"]) == (503, "OUT_OF_SERVICE")
        assert (await client.get("health/liveness")).status_code == 200
