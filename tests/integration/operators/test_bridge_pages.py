"""The bridge's pages: what is done is counted exactly."""

from tests.integration.bridge.conftest import BASE, client_of
from tests.integration.bridge.peer import Answer, Command, Peer, fault, reply
from tests.integration.operators.conftest import counted, gauge, pages, scraped
from tests.integration.service.messages.rig import a_create, until
from tests.kit.bridge import an_app, an_rpc_client

CREATE, VERIFY, STATUS = f"{BASE}/checkout/create", f"{BASE}/checkout/verify", f"{BASE}/status"


async def test_what_is_done_is_counted_exactly_by_the_template_of_its_route(amqp_url: str) -> None:
    async def answer(command: Command) -> Answer:
        return fault("NOT_FOUND") if b"cs_test_unknown" in command.body else reply(command)

    async with (
        Peer(amqp_url) as peer,
        an_rpc_client(amqp_url) as rpc_client,
        pages(app := an_app(rpc_client)) as client,
        client_of(app) as caller,
    ):
        peer.handler = answer
        await until(lambda: rpc_client.ready)
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
    assert gauge(after, "payment_bridge_broker_connected") == 1
    assert counted(after, found, "payment_bridge_http_requests_total") == {}, "probes are not what callers do"


async def test_the_indexes_lead_to_every_page_and_document() -> None:
    async with pages(an_app(an_rpc_client("amqp://nobody"))) as client:
        root, actuator = (
            (await client.get("http://bridge/")).json(),
            (await client.get("http://bridge/actuator")).json(),
        )
        documents = {"actuator": "/actuator", "openapi": "/v3/api-docs", "openapi-page": "/docs"}
        own = {name: f"/actuator/{name}" for name in ("health", "info", "prometheus")}
        for index, path, wanted in ((root, "/", own | documents), (actuator, "/actuator", own)):
            links = {name: link["href"] for name, link in index["_links"].items()}
            assert links.pop("health-path") == "http://bridge/actuator/health/{*path}"
            assert links == {name: f"http://bridge{each}" for name, each in wanted.items()} | {
                "self": f"http://bridge{path}"
            }
            for href in links.values():
                assert (await client.get(href)).status_code in {200, 503}


async def test_two_applications_in_one_process_count_for_themselves() -> None:
    one, other = an_app(an_rpc_client("amqp://nobody"), commit="90b07ff"), an_app(an_rpc_client("amqp://nobody"))
    async with pages(one) as client, pages(other) as second:
        await client.get("http://app/elsewhere")
        assert counted({}, await scraped(client), "payment_bridge_http_requests_total")
        found = await scraped(second)
        assert not counted({}, found, "payment_bridge_http_requests_total")
        assert gauge(found, "payment_bridge_broker_connected") == 0
        build = {"name": "payment-bridge", "version": "1.0.0"}
        assert (await client.get("info")).json() == {"build": build, "git": {"commit": {"id": "90b07ff"}}}
