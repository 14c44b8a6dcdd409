"""Between the domain and the contracts: every error has a fault, every change has an event."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from contracts import body
from contracts.events import EventKey
from contracts.faults import FaultCode
from contracts.replies import StatusSource
from service.application import translation
from service.domain import errors
from service.domain.errors import PaymentServiceError
from service.domain.payment import Payment, PaymentStatus
from service.domain.status import Change, ChangeKind
from tests.kit.clock import NOW
from tests.kit.service import a_payment

PENDING = a_payment()
COMPLETED = replace(PENDING, status=PaymentStatus.COMPLETED, version=2)
FAILED = replace(PENDING, status=PaymentStatus.FAILED, reason="expired", version=2)


def tree(error: type[PaymentServiceError] = PaymentServiceError) -> Iterator[type[PaymentServiceError]]:
    yield error
    for child in error.__subclasses__():
        yield from tree(child)


def test_the_error_tree_stands_on_one_page_and_has_every_fault_code() -> None:
    assert {error.__module__ for error in tree()} == {errors.__name__}
    assert len(list(tree())) >= 14
    assert {error.code for error in tree()} == {code.value for code in FaultCode}


@pytest.mark.parametrize("error", list(tree()))
def test_every_error_becomes_a_fault_with_a_plain_sentence_for_end_users(error: type[PaymentServiceError]) -> None:
    fault = translation.fault(error(payment=PENDING.ref))
    assert fault.code is FaultCode(error.code)
    assert (fault.retryable, fault.retry_after_seconds) == (error.retryable, error.retry_after_seconds)
    assert error.retryable or error.retry_after_seconds is None
    assert (fault.payment_id, fault.booking_id, fault.transaction_id) == (1, 7, "cs_test_a1")
    assert body.read(type(fault), body.write(fault)) == fault
    assert fault.message[0].isupper()
    assert fault.message.endswith(".")
    assert not {"stripe", "sql", "postgres", "rabbit", "database"} & set(fault.message.lower().split())


def test_a_fault_leaves_out_what_is_not_known() -> None:
    fault = translation.fault(errors.PaymentNotFoundError())
    message = "No payment with this id was found."
    assert fault.model_dump(exclude_none=True) == {"code": FaultCode.NOT_FOUND, "message": message, "retryable": False}
    fault = translation.fault(errors.OutcomeUnknownError(payment=replace(PENDING, session_id=None).ref))
    assert (fault.payment_id, fault.transaction_id) == (1, None)


def test_a_create_is_answered_with_the_session() -> None:
    pay_until = PENDING.expires_at - timedelta(minutes=20)
    assert translation.checkout_session(PENDING).expires_at == PENDING.expires_at.timestamp()
    assert body.write(translation.checkout_session(replace(PENDING, pay_until=pay_until))) == (
        b'{"sessionId":"cs_test_a1","paymentUrl":"https://pay.example/cs_test_a1#fragment","bookingId":7,"amount":449.97,'
        b'"status":"pending","message":"The checkout is ready. Please pay on the payment page.","expiresAt":%d}'
        % pay_until.timestamp()
    )


def test_a_state_says_in_headers_who_knew_it_and_whether_a_person_must_look() -> None:
    looked_at = replace(PENDING, attention="paid_differently")
    local, gateway = StatusSource.LOCAL, StatusSource.GATEWAY
    assert translation.state_reply(PENDING)[1] == {}
    assert translation.state_reply(PENDING, local)[1] == {"x-payment-status-source": "local"}
    assert translation.state_reply(looked_at)[1] == {"x-payment-attention": "paid_differently"}
    both = {"x-payment-status-source": "gateway", "x-payment-attention": "paid_differently"}
    assert translation.state_reply(looked_at, gateway)[1] == both
    assert translation.state_reply(replace(looked_at, closed_at=NOW))[1] == {}


ATTENTION = replace(FAILED, attention="paid_after_failed", version=3)
EVENTS = [
    (ChangeKind.OPENED, PENDING, EventKey.PENDING, None, PENDING.payment_url),
    (ChangeKind.COMPLETED, COMPLETED, EventKey.COMPLETED, None, None),
    (ChangeKind.FAILED, FAILED, EventKey.FAILED, "expired", None),
    (ChangeKind.ATTENTION, ATTENTION, EventKey.ATTENTION, "paid_after_failed", None),
    (ChangeKind.CLOSED, ATTENTION, EventKey.ATTENTION, "closed", None),
    (ChangeKind.REFUNDED, replace(COMPLETED, refunded_minor=97), EventKey.REFUNDED, None, None),
    (ChangeKind.DISPUTED, replace(COMPLETED, dispute="lost"), EventKey.DISPUTED, None, None),
]


def test_every_change_but_insertions_and_new_terms_makes_an_event() -> None:
    silent = {ChangeKind.CREATED, ChangeKind.ADOPTED, ChangeKind.RENEWED}
    assert {kind for kind, *_ in EVENTS} == set(ChangeKind) - silent


@pytest.mark.parametrize(("kind", "payment", "key", "reason", "url"), EVENTS)
def test_an_event_holds_the_whole_new_state_under_an_id_of_its_own(
    kind: ChangeKind, payment: Payment, key: EventKey, reason: str | None, url: str | None
) -> None:
    """Only a pending payment has a URL to pay at."""
    change = Change(payment=payment, kind=kind)
    routing_key, event = translation.event(change)
    assert (routing_key, event.type) == (key, key.event_type)
    assert (event.subject, event.time, event.data.occurred_at) == ("1", NOW, NOW)
    assert UUID(event.id).version == 4
    assert event.id != translation.event(change)[1].id
    data = event.data
    assert (data.payment_id, data.booking_id, data.user_id, data.transaction_id) == (1, 7, 5, "cs_test_a1")
    assert (data.amount, data.amount_minor, data.currency) == (payment.money.major, 44997, "inr")
    assert (data.status.value, data.sequence) == (payment.status.value, payment.version)
    assert (data.reason, data.payment_url) == (reason, url)
    assert data.refunded_amount_minor == (payment.refunded_minor or None)
    assert data.refunded_amount == (Decimal("0.97") if payment.refunded_minor else None)
    assert data.dispute_status == payment.dispute


def test_a_refund_that_failed_is_told_as_nothing_refunded() -> None:
    told = translation.event(Change(payment=COMPLETED, kind=ChangeKind.REFUNDED, detail={"part": "none"}))[1].data
    assert (told.refunded_amount, told.refunded_amount_minor, told.reason) == (None, 0, "none")
    assert '"refundedAmountMinor":0' in told.model_dump_json(by_alias=True)
