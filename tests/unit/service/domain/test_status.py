"""The status table: it is total, a final status is final, and money that does not fit never completes a payment."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import get_args

import pytest

from service.domain.errors import IllegalTransitionError
from service.domain.money import Money
from service.domain.outcomes import Expired, Open, Opened, Outcome, Paid, Processing, Refused, Unknown
from service.domain.outcomes import UnknownCause as Cause
from service.domain.payment import AttentionReason, LastOutcome, Payment, PaymentStatus
from service.domain.status import TABLE, Change, ChangeKind, close, decide, unsettled
from tests.kit.clock import NOW
from tests.kit.service import a_payment

PENDING = a_payment(reference="11111111-2222-3333-4444-555555555555")  # test names hold it, the same in every worker
UNOPENED = replace(PENDING, session_id=None, payment_url=None, version=0)
COMPLETED = replace(PENDING, status=PaymentStatus.COMPLETED, version=2)
FAILED = replace(PENDING, status=PaymentStatus.FAILED, reason="expired", version=2)
PAID = Paid(money=PENDING.money, reference=PENDING.reference, livemode=False)
OPENED = Opened(session_id="cs_test_new", payment_url="https://pay.example/new", expires_at=NOW)
REPEATED = Opened(session_id="cs_test_a1", payment_url="https://other", expires_at=NOW)
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
OUTCOMES: list[Outcome] = [
    OPENED,
    REPEATED,
    Open(),
    Processing(),
    PAID,
    Expired(),
    Refused(),
    Refused(detail="code 7", cause=LastOutcome.AMOUNT_TOO_SMALL),
]
UNKNOWN: list[Outcome] = [Unknown(cause=cause) for cause in Cause]
NO = "impossible"


def after(payment: Payment, kind: ChangeKind, detail: dict[str, str] | None = None, **members: object) -> Change:
    """The change to the payment's next version."""
    changed = replace(payment, version=payment.version + 1, updated_at=LATER, **members)  # type: ignore[arg-type]
    return Change(payment=changed, kind=kind, detail=detail or {})


def failed(payment: Payment, reason: str, outcome: str | None, **detail: str) -> Change:
    return after(payment, ChangeKind.FAILED, detail, status=PaymentStatus.FAILED, reason=reason, last_outcome=outcome)


def attention(payment: Payment, reason: str, outcome: str | None = "paid", **detail: str) -> Change:
    detail = {"reason": reason, **detail}
    return after(payment, ChangeKind.ATTENTION, detail, attention=reason, last_outcome=outcome)


OPENS = after(UNOPENED, ChangeKind.OPENED, session_id="cs_test_new", payment_url=OPENED.payment_url, expires_at=NOW)
COMPLETES = after(PENDING, ChangeKind.COMPLETED, status=PaymentStatus.COMPLETED, last_outcome="paid")
PAID_LATE = attention(FAILED, "paid_after_failed")
EXPIRES, REFUSES = failed(PENDING, "expired", "expired"), failed(PENDING, "refused", "refused")
REFUSES_WITH_CODE = failed(PENDING, "refused", "amount_too_small", gateway="code 7")
# In the order of OUTCOMES: a new session, the same one, open, processing, paid, expired, refused, refused with a code.
EXPECTED: list[tuple[Payment, list[Change | str | None]]] = [
    (PENDING, [NO, None, None, None, COMPLETES, EXPIRES, REFUSES, REFUSES_WITH_CODE]),
    (COMPLETED, [NO, None, None, None, None, NO, NO, NO]),
    (FAILED, [NO, None, None, None, PAID_LATE, None, None, None]),
]


def cells() -> Iterator[tuple[Payment, Outcome, Change | str | None]]:
    yield UNOPENED, OPENED, OPENS
    for payment, row in EXPECTED:
        yield from zip([payment] * len(row), OUTCOMES, row, strict=True)
    for payment in (UNOPENED, PENDING, COMPLETED, FAILED):
        yield from ((payment, outcome, None) for outcome in [Open(), Processing(), *UNKNOWN])


CELLS = list(cells())


def test_the_table_is_total() -> None:
    assert set(TABLE) == {(status, kind) for status in PaymentStatus for kind in get_args(Outcome)}
    assert {type(outcome) for outcome in (*OUTCOMES, *UNKNOWN)} == set(get_args(Outcome))


@pytest.mark.parametrize(
    ("payment", "outcome", "expected"), CELLS, ids=[f"{each[0].status}-{each[1]}" for each in CELLS]
)
def test_each_outcome_means_one_change_in_each_status(
    payment: Payment, outcome: Outcome, expected: Change | str | None
) -> None:
    if expected == NO:
        with pytest.raises(IllegalTransitionError) as raised:
            decide(payment, outcome, at=LATER)
        assert raised.value.payment == payment.ref
        return
    change = decide(payment, outcome, at=LATER)
    assert change == expected
    if change is not None:
        assert change.kind is ChangeKind.OPENED or decide(change.payment, outcome, at=LATER) is None, "once is enough"


@pytest.mark.parametrize("payment", [UNOPENED, PENDING, COMPLETED, FAILED], ids=lambda payment: payment.status)
@pytest.mark.parametrize("outcome", WRONG_MONEY, ids=str)
def test_money_that_does_not_fit_calls_a_person_once_and_changes_no_status(payment: Payment, outcome: Paid) -> None:
    change = decide(payment, outcome, at=LATER)
    assert change is not None
    difference = change.detail["difference"]
    assert change == attention(payment, AttentionReason.PAID_DIFFERENTLY.value, difference=difference)
    assert "expected" in difference
    assert decide(change.payment, outcome, at=LATER) is None


@pytest.mark.parametrize(
    ("payment", "calls"),
    [
        (PENDING, "unsettled"),
        (replace(PENDING, last_outcome="processing"), "unsettled"),
        (replace(PENDING, last_outcome="no_session"), "unknown_session"),
        (replace(PENDING, attention="unsettled", last_outcome="no_session"), "unknown_session"),
        (replace(PENDING, attention="unsettled"), None),
        (replace(PENDING, attention="unknown_session", last_outcome="processing"), None),
        (replace(PENDING, attention="paid_differently", last_outcome="no_session"), None),
        (COMPLETED, None),
        (FAILED, None),
    ],
    ids=str,
)
def test_a_pending_payment_that_cannot_be_finished_calls_a_person_once(payment: Payment, calls: str | None) -> None:
    tried = replace(payment, settle_attempts=12)
    said = {} if payment.last_outcome is None else {"gateway": payment.last_outcome}
    expected = calls and attention(tried, calls, payment.last_outcome, attempts="12", **said)
    assert unsettled(tried, at=LATER) == expected


@pytest.mark.parametrize("reason", AttentionReason)
def test_what_the_gateway_says_in_the_end_clears_attention_that_only_waited_for_it(reason: AttentionReason) -> None:
    disowned = LastOutcome.NO_SESSION if reason is AttentionReason.UNKNOWN_SESSION else None
    waiting = replace(PENDING, attention=reason.value, last_outcome=disowned)
    completed, expired = decide(waiting, PAID, at=LATER), decide(waiting, Expired(), at=LATER)
    assert completed is not None
    assert expired is not None
    assert completed.payment.attention is None
    kept = AttentionReason.PAID_DIFFERENTLY
    assert expired.payment.attention == (kept if reason is kept else None)


def test_a_session_that_was_ended_for_another_create_is_replaced() -> None:
    assert decide(PENDING, Expired(), at=LATER, replaced=True) == failed(PENDING, "replaced", "expired")
    refused = decide(PENDING, Refused(), at=LATER, replaced=True)
    assert refused == REFUSES


@pytest.mark.parametrize(
    ("payment", "outcome", "kept"),
    [
        (PENDING, Expired(), "expired"),
        (UNOPENED, None, None),
        (replace(PENDING, attention="unsettled"), Processing(), "processing"),
        (replace(PENDING, attention="unknown_session"), Unknown(cause=Cause.NO_SESSION), "no_session"),
        (replace(PENDING, attention="paid_differently"), WRONG_MONEY[0], "paid"),
    ],
    ids=str,
)
def test_an_operator_ends_a_pending_payment_for_good(payment: Payment, outcome: Outcome | None, kept: str) -> None:
    change = close(payment, outcome, at=LATER, by="ann", why="wrong account")
    said = {"gateway": kept} if kept else {}
    expected = failed(payment, "closed", kept, by="ann", why="wrong account", **said)
    assert change == replace(expected, payment=replace(expected.payment, closed_at=LATER))
    assert not change.payment.needs_person
    for wrong in WRONG_MONEY if payment.attention == "paid_differently" else []:
        assert decide(change.payment, wrong, at=LATER) is None, "it was dealt with"
    if payment.attention != "paid_differently":
        assert decide(change.payment, PAID, at=LATER) == replace(
            attention(change.payment, "paid_after_failed"),
            payment=replace(attention(change.payment, "paid_after_failed").payment, closed_at=None),
        ), "money that comes after all is told"


@pytest.mark.parametrize("payment", [COMPLETED, FAILED], ids=lambda payment: payment.status)
def test_what_needs_attention_of_a_final_payment_is_closed_and_its_status_stays(payment: Payment) -> None:
    looked_at = replace(payment, attention="paid_after_failed", last_outcome="paid", version=3)
    assert looked_at.needs_person
    change = close(looked_at, None, at=LATER, by="ann", why="refunded")
    assert change == after(looked_at, ChangeKind.CLOSED, {"by": "ann", "why": "refunded"}, closed_at=LATER)
    assert not change.payment.needs_person
    if payment is FAILED:
        assert decide(change.payment, PAID, at=LATER) is None


def test_silence_needs_no_person_to_let_the_booking_go_on() -> None:
    silent = replace(PENDING, attention="unsettled")
    assert not silent.needs_person
    assert replace(silent, last_outcome="processing").needs_person
    assert replace(PENDING, attention="unknown_session", last_outcome="no_session").needs_person
