"""Between the domain and the contracts: every error has a fault, every change has an event."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from contracts import body
from contracts.events import EventKey
from contracts.faults import FaultCode
from service.application import translation
from service.domain import errors
from service.domain.errors import PaymentServiceError
from service.domain.payment import PaymentStatus
from service.domain.status import Change, ChangeKind
from tests.service_support import NOW, a_payment

PENDING = a_payment()
COMPLETED = replace(PENDING, status=PaymentStatus.COMPLETED, version=2)
FAILED = replace(PENDING, status=PaymentStatus.FAILED, reason="expired", version=2)


def tree(error: type[PaymentServiceError] = PaymentServiceError) -> Iterator[type[PaymentServiceError]]:
    yield error
    for child in error.__subclasses__():
        yield from tree(child)


def test_the_error_tree_stands_on_one_page() -> None:
    assert {error.__module__ for error in tree()} == {errors.__name__}
    assert len(list(tree())) >= 14


@pytest.mark.parametrize("error", list(tree()))
def test_every_error_can_be_told_as_a_fault(error: type[PaymentServiceError]) -> None:
    fault = translation.fault(error(payment=PENDING))
    assert fault.code is FaultCode(error.code)
    assert (fault.retryable, fault.retry_after_seconds) == (error.retryable, error.retry_after_seconds)
    assert (fault.payment_id, fault.booking_id, fault.transaction_id) == (1, 7, "cs_test_a1")
    assert body.read(type(fault), body.write(fault)) == fault


@pytest.mark.parametrize("error", list(tree()))
def test_every_error_has_a_plain_sentence_for_end_users(error: type[PaymentServiceError]) -> None:
    message = translation.fault(error()).message
    assert message[0].isupper()
    assert message.endswith(".")
    assert not {"stripe", "sql", "postgres", "rabbit", "database"} & set(message.lower().split())


@pytest.mark.parametrize("error", list(tree()))
def test_only_a_retryable_error_says_when_to_come_again(error: type[PaymentServiceError]) -> None:
    assert error.retryable or error.retry_after_seconds is None


def test_every_fault_code_but_the_callers_own_has_an_error() -> None:
    assert {error.code for error in tree()} == {code.value for code in FaultCode}


def test_a_fault_leaves_out_what_is_not_known() -> None:
    fault = translation.fault(errors.PaymentNotFoundError())
    assert fault.model_dump(exclude_none=True) == {
        "code": FaultCode.NOT_FOUND,
        "message": "No payment with this id was found.",
        "retryable": False,
    }


def test_a_fault_of_a_payment_without_a_session_has_no_transaction() -> None:
    fault = translation.fault(errors.OutcomeUnknownError(payment=replace(PENDING, session_id=None)))
    assert (fault.payment_id, fault.transaction_id) == (1, None)


def test_a_create_is_answered_with_the_session() -> None:
    pay_until = PENDING.expires_at - timedelta(minutes=20)
    assert body.write(translation.checkout_session(PENDING, pay_until=pay_until)) == (
        b'{"sessionId":"cs_test_a1","paymentUrl":"https://pay.example/cs_test_a1#fragment","bookingId":7,"amount":449.97,'
        b'"status":"pending","message":"The checkout is ready. Please pay on the payment page.","expiresAt":%d}'
        % pay_until.timestamp()
    )


@pytest.mark.parametrize(
    ("payment", "words"),
    [
        (PENDING, "Waiting"),
        (COMPLETED, "complete"),
        (FAILED, "not made in time"),
        (replace(FAILED, reason="refused"), "refused"),
        (replace(FAILED, reason="a reason of later years"), "has failed"),
    ],
)
def test_a_state_says_in_words_what_it_is(payment: object, words: str) -> None:
    assert isinstance(payment, type(PENDING))
    state = translation.payment_state(payment)
    assert words in state.message
    assert state.payment_status.value == payment.status.value


def test_a_pending_state_says_when_the_gateway_could_not_be_asked() -> None:
    assert "could not be asked" in translation.payment_state(PENDING, gateway_answered=False).message
    assert "could not" not in translation.payment_state(COMPLETED, gateway_answered=False).message


CHANGES = {
    ChangeKind.OPENED: (PENDING, EventKey.PENDING),
    ChangeKind.COMPLETED: (COMPLETED, EventKey.COMPLETED),
    ChangeKind.FAILED: (FAILED, EventKey.FAILED),
    ChangeKind.ATTENTION: (replace(FAILED, attention="paid_after_failed", version=3), EventKey.ATTENTION),
}


def test_every_change_but_the_insertion_makes_an_event() -> None:
    assert set(CHANGES) == set(ChangeKind) - {ChangeKind.CREATED}


@pytest.mark.parametrize("kind", CHANGES)
def test_an_event_tells_the_whole_new_state(kind: ChangeKind) -> None:
    payment, expected = CHANGES[kind]
    key, event = translation.event(Change(payment=payment, kind=kind))
    assert (key, event.type) == (expected, expected.event_type)
    assert (event.subject, event.time, event.data.occurred_at) == ("1", NOW, NOW)
    assert UUID(event.id).version == 4
    data = event.data
    assert (data.payment_id, data.booking_id, data.user_id, data.transaction_id) == (1, 7, 5, "cs_test_a1")
    assert (data.amount, data.amount_minor, data.currency) == (payment.money.major, 44997, "inr")
    assert (data.status.value, data.sequence) == (payment.status.value, payment.version)


def test_only_a_pending_payment_has_a_url_to_pay_at() -> None:
    urls = {
        kind: translation.event(Change(payment=payment, kind=kind))[1].data.payment_url
        for kind, (payment, _) in CHANGES.items()
    }
    assert urls.pop(ChangeKind.OPENED) == PENDING.payment_url
    assert set(urls.values()) == {None}


def test_an_attention_event_says_what_a_person_must_look_at() -> None:
    reasons = {
        kind: translation.event(Change(payment=payment, kind=kind))[1].data.reason
        for kind, (payment, _) in CHANGES.items()
    }
    assert reasons == {
        ChangeKind.OPENED: None,
        ChangeKind.COMPLETED: None,
        ChangeKind.FAILED: "expired",
        ChangeKind.ATTENTION: "paid_after_failed",
    }


def test_two_events_never_share_an_id() -> None:
    change = Change(payment=PENDING, kind=ChangeKind.OPENED)
    assert translation.event(change)[1].id != translation.event(change)[1].id
