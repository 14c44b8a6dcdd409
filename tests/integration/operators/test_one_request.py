"""One request id links the bridge's line, the service's lines and the event, on real processes."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from contracts import envelope
from tests.integration.bridge.conftest import BASE, IDENTITY
from tests.integration.operators.conftest import counted, pages_at, scraped
from tests.integration.service.crash.programs import Program, Programs, starting
from tests.integration.service.messages.rig import Rig, a_create, until
from tools.devstack.processes import free_ports
from tools.devstack.stack_settings import CHECKOUT

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACE = f"00-{TRACE_ID}-{SPAN_ID}-01"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def programs(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Programs]:
    logs: Path = tmp_path_factory.mktemp("logs")
    async with starting(rig, logs=logs) as programs:
        yield programs


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(programs: Programs) -> Program:
    (port,) = free_ports(1)
    program = await programs.service(SERVICE_PORT=str(port), GIT_COMMIT="90b07ff")
    program.port = port
    return program


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bridge(programs: Programs) -> Program:
    return await programs.bridge()


async def lines_of(programs: Programs, request_id: str, *, count: int) -> list[Any]:
    """The lines that `grep` finds, in the order of time, as soon as there are `count`."""

    def found() -> list[Any]:
        lines = [line for program in programs.all for line in program.said if line.get("requestId") == request_id]
        return sorted(lines, key=lambda line: line["time"]) if len(lines) >= count else []

    return list(await until(found))


async def test_one_request_id_is_found_in_every_line_from_the_bridge_to_the_event(
    rig: Rig, programs: Programs, service: Program, bridge: Program
) -> None:
    assert service.port
    command = a_create()
    headers = IDENTITY | {"X-Request-ID": "one-request", "traceparent": TRACE}
    async with httpx.AsyncClient(base_url=bridge.url) as client:
        assert (await client.post(f"{BASE}/checkout/create", json=command, headers=headers)).status_code == 200
    [payment] = await rig.payments_of(command["bookingId"])
    [event] = await rig.told(payment["id"], events=1)
    assert event.headers == {envelope.REQUEST_ID: "one-request", envelope.TRACE_PARENT: TRACE}
    assert event.properties.correlation_id == "one-request"

    lines = await lines_of(programs, "one-request", count=4)
    assert {line["logger"]: line["message"] for line in lines} == {
        "bridge.access": f"POST {BASE}/checkout/create: OK",
        "service.application.outcome_writer": f"payment {payment['id']} is opened",
        "service.entrypoints.middleware": "checkout.create: done",
        "service.workers.relay": f"payment.pending of payment {payment['id']} is published",
    }
    for line in lines:
        assert (line["traceId"], line["spanId"]) == (TRACE_ID, SPAN_ID)
        assert line.get("bookingId", command["bookingId"]) == command["bookingId"]
        assert line.get("paymentId", payment["id"]) == payment["id"]
        assert not [name for name in line if "_" in name], line
    by_logger = {line["logger"].rpartition(".")[2]: line for line in lines}
    assert {name for name, line in by_logger.items() if "bookingId" in line} == {
        "access",
        "outcome_writer",
        "middleware",
    }
    assert {name for name, line in by_logger.items() if "paymentId" in line} == {
        "outcome_writer",
        "middleware",
        "relay",
    }
    assert by_logger["relay"]["eventId"] == event.properties.message_id


async def test_what_goes_wrong_deep_inside_is_told_with_the_request_that_was_worked_on(
    rig: Rig, programs: Programs, service: Program, bridge: Program
) -> None:
    assert service.port
    async with rig.stripe_with(down=True), httpx.AsyncClient(base_url=bridge.url, timeout=60) as client:
        headers = IDENTITY | {"X-Request-ID": "in-vain"}
        answer = await client.post(f"{BASE}/checkout/create", json=(command := a_create()), headers=headers)
    assert answer.status_code == 502
    lines = await lines_of(programs, "in-vain", count=3)
    [payment] = await rig.payments_of(command["bookingId"])
    assert {line["logger"] for line in lines} >= {
        "bridge.access",
        "service.adapters.stripe.calls",
        "service.entrypoints.middleware",
    }
    for line in lines:
        assert (line["bookingId"], line["paymentId"]) == (command["bookingId"], payment["id"])
    assert len({line["traceId"] for line in lines}) == 1, "nobody sent a trace, so the bridge began one"


async def test_both_processes_serve_every_page(rig: Rig, service: Program, bridge: Program) -> None:
    assert rig.service is None
    for program, name in ((service, "payment-service"), (bridge, "payment-bridge")):
        async with pages_at(f"{program.url}/actuator/") as client:
            for page in ("health", "health/liveness", "health/readiness"):
                answer = await client.get(page)
                assert (answer.status_code, answer.json()["status"]) == (200, "UP"), (name, page)
            assert (await client.get("info")).json()["build"] == {"name": name, "version": "1.0.0"}
            assert (await client.head("health")).content == b""
            samples = await scraped(client)
            built = {labels for sample, labels in samples if sample == f"{name.replace('-', '_')}_build_info"}
            assert built == {
                frozenset({"version": "1.0.0", "commit": "90b07ff" if name == "payment-service" else ""}.items())
            }
            assert ("process_resident_memory_bytes", frozenset()) in samples
    async with pages_at(f"{bridge.url}/actuator/") as client:
        counts = counted({}, await scraped(client), "payment_bridge_http_requests_total")
    assert counts == {
        ("", "POST", f"{BASE}/checkout/create", "200"): 1,
        ("GATEWAY_ERROR", "POST", f"{BASE}/checkout/create", "502"): 1,
    }


async def test_both_processes_have_an_index_and_the_services_port_takes_nothing(
    service: Program, bridge: Program
) -> None:
    for program, document in ((service, "asyncapi"), (bridge, "openapi")):
        async with httpx.AsyncClient(base_url=program.url) as client:
            links = (await client.get("/")).json()["_links"]
            assert (await client.get(links[document]["href"])).status_code == 200
            assert (
                (await client.get(links["actuator"]["href"])).json()["_links"]["health"]["href"].startswith(program.url)
            )
    async with httpx.AsyncClient(base_url=service.url) as client:
        refused = await client.post("/actuator/health", content=b"x" * 100_000)
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
        assert refused.headers["content-type"] == "application/problem+json"
        served = await client.get("/actuator/health/liveness", headers={"Connection": "Upgrade", "Upgrade": "h2c"})
        assert served.json() == {"status": "UP"}


async def test_the_page_for_operators_names_every_metric_with_its_type_and_labels(
    service: Program, bridge: Program
) -> None:
    exported: dict[str, tuple[str, set[str]]] = {}
    for program in (service, bridge):
        async with pages_at(f"{program.url}/actuator/") as client:
            page = (await client.get("prometheus")).text
        for family in text_string_to_metric_families(page):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            exported[name] = (family.type, labels)
    rows = re.findall(
        r"^\| `(payment_\w+)` \| (\w+) \|([^|]*)\|", (CHECKOUT / "docs/operating.md").read_text(), re.MULTILINE
    )
    documented = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert len(documented) == len(rows) > 20
    assert documented == {name: kind for name, kind in exported.items() if name.startswith("payment_")}
