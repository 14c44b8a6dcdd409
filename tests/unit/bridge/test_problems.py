import json

import pytest

from bridge import errors
from bridge.errors import BridgeCode, BridgeError, FaultError
from bridge.problems import MEDIA_TYPE, STATUS, problem
from contracts.faults import Fault, FaultCode


def test_every_code_has_a_status() -> None:
    assert set(STATUS) == {*FaultCode, *BridgeCode}


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (FaultCode.VALIDATION_ERROR, 400),
        (FaultCode.FAILED, 400),
        (FaultCode.NOT_FOUND, 404),
        (FaultCode.ALREADY_PAID, 409),
        (FaultCode.IN_PROGRESS, 409),
        (FaultCode.IDEMPOTENCY_KEY_REUSED, 422),
        (FaultCode.GATEWAY_ERROR, 502),
        (FaultCode.SERVICE_UNAVAILABLE, 503),
        (FaultCode.DEADLINE_EXCEEDED, 504),
        (FaultCode.INTERNAL_ERROR, 500),
    ],
)
def test_a_fault_becomes_the_documented_status(code: FaultCode, status: int) -> None:
    answer = problem(FaultError(Fault(code=code, message="Words.", retryable=False)), request_id="r-1")
    assert answer.status_code == status


def test_a_problem_has_the_java_members_and_those_of_rfc_9457() -> None:
    fault = Fault.model_validate(
        {
            "code": "ALREADY_PAID",
            "message": "This booking is paid.",
            "retryable": False,
            "paymentId": 9,
            "bookingId": 7,
            "transactionId": "cs_test_a",
            "amount": "540.90",
        }
    )
    answer = problem(FaultError(fault), request_id="r-1")
    assert answer.media_type == MEDIA_TYPE
    assert json.loads(bytes(answer.body)) == {
        "paymentId": 9,
        "bookingId": 7,
        "paymentStatus": "ALREADY_PAID",
        "transactionId": "cs_test_a",
        "amount": 540.9,
        "message": "This booking is paid.",
        "type": "urn:bookticket:payment:problem:already-paid",
        "title": "Already paid",
        "status": 409,
        "detail": "This booking is paid.",
        "instance": "urn:bookticket:payment:request:r-1",
        "requestId": "r-1",
        "retryable": False,
    }


def test_what_is_not_known_is_null() -> None:
    content = json.loads(bytes(problem(errors.UnauthorizedError(), request_id="r-1").body))
    assert [content[name] for name in ("paymentId", "bookingId", "transactionId", "amount")] == [None] * 4


def test_the_instance_is_a_uri_whatever_the_request_id() -> None:
    content = json.loads(bytes(problem(errors.UnauthorizedError(), request_id='<"%/>').body))
    assert content["instance"] == "urn:bookticket:payment:request:%3C%22%25%2F%3E"


def test_a_503_says_when_to_come_back() -> None:
    unavailable = Fault(code=FaultCode.SERVICE_UNAVAILABLE, message="Words.", retryable=True)
    said = unavailable.model_copy(update={"retry_after_seconds": 3})
    assert problem(FaultError(unavailable), request_id="r").headers["Retry-After"] == "1"
    assert problem(FaultError(said), request_id="r").headers["Retry-After"] == "3"
    assert "Retry-After" not in problem(errors.DeadlineExceededError(), request_id="r").headers


@pytest.mark.parametrize(
    ("error", "challenge"),
    [
        (errors.UnauthorizedError(), 'PlatformHeaders realm="payments"'),
        (errors.NoTokenError(), 'Bearer realm="payments"'),
        (errors.InvalidTokenError(), 'Bearer realm="payments", error="invalid_token"'),
        (errors.ForbiddenError(), None),
        (
            errors.InsufficientScopeError("payments:read"),
            'Bearer realm="payments", error="insufficient_scope", scope="payments:read"',
        ),
    ],
)
def test_who_is_not_known_is_told_how_to_say_who_they_are(error: BridgeError, challenge: str | None) -> None:
    assert problem(error, request_id="r").headers.get("WWW-Authenticate") == challenge


def test_a_429_says_when_to_come_back() -> None:
    answer = problem(errors.RateLimitedError(retry_after_seconds=3), request_id="r")
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "3")


def _all_errors(root: type[BridgeError]) -> list[type[BridgeError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in _all_errors(child))]


@pytest.mark.parametrize("error", _all_errors(BridgeError))
def test_every_refusal_is_one_plain_sentence(error: type[BridgeError]) -> None:
    assert error.message.endswith(".")
    assert "\n" not in error.message
    assert error.code in STATUS
