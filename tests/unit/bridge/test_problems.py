import json
from dataclasses import replace
from typing import Any

import pytest

from bridge import errors
from bridge.errors import BridgeCode, Refusal
from bridge.problems import MEDIA_TYPE, STATUS, problem
from contracts.faults import Fault, FaultCode

STATUSES = {
    "VALIDATION_ERROR": 400,
    "FAILED": 400,
    "NOT_FOUND": 404,
    "ALREADY_PAID": 409,
    "IN_PROGRESS": 409,
    "NEEDS_ATTENTION": 409,
    "SUPERSEDED": 409,
    "IDEMPOTENCY_KEY_REUSED": 422,
    "GATEWAY_ERROR": 502,
    "SERVICE_UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
    "INTERNAL_ERROR": 500,
}


def refused(code: FaultCode, **members: Any) -> Refusal:
    return errors.by_fault(Fault(code=code, message="Words.", **{"retryable": False} | members))


def test_every_code_has_a_status_and_every_fault_the_documented_one() -> None:
    assert set(STATUS) == {*FaultCode, *BridgeCode}
    assert {code.value: problem(refused(code), request_id="r").status_code for code in FaultCode} == STATUSES


def test_a_problem_has_the_java_members_and_those_of_rfc_9457() -> None:
    known = {"payment_id": 9, "booking_id": 7, "transaction_id": "cs_test_a", "amount": "540.90", "retryable": True}
    answer = problem(refused(FaultCode.ALREADY_PAID, **known), request_id="r-1")
    assert answer.media_type == MEDIA_TYPE
    assert json.loads(bytes(answer.body)) == {
        "paymentId": 9,
        "bookingId": 7,
        "paymentStatus": "ALREADY_PAID",
        "transactionId": "cs_test_a",
        "amount": 540.9,
        "message": "Words.",
        "type": "urn:bookticket:payment:problem:already-paid",
        "title": "Already paid",
        "status": 409,
        "detail": "Words.",
        "instance": "urn:bookticket:payment:request:r-1",
        "requestId": "r-1",
        "retryable": True,
    }


def test_what_is_not_known_is_null_and_the_instance_is_a_uri_whatever_the_request_id() -> None:
    content = json.loads(bytes(problem(errors.NO_IDENTITY, request_id='<"%/>').body))
    assert [content[name] for name in ("paymentId", "bookingId", "transactionId", "amount")] == [None] * 4
    assert content["retryable"] is False
    assert content["instance"] == "urn:bookticket:payment:request:%3C%22%25%2F%3E"


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (refused(FaultCode.SERVICE_UNAVAILABLE), "1"),
        (refused(FaultCode.SERVICE_UNAVAILABLE, retry_after_seconds=3), "3"),
        (refused(FaultCode.IN_PROGRESS, retry_after_seconds=1), "1"),
        (replace(errors.RATE_LIMITED, retry_after_seconds=3), "3"),
        (errors.DEADLINE_EXCEEDED, None),
    ],
)
def test_a_refusal_says_when_to_come_back(error: Refusal, seconds: str | None) -> None:
    assert problem(error, request_id="r").headers.get("Retry-After") == seconds


@pytest.mark.parametrize(
    ("error", "challenge"),
    [
        (errors.NO_IDENTITY, 'PlatformHeaders realm="payments"'),
        (errors.NO_TOKEN, 'Bearer realm="payments"'),
        (errors.INVALID_TOKEN, 'Bearer realm="payments", error="invalid_token"'),
        (errors.FORBIDDEN, None),
        (errors.insufficient_scope("a:b"), 'Bearer realm="payments", error="insufficient_scope", scope="a:b"'),
    ],
)
def test_who_is_not_known_is_told_how_to_authenticate(error: Refusal, challenge: str | None) -> None:
    assert problem(error, request_id="r").headers.get("WWW-Authenticate") == challenge


def test_every_refusal_is_one_plain_sentence() -> None:
    refusals = [member for member in vars(errors).values() if isinstance(member, Refusal)]
    assert len(refusals) > 20
    for refusal in refusals:
        assert refusal.message.endswith("."), refusal
        assert "\n" not in refusal.message
        assert refusal.code in STATUS
