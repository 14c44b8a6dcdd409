"""What callers get: the three endpoints, and the table of bad input (each row: exact answer, no echo, nothing sent)."""

import json
import logging
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from bridge.requester import Requester
from contracts import envelope
from tests.integration.bridge.conftest import BASE, IDENTITY
from tests.integration.bridge.peer import Answer, Command, Peer, fault, reply

GOOD = {"bookingId": 4711, "userId": 42, "amount": 540.9, "successUrl": None, "cancelUrl": None}
CANARY = "CaNaRy4242"
JSON = {"Content-Type": "application/json"}
CREATE = f"{BASE}/checkout/create"
VERIFY = f"{BASE}/checkout/verify"
STATUS = f"{BASE}/status"


def without(**members: Any) -> bytes:
    return json.dumps(GOOD | members).encode()


# --- good requests ----------------------------------------------------------------------------------------------------


async def test_create_forwards_the_bytes_and_answers_the_session(client: httpx.AsyncClient, peer: Peer) -> None:
    content = b'{"bookingId":4711,"userId":42.0,"amount":449.97000000000003,"successUrl":null,"cancelUrl":null}'
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = JSON | {"X-Request-ID": "r-1", "traceparent": trace, "Idempotency-Key": "key 1"}
    answer = await client.post(CREATE, content=content, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"] == "r-1"
    assert answer.json() == {
        "sessionId": "cs_test_a1",
        "paymentUrl": "https://checkout.stripe.com/c/pay/cs_test_a1",
        "bookingId": 4711,
        "amount": 540.9,
        "status": "pending",
        "message": "Checkout session created.",
        "expiresAt": 1767225600,
    }
    [command] = peer.commands
    assert command.type == "checkout.create"
    assert command.body == content
    assert command.headers == {
        envelope.CALLER: "7",
        envelope.REQUEST_ID: "r-1",
        envelope.TRACE_PARENT: trace,
        envelope.IDEMPOTENCY_KEY: "key 1",
    }


@pytest.mark.parametrize("amount", ["540.9000000000001", "299.96999999999997", "1.23456789E7", "19.999999999999999"])
async def test_an_amount_as_java_prints_it_is_accepted(client: httpx.AsyncClient, peer: Peer, amount: str) -> None:
    content = f'{{"bookingId":1,"userId":2,"amount":{amount},"successUrl":null,"cancelUrl":null}}'
    assert (await client.post(CREATE, content=content, headers=JSON)).status_code == 200
    assert peer.commands[0].body == content.encode()


async def test_a_decimal_string_and_a_charset_are_accepted(client: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/json; charset=UTF-8", "Accept": "text/html"}
    answer = await client.post(CREATE, content=without(amount="10"), headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")


@pytest.mark.parametrize(("path", "member"), [(VERIFY, "sessionId"), (STATUS, "transactionId")])
async def test_reading_answers_the_payment(client: httpx.AsyncClient, peer: Peer, path: str, member: str) -> None:
    answer = await client.get(f"{path}/cs_test_a1")
    assert answer.json() == {
        "paymentId": 1001,
        "bookingId": 4711,
        "paymentStatus": "COMPLETED",
        "transactionId": "cs_test_a1",
        "amount": 540.9,
        "message": "The payment is complete.",
    }
    assert "retry-after" not in answer.headers
    assert answer.headers["x-request-id"].startswith("generated-")
    assert peer.commands[0].document == {member: "cs_test_a1"}
    headers = peer.commands[0].headers
    assert envelope.is_trace_parent(headers.pop(envelope.TRACE_PARENT))
    assert headers == {envelope.CALLER: "7", envelope.REQUEST_ID: answer.headers["x-request-id"]}


@pytest.mark.parametrize("path", [VERIFY, STATUS])
async def test_a_pending_answer_says_when_to_ask_again(client: httpx.AsyncClient, peer: Peer, path: str) -> None:
    async def pending(command: Command) -> Answer:
        return reply(command, paymentStatus="PENDING")

    peer.handler = pending
    assert (await client.get(f"{path}/cs_test_a1")).headers["retry-after"] == "2"


@pytest.mark.parametrize("source", ["gateway", "local"])
async def test_verify_says_where_its_answer_comes_from(client: httpx.AsyncClient, peer: Peer, source: str) -> None:
    async def answer(command: Command) -> Answer:
        return reply(command, source=source)

    peer.handler = answer
    assert (await client.get(f"{VERIFY}/cs_test_a1")).headers["x-payment-status-source"] == source


@pytest.mark.parametrize("given", ["", "two words", "é", "x" * 129])
async def test_a_request_id_that_is_not_acceptable_is_replaced(client: httpx.AsyncClient, given: str) -> None:
    answer = await client.get(f"{STATUS}/cs_test_a1", headers=[(b"X-Request-ID", given.encode("latin-1"))])
    assert answer.headers["x-request-id"].startswith("generated-")


@pytest.mark.parametrize("given", ["", "00-xyz", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\t, x"])
async def test_a_traceparent_that_is_none_is_replaced_by_a_trace_that_begins_here(
    client: httpx.AsyncClient, peer: Peer, given: str
) -> None:
    for _ in range(2):
        assert (await client.get(f"{STATUS}/cs_test_a1", headers={"traceparent": given})).status_code == 200
    first, second = (command.headers[envelope.TRACE_PARENT] for command in peer.commands)
    assert envelope.is_trace_parent(first)
    assert given not in {first, second}
    assert first != second


async def test_head_is_get_without_a_body(client: httpx.AsyncClient) -> None:
    assert (await client.head(f"{STATUS}/cs_test_a1")).status_code == 200
    assert (await client.head("/actuator/health/liveness")).status_code == 200


# --- what the service refuses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "status", "members", "retry_after"),
    [
        ("VALIDATION_ERROR", 400, {}, None),
        ("FAILED", 400, {}, None),
        ("NOT_FOUND", 404, {}, None),
        ("ALREADY_PAID", 409, {"paymentId": 9, "bookingId": 7, "transactionId": "cs_test_b", "amount": 1.5}, None),
        ("IN_PROGRESS", 409, {"retryable": True, "retryAfterSeconds": 1}, "1"),
        ("IDEMPOTENCY_KEY_REUSED", 422, {}, None),
        ("GATEWAY_ERROR", 502, {"retryable": True}, None),
        ("SERVICE_UNAVAILABLE", 503, {"retryable": True}, "1"),
        ("SERVICE_UNAVAILABLE", 503, {"retryable": True, "retryAfterSeconds": 4}, "4"),
        ("DEADLINE_EXCEEDED", 504, {"retryable": True}, None),
        ("INTERNAL_ERROR", 500, {}, None),
    ],
)
async def test_a_fault_becomes_a_problem(
    *, client: httpx.AsyncClient, peer: Peer, code: str, status: int, members: dict[str, Any], retry_after: str | None
) -> None:
    async def refuse(_: Command) -> Answer:
        return fault(code, **members)

    peer.handler = refuse
    answer = await client.post(CREATE, content=without(), headers=JSON)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.headers.get("retry-after") == retry_after
    problem = answer.json()
    assert problem["paymentStatus"] == code
    assert problem["message"] == problem["detail"] == "It did not work."
    assert problem["retryable"] is members.get("retryable", False)
    assert problem["requestId"] == answer.headers["x-request-id"]
    known = {name: problem[name] for name in ("paymentId", "bookingId", "transactionId", "amount")}
    assert known == {name: members.get(name) for name in known}


@pytest.mark.parametrize("content", [b"", b"{}", b"null", b"\xff", b'{"paymentId":"' + CANARY.encode() + b'"}'])
async def test_a_reply_that_cannot_be_understood_is_a_bad_gateway(
    client: httpx.AsyncClient, peer: Peer, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def babble(command: Command) -> Answer:
        return Answer(body=content, type=envelope.reply_type(command.type))

    peer.handler = babble
    with caplog.at_level(logging.ERROR, logger="bridge"):
        answer = await client.get(f"{VERIFY}/cs_test_a1")
    assert (answer.status_code, answer.json()["paymentStatus"]) == (502, "BAD_REPLY")
    assert CANARY not in answer.text + caplog.text
    assert "A reply is not a PaymentState" in caplog.text


async def test_a_bug_is_a_500_that_tells_nothing(
    requester: Requester, app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    del requester.counters  # breaks the code from inside
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://bridge", headers=IDENTITY) as client:
        answer = await client.get(f"{STATUS}/cs_test_a1")
    assert (answer.status_code, answer.json()["paymentStatus"]) == (500, "INTERNAL_ERROR")
    assert "counters" not in answer.text
    assert "A bug: AttributeError" in caplog.text


# --- bad input (the matrix's rows B1 to B14) --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Bad:
    """A request that must be refused."""

    name: str
    method: str = "POST"
    path: str = CREATE
    content: bytes | None = None
    headers: dict[str, str] | list[tuple[str, str]] = field(default_factory=dict)
    status: int = 400
    code: str = "VALIDATION_ERROR"
    names: str = ""
    """What the message must name."""


def body(name: str, content: bytes, names: str = "", **changes: Any) -> Bad:
    return Bad(name=name, content=content, names=names, **({"headers": JSON} | changes))


def raw(member: str, text: str) -> bytes:
    members = {"bookingId": "1", "userId": "2", "amount": "3"} | {member: text}
    return ("{" + ",".join(f'"{name}":{value}' for name, value in members.items()) + "}").encode()


def path(name: str, address: str, **changes: Any) -> Bad:
    return Bad(name=name, method="GET", path=address, **changes)


def key(name: str, value: str) -> Bad:
    return body(name, without(), "Idempotency-Key", headers=JSON | {"Idempotency-Key": value})


TWICE = [("Content-Type", "application/json")]
ROWS = [
    body("B1 not JSON", CANARY.encode(), "JSON"),
    body("B1 empty", b"", "JSON"),
    body("B1 invalid UTF-8", b'{"bookingId":1,"userId":2,"amount":3,"currency":"\xff"}', "JSON"),
    body("B1 UTF-16", json.dumps(GOOD).encode("utf-16"), "JSON"),
    body("B1 deep nesting", b"[" * 8000 + b"]" * 8000),
    body("B1 a list", b"[]", "object"),
    body("B1 null", b"null", "object"),
    body("B1 text", without(), headers={"Content-Type": "text/plain"}, status=415, code="UNSUPPORTED_MEDIA_TYPE"),
    body("B1 no content type", without(), headers={}, status=415, code="UNSUPPORTED_MEDIA_TYPE"),
    body(
        "B1 a form",
        b"a=b",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
        status=415,
        code="UNSUPPORTED_MEDIA_TYPE",
    ),
    *(body(f"B2 {text}", raw("amount", text)) for text in ("NaN", "Infinity", "-Infinity", "1e400")),
    *(
        body(f"B3 amount {text}", raw("amount", text), "amount")
        for text in ("0", "-1", "-0.01", "1e13", '"-5"', '"1e3"')
    ),
    *(
        body(f"B5 amount {text}", raw("amount", text), "amount")
        for text in ("true", "[10]", "{}", '""', '"ten"', "null")
    ),
    *(
        body(f"B6 {member} {text}", raw(member, text), member)
        for member in ("bookingId", "userId")
        for text in ("0", "-1", "9223372036854775808", '"7"', "1.5", "true", "null", "[]", "1e19")
    ),
    body("B7 NUL", raw("currency", '"\\u0000\\u0000\\u0000"'), "currency"),
    body("B7 lone surrogate", raw("successUrl", '"\\ud800"'), "successUrl"),
    body("B7 right to left", raw("successUrl", '"https://\\u202e"'), "successUrl"),
    body("B7 10 kB", raw("currency", f'"{CANARY * 1000}"'), "currency"),
    *(body(f"B8 {name}", without(**{name: CANARY}), name) for name in ("status", "paid", "succesUrl")),
    body("B8 missing", b'{"bookingId":1,"amount":3}', "userId"),
    body("B8 a name with a line break", raw("a\\nb", "1")),
    body("B9 a member twice", b'{"bookingId":1,"bookingId":1,"userId":2,"amount":3}', "more than once"),
    body("B10 body over 16 KiB", without(successUrl="x" * 16384), status=413, code="PAYLOAD_TOO_LARGE"),
    path(
        "B10 headers over 8 KiB",
        f"{STATUS}/cs_test_a",
        headers={"X-Much": CANARY * 900},
        status=431,
        code="HEADERS_TOO_LARGE",
    ),
    body("B11 a URL over 2 kB", without(cancelUrl="https://x/" + "y" * 2048), "cancelUrl"),
    body("B11 a URL with an accent", without(successUrl="https://bücher.example/"), "successUrl"),
    *(
        path(f"B12 {address}", f"{route}/{address}")
        for route in (VERIFY, STATUS)
        for address in (
            "..%2fstatus%2fcs_test_a",
            "cs_test_" + "a" * 1024,
            "pi_123",
            "cs_test_",
            "cs_other_a",
            "cs_test_%00",
            "cs_test_a%0a",
            "cs_test_a%0d%0aX:1",
            "cs_test_%ff",
            "cs_test_a/",
            "cs_test_a%2F",
            "cs_test_é",
            "%2e%2e",
            "cs_test_a;x",
            "cs_test_a%3Fx",
        )
    ),
    key("B13 300 characters", "k" * 300),
    key("B13 empty", ""),
    body("B13 not ASCII", without(), "Idempotency-Key", headers=[*TWICE, ("Idempotency-Key", "\u00e9")]),
    body(
        "B13 twice", without(), "Idempotency-Key", headers=[*TWICE, ("Idempotency-Key", "a"), ("Idempotency-Key", "a")]
    ),
    Bad(
        name="B14 user id twice",
        method="GET",
        path=f"{STATUS}/cs_test_a",
        headers=[("X-User-Id", "7")],
        names="X-User-Id",
    ),
    Bad(
        name="B14 roles twice",
        method="GET",
        path=f"{STATUS}/cs_test_a",
        headers=[("X-User-Roles", "USER")],
        names="X-User-Roles",
    ),
    *(
        Bad(name=f"B14 {method} create", method=method, status=405, code="METHOD_NOT_ALLOWED")
        for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS")
    ),
    *(
        Bad(
            name=f"B14 {method} status",
            method=method,
            path=f"{STATUS}/cs_test_a",
            status=405,
            code="METHOD_NOT_ALLOWED",
        )
        for method in ("POST", "PUT", "DELETE", "PATCH")
    ),
    *(
        path(f"B14 unknown {address}", address, status=404, code="NOT_FOUND")
        for address in (
            "/",
            f"/{CANARY}",
            BASE,
            f"{CREATE}/",
            f"{CREATE}/x",
            "/docs/",
            "/openapi.json",
            "/redoc",
            f"/{CANARY}/..%2f..%2fetc",
        )
    ),
]


@pytest.mark.parametrize("bad", ROWS, ids=lambda bad: bad.name[:40])
async def test_bad_input_is_refused_without_an_echo_and_without_a_message(
    client: httpx.AsyncClient, peer: Peer, requester: Requester, bad: Bad
) -> None:
    pairs = list(bad.headers.items()) if isinstance(bad.headers, dict) else bad.headers
    headers = [*IDENTITY.items(), *pairs]
    client.headers = httpx.Headers()
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    answer = await client.request(bad.method, bad.path, content=bad.content, headers=encoded)
    assert (answer.status_code, answer.headers["content-type"]) == (bad.status, "application/problem+json")
    problem = answer.json()
    assert (problem["paymentStatus"], problem["status"]) == (bad.code, bad.status)
    assert bad.names in problem["message"]
    assert problem["requestId"] == answer.headers["x-request-id"]
    assert CANARY not in answer.text
    assert not any(character in problem["message"] for character in "\r\n\0")
    assert problem["retryable"] is False
    assert (peer.commands, requester.counters.answered) == ([], 0)


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "UNAUTHORIZED"),
        ({"X-User-Id": "7"}, 401, "UNAUTHORIZED"),
        ({"X-User-Roles": "SERVICE_ACCOUNT"}, 401, "UNAUTHORIZED"),
        ({"X-User-Id": CANARY, "X-User-Roles": "SERVICE_ACCOUNT"}, 401, "UNAUTHORIZED"),
        ({"X-User-Id": "7", "X-User-Roles": f"USER,{CANARY}"}, 403, "FORBIDDEN"),
    ],
)
@pytest.mark.parametrize(("method", "address"), [("POST", CREATE), ("GET", f"{VERIFY}/x"), ("GET", f"{STATUS}/x")])
async def test_who_may_not_call_is_told_so_first(
    *, client: httpx.AsyncClient, peer: Peer, method: str, address: str, headers: dict[str, str], status: int, code: str
) -> None:
    client.headers = httpx.Headers(headers)
    answer = await client.request(method, address, content=b"{")
    assert (answer.status_code, answer.json()["paymentStatus"]) == (status, code)
    assert CANARY not in answer.text
    assert peer.commands == []


async def test_what_is_allowed_is_said(client: httpx.AsyncClient) -> None:
    assert (await client.get(CREATE)).headers["allow"] == "POST"
    assert (await client.post(f"{STATUS}/cs_test_a")).headers["allow"] == "GET, HEAD"


# --- health, logs, document -------------------------------------------------------------------------------------------


async def test_a_request_leaves_one_line_that_holds_nothing_of_its_content(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="bridge"):
        await client.get(f"{VERIFY}/cs_test_{CANARY}", headers={"X-Request-ID": "r-9"})
        await client.get(f"/{CANARY}")
        await client.get("/actuator/health/liveness")
    lines = [record for record in caplog.records if record.name == "bridge.access"]
    fields = [{name: line.__dict__[name] for name in ("method", "route", "status", "code")} for line in lines]
    assert fields == [
        {"method": "GET", "route": f"{VERIFY}/{{sessionId}}", "status": 200, "code": None},
        {"method": "GET", "route": "-", "status": 404, "code": "NOT_FOUND"},
    ]
    assert lines[0].__dict__["request_id"] == "r-9"
    assert lines[0].__dict__["duration_ms"] > 0
    assert CANARY not in caplog.text


async def test_the_document_names_every_operation_status_and_header(client: httpx.AsyncClient) -> None:
    document = (await client.get("/v3/api-docs")).json()
    operations = {
        operation["operationId"]: operation for path in document["paths"].values() for operation in path.values()
    }
    assert set(operations) == {"createCheckoutSession", "verifyCheckoutSession", "getPaymentStatus"}
    assert set(document["paths"]) == {CREATE, f"{VERIFY}/{{sessionId}}", f"{STATUS}/{{transactionId}}"}
    statuses = {"200", "400", "401", "403", "429", "431", "500", "502", "503", "504"}
    assert set(operations["getPaymentStatus"]["responses"]) == statuses | {"404"}
    assert set(operations["verifyCheckoutSession"]["responses"]) == statuses | {"404", "409"}
    assert set(operations["createCheckoutSession"]["responses"]) == statuses | {"408", "409", "413", "415", "422"}
    problem = operations["getPaymentStatus"]["responses"]["503"]
    [(media_type, content)] = problem["content"].items()
    assert (media_type, content["schema"]) == ("application/problem+json", {"$ref": "#/components/schemas/Problem"})
    assert content["examples"]["SERVICE_UNAVAILABLE"]["value"]["retryable"] is True
    assert set(problem["headers"]) == {"X-Request-ID", "Retry-After"}
    assert "WWW-Authenticate" in operations["getPaymentStatus"]["responses"]["401"]["headers"]
    source = operations["verifyCheckoutSession"]["responses"]["200"]["headers"]
    assert set(source) == {"X-Request-ID", "Retry-After", "X-Payment-Status-Source", "Preference-Applied"}
    parameters = {parameter["name"] for parameter in operations["createCheckoutSession"]["parameters"]}
    assert parameters == {"X-Request-ID", "traceparent", "Idempotency-Key"}
    schema = operations["createCheckoutSession"]["requestBody"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/CreateCheckout"}
    request = document["components"]["schemas"]["CreateCheckout"]
    assert request["additionalProperties"] is False
    assert request["properties"]["bookingId"]["maximum"] == 2**63 - 1


async def test_the_document_says_who_may_call(client: httpx.AsyncClient) -> None:
    document = (await client.get("/v3/api-docs")).json()
    schemes = document["components"]["securitySchemes"]
    headers = {name: scheme["name"] for name, scheme in schemes.items() if scheme["type"] == "apiKey"}
    assert headers == {"platformUserId": "X-User-Id", "platformUserRoles": "X-User-Roles"}
    assert (schemes["serviceToken"]["scheme"], schemes["serviceToken"]["bearerFormat"]) == ("bearer", "JWT")
    scopes = {
        operation["operationId"]: operation["security"]
        for path in document["paths"].values()
        for operation in path.values()
    }
    platform: dict[str, list[str]] = {name: [] for name in headers}
    assert scopes == {
        "createCheckoutSession": [platform, {"serviceToken": ["payments:create"]}],
        "verifyCheckoutSession": [platform, {"serviceToken": ["payments:read"]}],
        "getPaymentStatus": [platform, {"serviceToken": ["payments:read"]}],
    }
