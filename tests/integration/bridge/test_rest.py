"""What callers get: the three endpoints, and the table of bad input (each row: exact answer, no echo, nothing sent)."""

import json
import logging
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest

from bridge.rpc_client import RpcClient
from contracts import envelope
from tests.integration.bridge.conftest import BASE, IDENTITY
from tests.integration.bridge.peer import Answer, Command, Peer, reply
from tests.kit.bridge import calls

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
    [command] = peer.commands
    assert answer.content == reply(command).body
    assert command.type == "checkout.create"
    assert command.body == content
    assert command.headers == {
        envelope.CALLER: "7",
        envelope.REQUEST_ID: "r-1",
        envelope.TRACE_PARENT: trace,
        envelope.IDEMPOTENCY_KEY: "key 1",
        envelope.CLOCK_UNKNOWN: "true",
    }


async def test_an_amount_as_java_prints_it_is_accepted(client: httpx.AsyncClient, peer: Peer) -> None:
    """And a decimal string, and a charset that is said."""
    headers = {"Content-Type": "application/json; charset=UTF-8", "Accept": "text/html"}
    for amount in ("540.9000000000001", "299.96999999999997", "1.23456789E7", "19.999999999999999", '"10"'):
        content = f'{{"bookingId":1,"userId":2,"amount":{amount},"successUrl":null,"cancelUrl":null}}'
        answer = await client.post(CREATE, content=content, headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert peer.commands[-1].body == content.encode()


@pytest.mark.parametrize(("path", "member"), [(VERIFY, "sessionId"), (STATUS, "transactionId")])
async def test_reading_answers_the_payment(client: httpx.AsyncClient, peer: Peer, path: str, member: str) -> None:
    answer = await client.get(f"{path}/cs_test_a1")
    assert answer.content == reply(peer.commands[0]).body
    assert "retry-after" not in answer.headers
    assert answer.headers["x-request-id"].startswith("generated-")
    assert peer.commands[0].document == {member: "cs_test_a1"}
    headers = peer.commands[0].headers
    assert envelope.is_trace_parent(headers.pop(envelope.TRACE_PARENT))
    assert headers == {
        envelope.CALLER: "7",
        envelope.REQUEST_ID: answer.headers["x-request-id"],
        envelope.CLOCK_UNKNOWN: "true",
    }


@pytest.mark.parametrize(("path", "source"), [(VERIFY, "gateway"), (VERIFY, "local"), (STATUS, None)])
async def test_a_pending_answer_says_when_to_ask_again_and_a_verify_where_it_comes_from(
    client: httpx.AsyncClient, peer: Peer, path: str, source: str | None
) -> None:
    async def pending(command: Command) -> Answer:
        return reply(command, source=source, paymentStatus="PENDING")

    peer.handler = pending
    answer = await client.get(f"{path}/cs_test_a1")
    assert (answer.headers["retry-after"], answer.headers.get("x-payment-status-source")) == ("2", source)


@pytest.mark.parametrize("path", [VERIFY, STATUS])
async def test_an_answer_says_why_a_person_must_look_in_a_word_that_is_safe_in_a_header(
    client: httpx.AsyncClient, peer: Peer, path: str
) -> None:
    for sent, passed_on in (("paid_differently", "paid_differently"), ("two words\r\n", None), (None, None)):

        async def looked_at(command: Command, sent: str | None = sent) -> Answer:
            answer = reply(command)
            return replace(answer, headers=answer.headers | ({envelope.ATTENTION: sent} if sent else {}))

        peer.handler = looked_at
        assert (await client.get(f"{path}/cs_test_a1")).headers.get("x-payment-attention") == passed_on


async def test_a_request_id_or_traceparent_that_is_not_valid_is_replaced(client: httpx.AsyncClient, peer: Peer) -> None:
    for given in ("", "two words", "é", "x" * 129):
        answer = await client.get(f"{STATUS}/cs_test_a1", headers=[(b"X-Request-ID", given.encode("latin-1"))])
        assert answer.headers["x-request-id"].startswith("generated-")
    for given in ("", "00-xyz", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\t, x"):
        assert (await client.get(f"{STATUS}/cs_test_a1", headers={"traceparent": given})).status_code == 200
        assert peer.commands[-1].headers[envelope.TRACE_PARENT] != given
    traces = [command.headers[envelope.TRACE_PARENT] for command in peer.commands]
    assert all(map(envelope.is_trace_parent, traces))
    assert len(set(traces)) == len(traces)


# --- what the service refuses -----------------------------------------------------------------------------------------


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
    rpc_client: RpcClient, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    del rpc_client.observer  # breaks the code from inside
    answer = await client.get(f"{STATUS}/cs_test_a1")
    assert (answer.status_code, answer.json()["paymentStatus"]) == (500, "INTERNAL_ERROR")
    assert "observer" not in answer.text
    assert "A bug: AttributeError" in caplog.text


# --- bad input (the matrix's rows B1 to B14) --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Bad:
    """A request that must be refused."""

    name: str
    method: str = "POST"
    path: str = CREATE
    content: bytes | None = None
    headers: list[tuple[str, str]] = field(default_factory=list)
    answer: tuple[int, str] = (400, "VALIDATION_ERROR")
    names: str = ""
    """What the message must name."""


NO_JSON, TOO_LARGE = (415, "UNSUPPORTED_MEDIA_TYPE"), (413, "PAYLOAD_TOO_LARGE")
NO_METHOD, NO_ROUTE = (405, "METHOD_NOT_ALLOWED"), (404, "NOT_FOUND")


def raw(member: str, text: str) -> bytes:
    members = {"bookingId": "1", "userId": "2", "amount": "3"} | {member: text}
    return ("{" + ",".join(f'"{name}":{value}' for name, value in members.items()) + "}").encode()


def body(name: str, content: bytes, names: str = "", *headers: tuple[str, str]) -> Bad:
    return Bad(name=name, content=content, names=names, headers=[*JSON.items(), *headers])


def read(name: str, address: str, *headers: tuple[str, str], **changes: Any) -> Bad:
    return Bad(name=name, method="GET", path=address, headers=[*headers], **changes)


KEY = "Idempotency-Key"
VALUES = {
    "amount": 'NaN Infinity -Infinity 1e400 0 -1 -0.01 1e13 "-5" "1e3" true [10] {} "" "ten" null',
    "bookingId": '0 -1 9223372036854775808 "7" 1.5 true null [] 1e19',
    "userId": '0 -1 9223372036854775808 "7" 1.5 true null [] 1e19',
    "currency": r'"\u0000\u0000\u0000" ' + f'"{CANARY * 1000}"',
    "successUrl": r'"\ud800" "https://\u202e" "https://bücher.example/"',
}
"""B2 to B7, B11: the message names the member, or says that it is no number."""
IDS = (
    "..%2fstatus%2fcs_test_a pi_123 cs_test_ cs_other_a cs_test_%00 cs_test_a%0a cs_test_a%0d%0aX:1 cs_test_%ff"
    " cs_test_a/ cs_test_a%2F cs_test_é %2e%2e cs_test_a;x cs_test_a%3Fx cs_test_" + "a" * 1024
)
NOWHERE = f"/{CANARY} {BASE} {CREATE}/ {CREATE}/x /docs/ /actuator/ /openapi.json /redoc /{CANARY}/..%2f..%2fetc"
ROWS = [
    body("B1 not JSON", CANARY.encode(), "JSON"),
    body("B1 empty", b"", "JSON"),
    body("B1 invalid UTF-8", b'{"bookingId":1,"userId":2,"amount":3,"currency":"\xff"}', "JSON"),
    body("B1 UTF-16", json.dumps(GOOD).encode("utf-16"), "JSON"),
    body("B1 deep nesting", b"[" * 8000 + b"]" * 8000),
    body("B1 a list", b"[]", "object"),
    body("B1 null", b"null", "object"),
    Bad(name="B1 text", content=without(), headers=[("Content-Type", "text/plain")], answer=NO_JSON),
    Bad(name="B1 no content type", content=without(), answer=NO_JSON),
    Bad(name="B1 form", headers=[("Content-Type", "application/x-www-form-urlencoded")], answer=NO_JSON),
    *(
        body(f"B2-B11 {member} {text}", raw(member, text), "number" if text.endswith(("NaN", "y")) else member)
        for member, texts in VALUES.items()
        for text in texts.split()
        if text != "1e400"
    ),
    body("B2 1e400", raw("amount", "1e400")),
    *(body(f"B8 {name}", without(**{name: CANARY}), name) for name in ("status", "paid", "succesUrl")),
    body("B8 missing", b'{"bookingId":1,"amount":3}', "userId"),
    body("B8 a name with a line break", raw("a\\nb", "1")),
    body("B9 a member twice", b'{"bookingId":1,"bookingId":1,"userId":2,"amount":3}', "more than once"),
    replace(body("B10 body over 16 KiB", without(successUrl="x" * 16384)), answer=TOO_LARGE),
    body("B11 a URL over 2 kB", without(cancelUrl="https://x/" + "y" * 2048), "cancelUrl"),
    *(read(f"B12 {each}", f"{route}/{each}") for route in (VERIFY, STATUS) for each in IDS.split()),
    *(body(f"B13 {each[:3]}", without(), KEY, (KEY, each)) for each in ("k" * 300, "", "\u00e9")),
    body("B13 twice", without(), KEY, (KEY, "a"), (KEY, "a")),
    read("B14 user id twice", f"{STATUS}/cs_test_a", ("X-User-Id", "7"), names="X-User-Id"),
    read("B14 roles twice", f"{STATUS}/cs_test_a", ("X-User-Roles", "USER"), names="X-User-Roles"),
    *(Bad(name=f"B14 {each}", method=each, answer=NO_METHOD) for each in "GET PUT DELETE PATCH OPTIONS".split()),
    *(
        Bad(name=f"B14 {each} status", method=each, path=f"{STATUS}/cs_test_a", answer=NO_METHOD)
        for each in "POST PUT DELETE PATCH".split()
    ),
    *(read(f"B14 unknown {address}", address, answer=NO_ROUTE) for address in NOWHERE.split()),
]


@pytest.mark.parametrize("bad", ROWS, ids=lambda bad: bad.name[:40])
async def test_bad_input_is_refused_without_an_echo_and_without_a_message(
    client: httpx.AsyncClient, peer: Peer, rpc_client: RpcClient, bad: Bad
) -> None:
    client.headers = httpx.Headers()
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in [*IDENTITY.items(), *bad.headers]]
    answer = await client.request(bad.method, bad.path, content=bad.content, headers=encoded)
    problem = answer.json()
    assert (answer.status_code, problem["paymentStatus"]) == bad.answer
    assert (problem["status"], answer.headers["content-type"]) == (answer.status_code, "application/problem+json")
    assert bad.names in problem["message"]
    assert problem["requestId"] == answer.headers["x-request-id"]
    assert CANARY not in answer.text
    assert not any(character in problem["message"] for character in "\r\n\0")
    assert problem["retryable"] is False
    assert (peer.commands, calls(rpc_client, "answered")) == ([], [0])


@pytest.mark.parametrize(("method", "address"), [("POST", CREATE), ("GET", f"{VERIFY}/x"), ("GET", f"{STATUS}/x")])
async def test_who_may_not_call_is_told_so_first(
    client: httpx.AsyncClient, peer: Peer, method: str, address: str
) -> None:
    for user_id, roles, refusal in [
        (None, None, (401, "UNAUTHORIZED")),
        (CANARY, "SERVICE_ACCOUNT", (401, "UNAUTHORIZED")),
        ("7", f"USER,{CANARY}", (403, "FORBIDDEN")),
    ]:
        given = {"X-User-Id": user_id, "X-User-Roles": roles}
        client.headers = httpx.Headers({name: value for name, value in given.items() if value})
        answer = await client.request(method, address, content=b"{")
        assert (answer.status_code, answer.json()["paymentStatus"]) == refusal
        assert CANARY not in answer.text
    assert peer.commands == []


async def test_what_is_allowed_is_said(client: httpx.AsyncClient) -> None:
    """And a HEAD is a GET without a body."""
    assert (await client.get(CREATE)).headers["allow"] == "POST"
    assert (await client.post(f"{STATUS}/cs_test_a")).headers["allow"] == "GET, HEAD"
    for address in (f"{STATUS}/cs_test_a1", "/actuator/health/liveness"):
        assert (await client.head(address)).status_code == 200


# --- logs ------------------------------------------------------------------------------------------------------------


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
