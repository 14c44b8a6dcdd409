"""T8: replies, faults and events of a newer release are understood; commands are read strictly."""

import json

import pytest

from contracts import body
from contracts.body import InvalidBodyError
from contracts.commands import CreateCheckout
from contracts.faults import FaultCode, read_fault
from contracts.replies import PaymentState

STATE = {
    "paymentId": 1,
    "bookingId": 2,
    "paymentStatus": "PENDING",
    "transactionId": "cs_test_1",
    "amount": 1.5,
    "message": "The payment is not complete yet.",
}


def test_a_reply_with_members_of_a_newer_release_is_read() -> None:
    newer = STATE | {"refundedAmount": None, "paymentMethod": {"kind": "card"}, "payment_id": 9}
    assert body.read_known(PaymentState, dict(newer)).payment_id == 1
    with pytest.raises(InvalidBodyError):
        body.read_known(PaymentState, {**newer, "paymentStatus": "REFUNDED"})


@pytest.mark.parametrize("retryable", [True, False])
def test_a_faults_code_of_a_newer_release_is_taken_by_its_retryable(*, retryable: bool) -> None:
    content = {"code": "BANK_ON_HOLIDAY", "message": "Try tomorrow.", "retryable": retryable, "until": "tomorrow"}
    fault = read_fault(json.dumps(content).encode())
    assert fault.code is (FaultCode.SERVICE_UNAVAILABLE if retryable else FaultCode.INTERNAL_ERROR)
    assert (fault.message, fault.retryable) == ("Try tomorrow.", retryable)


@pytest.mark.parametrize("content", ["[]", "{}", '{"code": [], "message": "x", "retryable": true}', "x"])
def test_what_is_no_fault_is_none(content: str) -> None:
    with pytest.raises(InvalidBodyError):
        read_fault(content.encode())


def test_a_command_with_a_member_that_is_not_known_is_refused() -> None:
    content = {"bookingId": 1, "userId": 1, "amount": 1, "succesUrl": "http://127.0.0.1/"}
    with pytest.raises(InvalidBodyError, match="succesUrl is not a known field"):
        body.read(CreateCheckout, json.dumps(content).encode())
