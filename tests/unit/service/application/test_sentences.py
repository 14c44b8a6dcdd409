"""Whatever is known of a payment has a sentence of its own, and none says more than is known."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest

from service.application import sentences
from service.domain.payment import AttentionReason, FailureReason, LastOutcome, Payment, PaymentStatus
from tests.kit.clock import NOW
from tests.kit.service import a_payment

PENDING, COMPLETED, FAILED = PaymentStatus
WITHOUT_MONEY = {LastOutcome.EXPIRED, *sentences.REFUSED}
"""What the gateway says when it has taken nothing."""
OF_MONEY = {AttentionReason.PAID_DIFFERENTLY, AttentionReason.PAID_AFTER_FAILED}
PAID = a_payment(reference="11111111-2222-3333-4444-555555555555")


def outcomes(status: PaymentStatus, reason: str | None) -> set[str | None]:
    """What the gateway can have said last."""
    match status, reason:
        case PaymentStatus.PENDING, _:
            return {None, LastOutcome.PROCESSING, LastOutcome.NO_SESSION, LastOutcome.PAID}
        case PaymentStatus.COMPLETED, _:
            return {None, LastOutcome.PAID}
        case _, FailureReason.REFUSED:
            return {*sentences.REFUSED, LastOutcome.PAID}
        case _, FailureReason.CLOSED:
            return {None, LastOutcome.EXPIRED, LastOutcome.PAID, LastOutcome.PROCESSING, LastOutcome.NO_SESSION}
    return {LastOutcome.EXPIRED, LastOutcome.PAID}


def payments() -> Iterator[Payment]:
    """Every combination of status, reason, attention (open and dealt with) and last outcome."""
    for status in PaymentStatus:
        reasons: list[str | None] = list(FailureReason) if status is FAILED else [None]
        for reason, attention in itertools.product(reasons, [None, *AttentionReason]):
            for outcome in sorted(outcomes(status, reason), key=str):
                if outcome == LastOutcome.PAID and status is not COMPLETED and attention not in OF_MONEY:
                    continue  # of money that does not complete a payment a person is called
                known = replace(PAID, status=status, reason=reason, attention=attention, last_outcome=outcome)
                yield known
                if attention is not None and status is not PENDING:
                    yield replace(known, closed_at=NOW)


ALL = list(payments())


def named(payment: Payment) -> str:
    closed = "dealt with" if payment.closed_at else "open"
    return f"{payment.status}-{payment.reason}-{payment.attention}-{closed}-{payment.last_outcome}"


def test_no_table_lacks_a_cell() -> None:
    refusals = set(LastOutcome) - {
        LastOutcome.PROCESSING,
        LastOutcome.PAID,
        LastOutcome.EXPIRED,
        LastOutcome.NO_SESSION,
    }
    assert set(sentences.REFUSED) == refusals
    assert set(sentences.FAILED) == set(FailureReason)
    assert set(sentences.CLOSED) == outcomes(FAILED, FailureReason.CLOSED)
    assert set(sentences.PENDING) == outcomes(PENDING, None) - {LastOutcome.PAID}
    assert {status: set(table) for status, table in sentences.ATTENTION.items()} == {
        status: set(AttentionReason) for status in PaymentStatus
    }


@pytest.mark.parametrize("answered", [True, False])
@pytest.mark.parametrize("payment", ALL, ids=named)
def test_a_sentence_says_what_is_known_and_no_more(payment: Payment, *, answered: bool) -> None:
    sentence = sentences.of_state(payment, gateway_answered=answered)
    assert sentence[0].isupper()
    assert sentence.endswith(".")
    if "Nothing was charged" in sentence:
        assert payment.status is FAILED
        assert payment.last_outcome in WITHOUT_MONEY
        assert payment.attention not in OF_MONEY
    if payment.open_attention is not None:
        assert "look" in sentence or "do not know" in sentence
        assert "aiting for" not in sentence
    if payment.needs_person and payment.status is not COMPLETED:
        assert "do not pay again" in sentence
    if payment.status is COMPLETED:
        assert sentence.startswith(("The payment is complete.", "The payment provider could not be asked"))


def test_a_sentence_is_that_of_its_cause() -> None:
    """M12 What is known is told: the amount, the currency, and that a payment was replaced."""
    failed = replace(PAID, status=FAILED)
    by_cause = {
        (LastOutcome.AMOUNT_TOO_SMALL, "refused"): "The amount is smaller than the payment provider accepts. ",
        (LastOutcome.AMOUNT_TOO_LARGE, "refused"): "The amount is larger than the payment provider accepts. ",
        (LastOutcome.CURRENCY_REFUSED, "refused"): "The payment provider does not accept this currency. ",
        (LastOutcome.EXPIRED, "expired"): "The checkout ended before a payment was made. ",
        (LastOutcome.EXPIRED, "replaced"): "This checkout was replaced by a newer one before a payment was made. ",
        (LastOutcome.EXPIRED, "closed"): "We have closed this payment. ",
    }
    for (outcome, reason), sentence in by_cause.items():
        known = replace(failed, reason=reason, last_outcome=outcome)
        assert sentences.of_state(known) == f"{sentence}Nothing was charged."
        repeated = sentences.of_repeat(known)
        again = f"{sentence}Please check the booking and try again."
        assert repeated == (
            again if reason == "refused" else "The checkout of this request has ended. Please start a new one."
        )


def test_words_of_a_later_release_have_a_true_sentence() -> None:
    later = "a word of later years"
    assert sentences.of_state(replace(PAID, last_outcome=later)) == "Waiting for the payment."
    assert sentences.of_state(replace(PAID, status=FAILED, reason=later)) == "The payment has failed."
    assert "look" in sentences.of_state(replace(PAID, attention=later))
    assert (
        sentences.of_state(replace(PAID, status=FAILED, reason="closed", last_outcome=later)) == sentences.CLOSED[None]
    )
    unasked = (
        "The payment provider could not be asked just now. This is the last known status: waiting for the payment."
    )
    assert sentences.of_state(PAID, gateway_answered=False) == unasked
