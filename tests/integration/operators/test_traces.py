"""One purchase is one trace: the spans of real processes, as a collector gets them over OTLP/HTTP."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest_asyncio
import uvicorn
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from contracts import envelope
from tests.integration.bridge.conftest import BASE, IDENTITY
from tests.integration.operators.test_one_request import SPAN_ID, TRACE, TRACE_ID
from tests.integration.service.crash.programs import Program, Programs, starting
from tests.integration.service.messages.rig import Rig, a_create, until
from tests.kit.web import listening
from tools.devstack.processes import free_ports

OTHER = TRACE.replace(TRACE_ID, "1" * 32)


@dataclass(frozen=True, kw_only=True)
class Told:
    """A span, and the process that told it."""

    process: str
    span: Span

    @property
    def id(self) -> str:
        return self.span.span_id.hex()

    @property
    def parent(self) -> str:
        return self.span.parent_span_id.hex()

    @property
    def attributes(self) -> dict[str, Any]:
        return {each.key: each.value.string_value or each.value.int_value for each in self.span.attributes}


@dataclass(kw_only=True)
class Collector:
    """Takes spans as an OpenTelemetry collector does."""

    endpoint: str = ""
    told: list[Told] = field(default_factory=list)

    async def take(self, request: Request) -> Response:
        body = await request.body()
        if request.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        for each in ExportTraceServiceRequest.FromString(body).resource_spans:
            named = {one.key: one.value.string_value for one in each.resource.attributes}
            spans = [span for scope in each.scope_spans for span in scope.spans]
            self.told += [Told(process=named["service.name"], span=span) for span in spans]
        return Response(media_type="application/x-protobuf")

    def of(self, trace_id: str) -> list[Told]:
        return [each for each in self.told if each.span.trace_id.hex() == trace_id]

    async def named(self, name: str, trace_id: str) -> Told:
        def found() -> Told | None:
            return next((each for each in self.of(trace_id) if each.span.name == name), None)

        told: Told = await until(found)
        return told


@pytest_asyncio.fixture(loop_scope="module")
async def collector() -> AsyncIterator[Collector]:
    found = Collector()
    app = Starlette(routes=[Route("/v1/traces", found.take, methods=["POST"])])
    config = uvicorn.Config(app, lifespan="off", log_config=None, ws="none", port=0)
    async with listening(config) as port:
        found.endpoint = f"http://127.0.0.1:{port}"
        yield found


@asynccontextmanager
async def traced(rig: Rig, logs: Path, endpoint: str, **changes: str) -> AsyncIterator[tuple[Programs, Program]]:
    """Service and bridge that tell spans there, quickly."""
    otel = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    async with starting(rig, logs=logs) as programs:
        await programs.service(**otel, **changes)
        yield programs, await programs.bridge(**otel)


async def created(client: httpx.AsyncClient, trace_parent: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What was sent and what was answered."""
    command = a_create()
    answer = await client.post(
        f"{BASE}/checkout/create", json=command, headers=IDENTITY | {"traceparent": trace_parent}
    )
    assert answer.status_code == 200, answer.text
    return command, answer.json()


async def test_a_purchase_is_one_trace_from_the_caller_to_the_event(
    rig: Rig, collector: Collector, tmp_path: Path
) -> None:
    # Nothing but the verify learns that it is paid.
    async with (
        traced(rig, tmp_path, collector.endpoint, FEED_INTERVAL_SECONDS="60") as (programs, bridge),
        httpx.AsyncClient(base_url=bridge.url) as client,
    ):
        command, answer = await created(client, TRACE)
        await rig.sandbox.pay(answer["sessionId"])
        verify = f"{BASE}/checkout/verify/{answer['sessionId']}"

        async def is_known() -> bool:
            state = await client.get(verify, headers=IDENTITY | {"traceparent": TRACE})
            return state.json()["paymentStatus"] == "COMPLETED"

        await until(is_known)
        [payment] = await rig.payments_of(command["bookingId"])
        events = await rig.told(payment["id"], events=2)
        for program in programs.all:
            await program.stopped()

    assert {each.process for each in collector.of(TRACE_ID)} == {"payment-bridge", "payment-service"}
    create = await chain(collector, "checkout.create", f"POST {BASE}/checkout/create")
    stripe = await collector.named("stripe create", TRACE_ID)
    assert (stripe.parent, stripe.span.kind) == (create.id, Span.SPAN_KIND_CLIENT)
    assert stripe.attributes["http.response.status_code"] == 200
    assert stripe.attributes["stripe.request_id"].startswith("req_")
    databases = [each for each in collector.of(TRACE_ID) if each.span.name.startswith("postgresql")]
    assert create.id in {each.parent for each in databases}
    assert not [each for each in databases if str(command["bookingId"]) in str(each.span)], "values are not told"
    for event in events:
        sent = await collector.named(f"send {event.routing_key}", TRACE_ID)
        assert event.headers[envelope.TRACE_PARENT].startswith(f"00-{TRACE_ID}-{sent.id}-")
        assert sent.span.kind == Span.SPAN_KIND_PRODUCER
    pending = await collector.named("send payment.pending", TRACE_ID)
    assert pending.parent == create.id
    ids = {each.id for each in collector.of(TRACE_ID)} | {SPAN_ID}
    assert not [each for each in collector.of(TRACE_ID) if each.parent not in ids], "none hangs in the air"
    assert not [each for each in collector.told if each.span.name.startswith("postgresql") and not each.parent]


async def chain(collector: Collector, command: str, name: str, *, trace_id: str = TRACE_ID) -> Told:
    """The service's span of a command, after a look at what is above it."""
    server = await collector.named(name, trace_id)
    sent = await collector.named(f"send {command}", trace_id)
    handled = await collector.named(f"process {command}", trace_id)
    assert [each.parent for each in (server, sent, handled)] == [SPAN_ID, server.id, sent.id]
    kinds = [Span.SPAN_KIND_SERVER, Span.SPAN_KIND_PRODUCER, Span.SPAN_KIND_CONSUMER]
    assert [each.span.kind for each in (server, sent, handled)] == kinds
    return handled


async def test_what_nobody_asked_for_is_linked_and_a_deferred_reply_stays_in_its_callers_trace(
    rig: Rig, collector: Collector, tmp_path: Path
) -> None:
    async with (
        traced(rig, tmp_path, collector.endpoint, FEED_INTERVAL_SECONDS="0.5") as (_, bridge),
        httpx.AsyncClient(base_url=bridge.url, timeout=60) as client,
    ):
        command, answer = await created(client, TRACE)
        waits: Mapping[str, str] = IDENTITY | {"traceparent": OTHER, "Prefer": "wait=30"}
        request = client.build_request("GET", f"{BASE}/checkout/verify/{answer['sessionId']}", headers=waits)
        async with pending(client, request) as reply:
            await collector.named("process checkout.verify", "1" * 32)  # by now the reply is deferred
            await rig.sandbox.pay(answer["sessionId"])
            assert (await reply()).json()["paymentStatus"] == "COMPLETED"
        handled = await collector.named("process checkout.verify", "1" * 32)
        assert handled.attributes["payment.disposition"] == "deferred"
        deferred = await collector.named("send checkout.verify.reply", "1" * 32)
        assert (deferred.parent, deferred.attributes["payment.long_poll"]) == (handled.id, "final")

        [payment] = await rig.payments_of(command["bookingId"])
        await rig.told(payment["id"], events=2)

        def of_feed() -> Told | None:
            found = [each for each in collector.told if each.span.name == "feed"]
            return next((each for each in found if each.attributes["payment.payment_id"] == payment["id"]), None)

        feed: Told = await until(of_feed)
    assert feed.span.trace_id.hex() not in {TRACE_ID, "1" * 32}
    assert [link.trace_id.hex() for link in feed.span.links] == [TRACE_ID]
    sent = await collector.named("send payment.completed", feed.span.trace_id.hex())
    assert sent.parent == feed.id


@asynccontextmanager
async def pending(client: httpx.AsyncClient, request: httpx.Request) -> AsyncIterator[Any]:
    task = asyncio.create_task(client.send(request))

    async def reply() -> httpx.Response:
        return await task

    try:
        yield reply
    finally:
        task.cancel()


async def test_what_fails_says_so_without_what_was_sent(rig: Rig, collector: Collector, tmp_path: Path) -> None:
    async with (
        traced(rig, tmp_path, collector.endpoint) as (_, bridge),
        rig.stripe_with(down=True),
        httpx.AsyncClient(base_url=bridge.url, timeout=60) as client,
    ):
        answer = await client.post(
            f"{BASE}/checkout/create", json=a_create(), headers=IDENTITY | {"traceparent": TRACE}
        )
        assert answer.status_code == 502
        server = await collector.named(f"POST {BASE}/checkout/create", TRACE_ID)
        stripe = await collector.named("stripe create", TRACE_ID)
    assert (server.span.status.code, server.attributes["error.type"]) == (Status.STATUS_CODE_ERROR, "502")
    assert stripe.span.status.code == Status.STATUS_CODE_ERROR
    assert stripe.span.status.message == ""


async def test_a_sampler_chooses_and_who_is_left_out_is_left_out_everywhere(
    rig: Rig, collector: Collector, tmp_path: Path
) -> None:
    unsampled = TRACE.removesuffix("01") + "00"
    async with (
        traced(rig, tmp_path, collector.endpoint) as (programs, bridge),
        httpx.AsyncClient(base_url=bridge.url) as client,
    ):
        command, _ = await created(client, unsampled)
        [payment] = await rig.payments_of(command["bookingId"])
        [event] = await rig.told(payment["id"], events=1)
        await created(client, OTHER)
        for program in programs.all:
            await program.stopped()
    assert collector.of("1" * 32)
    assert collector.of(TRACE_ID) == []
    version, trace_id, _, flags = event.headers[envelope.TRACE_PARENT].split("-")
    assert (version, trace_id, flags) == ("00", TRACE_ID, "00")


async def test_a_collector_that_is_away_is_told_of_once_and_keeps_nobody(rig: Rig, tmp_path: Path) -> None:
    (closed,) = free_ports(1)
    async with (
        traced(rig, tmp_path, f"http://127.0.0.1:{closed}", OTEL_EXPORTER_OTLP_TIMEOUT="1") as (programs, bridge),
        httpx.AsyncClient(base_url=bridge.url) as client,
    ):
        service = programs.all[0]

        def complaints() -> list[Any]:
            return [line for line in service.said if "takes no spans" in line["message"]]

        await created(client, TRACE)
        await until(complaints)
        await created(client, TRACE)
        for program in programs.all:
            await program.stopped()
        assert len(complaints()) == 1
        assert not [line for line in service.said if line["logger"].startswith("opentelemetry")]
