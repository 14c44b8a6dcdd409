"""The status table: total, final is final, money that does not fit never completes."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import IllegalTransitionError
from service.domain.money import Money
from service.domain.outcomes import (
    Expired,
    Open,
    Opened,
    Outcome,
    OutcomeKind,
    Paid,
    Processing,
    Refused,
    Unknown,
    UnknownCause,
)
from service.domain.payment import AttentionReason, Payment, PaymentStatus
from service.domain.status import TABLE, ChangeKind, decide
from tests.service_support import NOW, QUICK, a_payment

PENDING = a_payment(reference="11111111-2222-3333-4444-555555555555")  # test names hold it, the same in every worker
UNOPENED = replace(PENDING, session_id=None, payment_url=None, version=0)
COMPLETED = replace(PENDING, status=PaymentStatus.COMPLETED, version=2)
FAILED = replace(PENDING, status=PaymentStatus.FAILED, reason="expired", version=2)
PAID = Paid(money=PENDING.money, reference=PENDING.reference, livemode=False)
OPENED = Opened(session_id="cs_test_new", payment_url="https://pay.example/new", expires_at=NOW)
LATER = NOW + timedelta(minutes=1)

WRONG_MONEY = [
    replace(PAID, money=Money(44996, "inr")),
    replace(PAID, money=Money(44997, "usd")),
    replace(PAID, money=Money(0, "inr")),
    replace(PAID, money=Money(-44997, "inr")),
    replace(PAID, reference="another"),
    replace(PAID, reference=None),
    replace(PAID, livemode=True),
]
OUTCOMES: dict[OutcomeKind, Outcome] = {
    OutcomeKind.OPENED: OPENED,
    OutcomeKind.OPEN: Open(),
    OutcomeKind.PROCESSING: Processing(),
    OutcomeKind.UNKNOWN: Unknown(cause=UnknownCause.TIMEOUT),
    OutcomeKind.PAID: PAID,
    OutcomeKind.EXPIRED: Expired(),
    OutcomeKind.REFUSED: Refused(detail="amount_too_small"),
}


def any_outcome() -> st.SearchStrategy[Outcome]:
    sessions = st.sampled_from(["cs_test_a1", "cs_test_new", "cs_test_other"])
    return st.one_of(
        sessions.map(lambda session_id: replace(OPENED, session_id=session_id)),
        st.sampled_from([*OUTCOMES.values(), *WRONG_MONEY]),
        st.sampled_from(UnknownCause).map(lambda cause: Unknown(cause=cause)),
    )


def test_the_table_is_total() -> None:
    assert set(TABLE) == {(status, kind) for status in PaymentStatus for kind in OutcomeKind}
    assert {outcome.kind for outcome in OUTCOMES.values()} == set(OutcomeKind)


@pytest.mark.parametrize("kind", [OutcomeKind.OPEN, OutcomeKind.PROCESSING, OutcomeKind.UNKNOWN])
@pytest.mark.parametrize("payment", [UNOPENED, PENDING, COMPLETED, FAILED], ids=lambda payment: payment.status)
def test_what_decides_nothing_changes_nothing(payment: Payment, kind: OutcomeKind) -> None:
    assert decide(payment, OUTCOMES[kind], at=LATER) is None


def test_an_opened_session_is_stored_and_the_payment_stays_pending() -> None:
    change = decide(UNOPENED, OPENED, at=LATER)
    assert change is not None
    assert change.kind is ChangeKind.OPENED
    expected = {"session_id": "cs_test_new", "payment_url": "https://pay.example/new", "expires_at": NOW}
    assert change.payment == replace(UNOPENED, version=1, updated_at=LATER, **expected)


def test_a_pending_payment_that_is_paid_completes() -> None:
    change = decide(PENDING, PAID, at=LATER)
    assert change is not None
    assert change.kind is ChangeKind.COMPLETED
    assert change.payment == replace(PENDING, status=PaymentStatus.COMPLETED, version=2, updated_at=LATER)


@pytest.mark.parametrize(
    ("outcome", "reason", "detail"),
    [
        (Expired(), "expired", {}),
        (Refused(), "refused", {}),
        (Refused(detail="amount_too_small"), "refused", {"gateway": "amount_too_small"}),
    ],
)
def test_a_pending_payment_fails_with_its_reason(outcome: Outcome, reason: str, detail: dict[str, str]) -> None:
    change = decide(PENDING, outcome, at=LATER)
    assert change is not None
    assert (change.kind, change.payment.status, change.payment.reason) == (
        ChangeKind.FAILED,
        PaymentStatus.FAILED,
        reason,
    )
    assert change.detail == detail


@pytest.mark.parametrize("outcome", [Expired(), Refused()])
def test_a_failed_payment_that_fails_again_stays_silent(outcome: Outcome) -> None:
    assert decide(FAILED, outcome, at=LATER) is None


def test_a_completed_payment_that_is_paid_again_stays_silent() -> None:
    assert decide(COMPLETED, PAID, at=LATER) is None


@pytest.mark.parametrize("outcome", [Expired(), Refused(), OPENED], ids=lambda outcome: outcome.kind)
def test_a_completed_payment_cannot_end_otherwise(outcome: Outcome) -> None:
    with pytest.raises(IllegalTransitionError) as raised:
        decide(COMPLETED, outcome, at=LATER)
    assert raised.value.payment == COMPLETED


@pytest.mark.parametrize("payment", [PENDING, COMPLETED, FAILED], ids=lambda payment: payment.status)
def test_a_second_session_for_one_payment_is_impossible(payment: Payment) -> None:
    with pytest.raises(IllegalTransitionError):
        decide(payment, OPENED, at=LATER)


@pytest.mark.parametrize("payment", [PENDING, COMPLETED, FAILED], ids=lambda payment: payment.status)
def test_the_same_session_told_again_changes_nothing(payment: Payment) -> None:
    assert decide(payment, replace(OPENED, session_id="cs_test_a1", payment_url="https://other"), at=LATER) is None


@pytest.mark.parametrize("payment", [UNOPENED, PENDING, COMPLETED, FAILED], ids=lambda payment: payment.status)
@pytest.mark.parametrize("outcome", WRONG_MONEY, ids=str)
def test_money_that_does_not_fit_calls_a_person_once_and_changes_no_status(payment: Payment, outcome: Paid) -> None:
    change = decide(payment, outcome, at=LATER)
    assert change is not None
    assert change.kind is ChangeKind.ATTENTION
    assert change.payment.status is payment.status
    assert change.payment.attention == AttentionReason.PAID_DIFFERENTLY
    assert change.detail["reason"] == "paid_differently"
    assert "expected" in change.detail["difference"]
    assert decide(change.payment, outcome, at=LATER) is None


def test_money_for_a_failed_payment_calls_a_person_once() -> None:
    change = decide(FAILED, PAID, at=LATER)
    assert change is not None
    assert (change.kind, change.payment.status) == (ChangeKind.ATTENTION, PaymentStatus.FAILED)
    assert change.payment.attention == AttentionReason.PAID_AFTER_FAILED
    assert decide(change.payment, PAID, at=LATER) is None


@QUICK
@given(st.sampled_from([UNOPENED, PENDING, COMPLETED, FAILED]), st.lists(any_outcome(), max_size=12))
def test_whatever_the_sequence_versions_grow_by_one_and_final_is_final(
    payment: Payment, outcomes: list[Outcome]
) -> None:
    for outcome in outcomes:
        try:
            change = decide(payment, outcome, at=LATER)
        except IllegalTransitionError:
            continue
        if change is None:
            continue
        assert change.payment.version == payment.version + 1
        assert change.payment.updated_at == LATER
        assert change.payment.content == payment.content
        assert (change.payment.id, change.payment.reference) == (payment.id, payment.reference)
        if payment.status.is_final:
            assert (change.payment.status, change.payment.reason) == (payment.status, payment.reason)
            assert change.kind is ChangeKind.ATTENTION
        if payment.session_id is not None:
            assert change.payment.session_id == payment.session_id
        if change.payment.status is PaymentStatus.COMPLETED and payment.status is PaymentStatus.PENDING:
            assert outcome == PAID
        assert (change.payment.status is PaymentStatus.FAILED) == (change.payment.reason is not None)
        payment = change.payment


@QUICK
@given(
    st.sampled_from([UNOPENED, PENDING]), st.lists(any_outcome().filter(lambda outcome: outcome != PAID), max_size=12)
)
def test_no_sequence_without_the_very_money_completes_a_payment(payment: Payment, outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        try:
            change = decide(payment, outcome, at=LATER)
        except IllegalTransitionError:
            continue
        payment = payment if change is None else change.payment
    assert payment.status is not PaymentStatus.COMPLETED
