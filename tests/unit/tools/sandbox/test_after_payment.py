"""What follows the page: delayed payment methods, refunds and disputes, with Stripe's events and shapes."""

from typing import Any

import pytest
import stripe
from stripe.checkout import Session

from tests.unit.tools.sandbox import shapes
from tests.unit.tools.sandbox.caller import SESSIONS, Caller

METADATA = {"paymentId": "70"}
"""What ``create_params`` sends as ``payment_intent_data``."""
SUBJECTS: dict[str, type] = {
    "charge": stripe.Charge,
    "checkout.session": Session,
    "dispute": stripe.Dispute,
    "payment_intent": stripe.PaymentIntent,
    "refund": stripe.Refund,
}
BEGUN = ["payment_intent.created", "payment_intent.processing", "checkout.session.completed"]
PAID = ["payment_intent.succeeded", "checkout.session.async_payment_succeeded"]
FAILED = ["payment_intent.payment_failed", "checkout.session.async_payment_failed"]


@pytest.fixture
def caller() -> Caller:
    return Caller()


async def act(caller: Caller, identifier: str, what: str, *, expected: int = 200, **body: Any) -> Any:
    return await caller.control(f"sessions/{identifier}/{what}", body, expected=expected)


async def told(caller: Caller, **params: Any) -> list[Any]:
    """The events, oldest first, each of the declared shape."""
    events = (await caller.events(**params))[::-1]
    for event in events:
        subject = event["data"]["object"]
        assert shapes.problems(event, stripe.Event) == []
        assert shapes.problems(subject, SUBJECTS[subject["object"]]) == []
    return events


async def paid(caller: Caller) -> str:
    identifier: str = (await caller.create())["id"]
    await caller.pay(identifier)
    return identifier


# --- delayed payment methods ------------------------------------------------------------------------------------------


ENDS: dict[str, tuple[list[str], str, str, int]] = {
    # events, payment_status, status of the PaymentIntent, amount_received
    "unpaid": ([], "unpaid", "processing", 0),
    "paid": (PAID, "paid", "succeeded", 44997),
    "failed": (FAILED, "unpaid", "requires_payment_method", 0),
}


@pytest.mark.parametrize("outcomes", ["unpaid", "unpaid paid", "unpaid failed", "paid", "failed"])
async def test_a_delayed_payment_completes_the_session_first_and_ends_later(caller: Caller, outcomes: str) -> None:
    events, payment_status, intent_status, received = ENDS[outcomes.rsplit(maxsplit=1)[-1]]
    identifier = (await caller.create())["id"]
    for outcome in outcomes.split():
        session = await act(caller, identifier, "settle", outcome=outcome)
        assert shapes.problems(session, Session) == []
    assert session == await caller.session(identifier)
    assert (session["status"], session["payment_status"], session["url"]) == ("complete", payment_status, None)
    intent = await caller.get(f"/v1/payment_intents/{session['payment_intent']}", expand=["latest_charge"])
    assert (intent["status"], intent["amount_received"]) == (intent_status, received)
    if events:
        assert shapes.problems(intent["latest_charge"], stripe.Charge) == []
        assert intent["latest_charge"]["paid"] is (payment_status == "paid")
    seen = await told(caller)
    assert [event["type"] for event in seen] == BEGUN + events
    assert [e["data"]["object"]["payment_status"] for e in seen if e["type"] == BEGUN[-1]] == ["unpaid"]


async def test_another_amount_than_asked_is_collected_everywhere(caller: Caller) -> None:
    identifier = (await caller.create())["id"]
    session = await act(caller, identifier, "settle", outcome="paid", amount_total=100)
    assert (session["amount_total"], session["currency"], session["payment_status"]) == (100, "inr", "paid")
    intent = await caller.get(f"/v1/payment_intents/{session['payment_intent']}", expand=["latest_charge"])
    assert (intent["amount"], intent["amount_received"], intent["latest_charge"]["amount"]) == (100, 100, 100)
    [event] = await told(caller, type="checkout.session.async_payment_succeeded")
    assert event["data"]["object"] == session


async def test_the_amount_may_change_while_the_payment_is_under_way(caller: Caller) -> None:
    identifier = (await caller.create())["id"]
    await act(caller, identifier, "settle", outcome="unpaid")
    session = await act(caller, identifier, "settle", outcome="paid", amount_total=44_900)
    refund = await act(caller, identifier, "refund")
    assert session["amount_total"] == refund["amount"] == 44_900


async def test_an_attempt_with_a_card_and_a_delayed_one_share_the_payment_intent(caller: Caller) -> None:
    identifier = (await caller.create())["id"]
    declined = await caller.pay(identifier, "4000 0000 0000 0002")
    session = await act(caller, identifier, "settle", outcome="paid")
    assert session["payment_intent"] == declined["payment_intent"]


@pytest.mark.parametrize("outcome", ["paid", "failed", "unpaid"])
async def test_a_payment_that_has_ended_is_not_settled_again(caller: Caller, outcome: str) -> None:
    by_card, failed, expired = await paid(caller), (await caller.create())["id"], (await caller.create())["id"]
    await act(caller, failed, "settle", outcome="failed")
    await caller.expire(expired)
    before = await caller.control("ledger")
    for identifier, words in (
        (by_card, "complete and paid"),
        (failed, "complete and unpaid"),
        (expired, "expired and unpaid"),
    ):
        refused = await act(caller, identifier, "settle", outcome=outcome, amount_total=1, expected=409)
        assert words in refused["error"]
    assert await caller.control("ledger") == before


async def test_a_failed_payment_cannot_be_a_second_charge_of_its_booking(caller: Caller) -> None:
    for outcome in ("failed", "unpaid"):
        await act(caller, (await caller.create())["id"], "settle", outcome=outcome)
    assert (await caller.control("stats"))["max_payable_per_booking"] == 1
    await caller.create()
    assert (await caller.control("stats"))["max_payable_per_booking"] == 2


async def test_a_payment_under_way_is_not_begun_again_and_its_session_neither_paid_nor_expired(caller: Caller) -> None:
    identifier = (await caller.create())["id"]
    await act(caller, identifier, "settle", outcome="unpaid")
    assert "under way already" in (await act(caller, identifier, "settle", outcome="unpaid", expected=409))["error"]
    await caller.pay(identifier, expected=409)
    assert (await caller.expire(identifier)).status == 400


# --- refunds and disputes ---------------------------------------------------------------------------------------------


async def test_a_refund_in_parts_adds_up_and_says_when_all_is_back(caller: Caller) -> None:
    identifier = await paid(caller)
    session = await caller.session(identifier)
    first, second = await act(caller, identifier, "refund", amount=997), await act(caller, identifier, "refund")
    for refund, amount in ((first, 997), (second, 44_000)):
        assert shapes.problems(refund, stripe.Refund) == []
        assert (refund["amount"], refund["currency"], refund["status"]) == (amount, "inr", "succeeded")
        assert refund["payment_intent"] == session["payment_intent"]
    seen = await told(caller, types=["charge.refunded"])
    charges = [event["data"]["object"] for event in seen]
    assert [(charge["amount_refunded"], charge["refunded"]) for charge in charges] == [(997, False), (44_997, True)]
    assert [event["data"]["previous_attributes"] for event in seen] == [
        {"amount_refunded": 0},
        {"amount_refunded": 997, "refunded": False},
    ]
    assert {charge["payment_intent"] for charge in charges} == {session["payment_intent"]}
    assert await caller.session(identifier) == session, "a refund changes no session"


async def test_a_refund_has_all_of_stripes_events(caller: Caller) -> None:
    identifier = await paid(caller)
    await act(caller, identifier, "refund")
    seen = await told(caller, types=["charge.refunded", "charge.refund.updated", "refund.*"])
    kinds = ["refund.created", "charge.refunded", "refund.updated", "charge.refund.updated"]
    assert [event["type"] for event in seen] == kinds
    assert [set(event["data"]) - {"object"} for event in seen] == [set(), *[{"previous_attributes"}] * 3]


async def test_a_refund_that_fails_leaves_the_charge_as_it_was_and_says_so(caller: Caller) -> None:
    identifier = await paid(caller)
    await act(caller, identifier, "refund", amount=997)
    failed = await act(caller, identifier, "refund", fail=True)
    assert shapes.problems(failed, stripe.Refund) == []
    assert (failed["amount"], failed["status"]) == (44_000, "failed")
    seen = await told(caller, types=["charge.refunded", "charge.refund.updated", "refund.*"])
    made = ["refund.created", "charge.refunded", "refund.updated", "charge.refund.updated"]
    kinds = ["refund.updated", "charge.refund.updated", "refund.failed"]
    assert [event["type"] for event in seen] == [*made, *made, *kinds]
    for event in seen[8:]:
        assert event["data"]["object"] == failed
        assert event["data"]["previous_attributes"] == {
            "failure_balance_transaction": None,
            "failure_reason": None,
            "status": "succeeded",
        }
    again = await act(caller, identifier, "refund")
    assert again["amount"] == 44_000, "what has come back can be given back again"


async def test_an_earlier_refund_fails_once_and_as_a_whole(caller: Caller) -> None:
    identifier, other = await paid(caller), await paid(caller)
    refund = await act(caller, identifier, "refund", amount=997)
    for body in ({}, {"fail": True, "amount": 5}):
        wrong = await act(caller, identifier, "refund", refund=refund["id"], expected=400, **body)
        assert wrong["error"].startswith("refund: ")
    for session, name in ((other, refund["id"]), (identifier, "re_unknown")):
        wrong = await act(caller, session, "refund", refund=name, fail=True, expected=409)
        assert wrong["error"] == "This session has no such refund."
    assert (await act(caller, identifier, "refund", refund=refund["id"], fail=True))["id"] == refund["id"]
    wrong = await act(caller, identifier, "refund", refund=refund["id"], fail=True, expected=409)
    assert wrong["error"] == "The refund has failed already."


async def test_a_dispute_has_all_of_stripes_events(caller: Caller) -> None:
    identifier = await paid(caller)
    await act(caller, identifier, "refund", amount=997)
    dispute = await act(caller, identifier, "dispute")
    assert shapes.problems(dispute, stripe.Dispute) == []
    assert (dispute["amount"], dispute["currency"], dispute["status"]) == (44_000, "inr", "needs_response")
    seen = await told(caller, type="charge.dispute.*")
    assert [event["type"] for event in seen] == ["charge.dispute.created", "charge.dispute.funds_withdrawn"]
    assert [event["data"]["object"] for event in seen] == [dispute, dispute]


async def test_a_dispute_goes_on_and_brings_the_money_back_when_it_is_won(caller: Caller) -> None:
    won, lost = await paid(caller), await paid(caller)
    for identifier, status in ((won, "won"), (lost, "lost")):
        assert "not disputed" in (await act(caller, identifier, "dispute", status=status, expected=409))["error"]
        await act(caller, identifier, "dispute")
        reviewed = await act(caller, identifier, "dispute", status="under_review")
        ended = await act(caller, identifier, "dispute", status=status)
        for dispute in (reviewed, ended):
            assert shapes.problems(dispute, stripe.Dispute) == []
        for again in ("needs_response", status):
            error = (await act(caller, identifier, "dispute", status=again, expected=409))["error"]
            assert error == f"The dispute is {status}."
        assert sum(each["amount"] for each in ended["balance_transactions"]) == (0 if status == "won" else -44_997)
    kinds = [event["type"].rpartition(".")[2] for event in await told(caller, type="charge.dispute.*")]
    begun = ["created", "funds_withdrawn", "updated"]
    assert kinds == [*begun, "updated", "funds_reinstated", "closed", *begun, "updated", "closed"]


@pytest.mark.parametrize("outcome", ["paid", "card"])
async def test_what_follows_a_payment_leads_back_to_its_session(caller: Caller, outcome: str) -> None:
    other, identifier = await paid(caller), (await caller.create())["id"]
    if outcome == "card":
        await caller.pay(identifier)
    else:
        await act(caller, identifier, "settle", outcome=outcome)
    await act(caller, identifier, "refund", amount=1)
    await act(caller, identifier, "dispute")
    for event in await told(caller, types=["charge.refunded", "charge.dispute.created"]):
        subject = event["data"]["object"]
        assert subject["metadata"] == (METADATA if subject["object"] == "charge" else {})
        for status in ({}, {"status": "complete"}):
            page = await caller.get(SESSIONS, payment_intent=subject["payment_intent"], **status)
            assert [session["id"] for session in page["data"]] == [identifier] != [other]
        assert (await caller.get(SESSIONS, payment_intent=subject["payment_intent"], status="open"))["data"] == []
    assert (await caller.get(SESSIONS, payment_intent="pi_unknown"))["data"] == []


async def test_a_list_of_sessions_shows_their_charges_when_asked(caller: Caller) -> None:
    identifier = await paid(caller)
    await caller.create()
    await act(caller, identifier, "refund", amount=997)
    await act(caller, identifier, "dispute")
    sessions = (await caller.get(SESSIONS, expand=["data.payment_intent.latest_charge"]))["data"]
    assert [shapes.problems(session, Session) for session in sessions] == [[], []]
    assert sessions[0]["payment_intent"] is None
    charge = sessions[1]["payment_intent"]["latest_charge"]
    assert shapes.problems(charge, stripe.Charge) == []
    assert (charge["amount_refunded"], charge["refunded"], charge["disputed"]) == (997, False, True)


async def test_no_more_is_given_back_than_was_paid(caller: Caller) -> None:
    identifier = await paid(caller)
    refused = await act(caller, identifier, "refund", amount=44_998, expected=400)
    assert refused["error"] == "Refund amount (₹449.98) is greater than unrefunded amount on charge (₹449.97)."
    await act(caller, identifier, "refund")
    for what, words in (("refund", "has been refunded already"), ("dispute", "nothing to dispute")):
        assert words in (await act(caller, identifier, what, expected=409))["error"]


async def test_a_disputed_charge_is_neither_refunded_nor_disputed_again(caller: Caller) -> None:
    identifier = await paid(caller)
    await act(caller, identifier, "dispute")
    for what in ("refund", "dispute"):
        assert "disputed" in (await act(caller, identifier, what, expected=409))["error"]


async def test_what_is_not_paid_is_neither_refunded_nor_disputed(caller: Caller) -> None:
    under_way, failed = (await caller.create())["id"], (await caller.create())["id"]
    await act(caller, under_way, "settle", outcome="unpaid")
    await act(caller, failed, "settle", outcome="failed")
    for identifier in (under_way, failed):
        for what in ("refund", "dispute"):
            assert "complete and unpaid" in (await act(caller, identifier, what, expected=409))["error"]
