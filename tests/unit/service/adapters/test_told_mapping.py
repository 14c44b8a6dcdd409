"""What Stripe says of a session at large, and of money after it was paid."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.adapters.stripe import charge_mapping, outcome_mapping
from service.application.ports import ChargeEvent, ChargePage, ToldSession
from service.domain.money import Money
from service.domain.outcomes import Open, Unknown
from service.domain.refunds import Dispute, Refund, RefundStatus
from tests.unit.service.adapters.test_outcome_mapping import a_list, a_session

AT = datetime(2026, 3, 2, tzinfo=UTC)
SECONDS = int(AT.timestamp())
METADATA: dict[str, Any] = {"bookingId": "41", "userId": "7", "paymentReference": "ref-1"}


def told(**changes: Any) -> ToldSession | Unknown:
    given: dict[str, Any] = {"created": SECONDS, "expires_at": SECONDS + 60, "amount_total": 1250, "currency": "INR"}
    urls = {"success_url": "https://shop.example/done", "cancel_url": "https://shop.example/back"}
    state = {"status": "open", "payment_status": "unpaid", "livemode": False, "url": "https://pay.example/a"}
    session = a_session(**given | urls | state | {"metadata": METADATA})
    return outcome_mapping.of_told(session | changes)


def test_a_session_of_ours_tells_all_that_makes_a_payment_of_it() -> None:
    session = told()
    assert isinstance(session, ToldSession)
    assert (session.outcome, session.payment_url, session.livemode) == (Open(), "https://pay.example/a", False)
    draft = session.draft
    assert draft is not None
    assert (draft.booking_id, draft.user_id, draft.reference, draft.money) == (41, 7, "ref-1", Money(1250, "inr"))
    assert (draft.created_at, draft.expires_at.timestamp()) == (AT, SECONDS + 60)
    assert (draft.success_url, draft.cancel_url) == ("https://shop.example/done", "https://shop.example/back")


def test_a_session_tells_what_was_asked_for_and_until_when_whatever_has_become_of_it() -> None:
    terms = {"amountMinor": "44997", "currency": "inr", "payUntil": str(SECONDS + 30)}
    session = told(metadata=METADATA | terms, amount_total=1, currency="usd")
    assert isinstance(session, ToldSession)
    assert session.money == Money(1, "usd")
    assert session.draft is not None
    assert session.draft.money == Money(44997, "inr")
    assert session.draft.pay_until == AT + timedelta(seconds=30)


@pytest.mark.parametrize("odd", [{"amountMinor": "1e3"}, {"amountMinor": 5}, {"payUntil": "soon"}, {"payUntil": "-1"}])
def test_terms_that_we_have_not_written_are_none(odd: dict[str, Any]) -> None:
    session = told(metadata=METADATA | {"currency": "inr"} | odd)
    assert isinstance(session, ToldSession)
    assert (session.asked, session.pay_until) == (None, None)


@pytest.mark.parametrize(
    "changes",
    [
        *({"metadata": METADATA | {"bookingId": odd}} for odd in (None, 41, "", "0", "-1", "4 1", "٤", str(2**63))),
        *({"metadata": METADATA | {"userId": odd}} for odd in (None, 7, "", "07")),
        {"amount_total": None},
        {"amount_total": 0},
        {"currency": None},
        {"expires_at": None},
    ],
    ids=str,
)
def test_what_does_not_say_enough_is_ours_but_makes_no_payment(changes: dict[str, Any]) -> None:
    session = told(**changes)
    assert isinstance(session, ToldSession)
    assert (session.reference, session.draft) == ("ref-1", None)


@pytest.mark.parametrize("metadata", [None, {}, [], {"paymentReference": 5}, {"bookingId": "41"}], ids=str)
def test_without_our_reference_it_is_a_strangers(metadata: Any) -> None:
    session = told(metadata=metadata)
    assert isinstance(session, ToldSession)
    assert (session.reference, session.draft) == (None, None)


@pytest.mark.parametrize(
    "changes",
    [{"id": "cs_../x"}, {"created": "now"}, {"created": 10**20}, {"currency": "in"}, {"amount_total": "1250"}],
    ids=str,
)
def test_a_session_that_makes_no_sense_is_unknown(changes: dict[str, Any]) -> None:
    assert isinstance(told(**changes), Unknown)


def event(**subject: Any) -> dict[str, Any]:
    return {"id": "evt_1", "created": SECONDS, "data": {"object": subject}}


CHARGE = {"object": "charge", "metadata": METADATA, "payment_intent": "pi_1", "amount_refunded": 250}
DISPUTE = {
    "object": "dispute",
    "id": "du_1",
    "metadata": {},
    "payment_intent": "pi_1",
    "status": "needs_response",
    "reason": "fraudulent",
    "amount": 1000,
}


def test_refunds_and_disputes_are_read_from_their_events() -> None:
    page = charge_mapping.of_events(a_list(event(**DISPUTE), event(**CHARGE), has_more=True))
    assert page == ChargePage(
        events=[
            ChargeEvent(
                id="evt_1",
                at=AT,
                reference=None,
                payment_intent="pi_1",
                dispute=Dispute(id="du_1", status="needs_response", reason="fraudulent", minor=1000),
            ),
            ChargeEvent(id="evt_1", at=AT, reference="ref-1", payment_intent="pi_1", refunded_minor=250),
        ],
        next="evt_1",
    )


def test_a_refund_is_whole_when_stripe_says_so() -> None:
    page = charge_mapping.of_events(a_list(event(**CHARGE, refunded=True), event(**CHARGE, refunded=False)))
    assert isinstance(page, ChargePage)
    assert [told.is_whole for told in page.events] == [True, False]


def refund(status: str, **changes: Any) -> dict[str, Any]:
    subject = {"object": "refund", "id": "re_1", "amount": 250, "payment_intent": "pi_1", "status": status}
    return event(**subject | {"metadata": METADATA} | changes)


def test_a_refund_is_told_with_its_status_of_which_two_are_an_end_without_the_money() -> None:
    statuses = {
        "pending": RefundStatus.STANDS,
        "requires_action": RefundStatus.OPEN,
        "succeeded": RefundStatus.STANDS,
        "canceled": RefundStatus.CANCELED,
        "failed": RefundStatus.FAILED,
        "Call +49 151": RefundStatus.OPEN,
    }
    page = charge_mapping.of_events(a_list(*map(refund, statuses)))
    assert isinstance(page, ChargePage)
    refunds = [Refund(id="re_1", minor=250, status=status) for status in statuses.values()]
    assert [each.refund for each in page.events] == refunds
    assert [each.has_failed for each in refunds] == [False, False, False, True, True, False]
    assert [each.stands for each in refunds] == [True, False, True, False, False, False]
    assert {(each.reference, each.at, each.refunded_minor) for each in page.events} == {(None, AT, 0)}, (
        "its time counts"
    )


def test_words_that_are_no_words_of_stripes_are_not_passed_on() -> None:
    page = charge_mapping.of_events(a_list(event(**DISPUTE | {"status": "Call +49 151", "reason": None})))
    assert isinstance(page, ChargePage)
    [told] = page.events
    assert told.dispute is not None
    assert (told.dispute.status, told.dispute.reason) == ("other", "other")


@pytest.mark.parametrize(
    "odd",
    [
        {"id": "evt_1", "created": SECONDS, "data": None},
        {"id": None, "created": SECONDS, "data": {"object": CHARGE}},
        event(**CHARGE | {"amount_refunded": None}),
        event(**DISPUTE | {"amount": "all"}),
        event(**DISPUTE | {"id": None}),
        refund("failed", amount="all"),
        refund("failed", id=None),
    ],
    ids=str,
)
def test_what_cannot_be_read_is_passed_over_and_the_rest_is_read(odd: dict[str, Any]) -> None:
    page = charge_mapping.of_events(a_list(odd, event(**CHARGE)))
    assert isinstance(page, ChargePage)
    assert [each.refunded_minor for each in page.events] == [250]


def test_a_list_that_is_none_is_unknown() -> None:
    assert isinstance(charge_mapping.of_events({"data": "none"}), Unknown)
