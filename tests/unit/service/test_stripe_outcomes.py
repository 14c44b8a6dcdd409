"""Stripe's answers in our words: complete against the SDK's own declarations, and never optimistic."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Literal, get_args, get_origin

import aiohttp
import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st
from stripe.checkout import Session

from service.adapters.stripe import outcomes
from service.application.ports import Page
from service.domain.money import Money
from service.domain.outcomes import (
    Expired,
    Open,
    Opened,
    OutcomeKind,
    Paid,
    Processing,
    Refused,
    Unknown,
    UnknownCause,
)
from tests.service_support import QUICK


def literals(name: str) -> list[str]:
    """The values that the SDK declares for a member of a checkout session."""

    def found(hint: Any) -> Iterator[str]:
        if get_origin(hint) is Literal:
            yield from get_args(hint)
        for part in get_args(hint):
            if not isinstance(part, str):
                yield from found(part)

    return list(found(Session.__annotations__[name]))


STATUSES, PAYMENT_STATUSES = literals("status"), literals("payment_status")


def a_session(**changes: Any) -> dict[str, Any]:
    members: dict[str, Any] = {
        "id": "cs_test_a1",
        "object": "checkout.session",
        "status": "complete",
        "payment_status": "paid",
        "amount_total": 44997,
        "currency": "inr",
        "livemode": False,
        "url": "https://checkout.stripe.com/c/pay/cs_test_a1#fid",
        "expires_at": 1_800_000_000,
        "metadata": {"paymentReference": "ref-1", "bookingId": "7"},
    }
    return members | changes


# --- sessions -------------------------------------------------------------------------------------------------------

MEANINGS = {
    ("open", "unpaid"): OutcomeKind.OPEN,
    ("expired", "unpaid"): OutcomeKind.EXPIRED,
    ("complete", "unpaid"): OutcomeKind.PROCESSING,
    ("complete", "paid"): OutcomeKind.PAID,
    ("complete", "no_payment_required"): OutcomeKind.PAID,
}


def test_the_sdk_declares_the_states_that_we_know() -> None:
    assert set(STATUSES) == {"open", "complete", "expired"}
    assert set(PAYMENT_STATUSES) == {"paid", "unpaid", "no_payment_required"}


@pytest.mark.parametrize("status", [*STATUSES, None, "new-state"])
@pytest.mark.parametrize("payment_status", [*PAYMENT_STATUSES, None, "new-state"])
def test_every_state_of_a_session_has_a_meaning(status: str | None, payment_status: str | None) -> None:
    outcome = outcomes.of_session(a_session(status=status, payment_status=payment_status))
    assert outcome.kind is MEANINGS.get((status or "", payment_status or ""), OutcomeKind.UNKNOWN)


@pytest.mark.parametrize("value", [None, "", "OPEN", "Complete", 0, True, [], {}, ["open"], "open ", "succeeded"])
def test_a_state_that_is_not_word_for_word_known_is_unknown(value: Any) -> None:
    for changes in ({"status": value}, {"payment_status": value}):
        outcome = outcomes.of_session(a_session(**changes))
        assert isinstance(outcome, Unknown)
        assert outcome.cause is UnknownCause.UNREADABLE
    assert isinstance(outcomes.of_session({}), Unknown)


def test_paid_money_is_what_stripe_says() -> None:
    assert outcomes.of_session(a_session()) == Paid(money=Money(44997, "inr"), reference="ref-1", livemode=False)
    upper = outcomes.of_session(a_session(currency="INR", livemode=True))
    assert upper == Paid(money=Money(44997, "inr"), reference="ref-1", livemode=True)


def test_a_payment_that_was_not_required_collected_nothing() -> None:
    outcome = outcomes.of_session(a_session(payment_status="no_payment_required"))
    assert isinstance(outcome, Paid)
    assert outcome.money == Money(0, "inr")


@pytest.mark.parametrize(
    "changes",
    [{"amount_total": value} for value in (None, "44997", 44997.0, True, [])]
    + [{"currency": value} for value in (None, "", 7, ["inr"])],
    ids=str,
)
def test_paid_money_that_cannot_be_read_is_unknown(changes: dict[str, Any]) -> None:
    assert isinstance(outcomes.of_session(a_session(**changes)), Unknown)


@pytest.mark.parametrize("metadata", [None, [], "ref-1", {}, {"other": "ref-1"}])
def test_money_without_our_reference_has_none(metadata: Any) -> None:
    outcome = outcomes.of_session(a_session(metadata=metadata))
    assert isinstance(outcome, Paid)
    assert outcome.reference is None


def test_a_created_session_is_opened() -> None:
    assert outcomes.of_created(a_session(status="open")) == Opened(
        session_id="cs_test_a1",
        payment_url="https://checkout.stripe.com/c/pay/cs_test_a1#fid",
        expires_at=datetime.fromtimestamp(1_800_000_000, UTC),
    )


@pytest.mark.parametrize(
    "changes",
    [{"id": value} for value in (None, "", 7)]
    + [{"url": value} for value in (None, "", 7)]
    + [{"expires_at": value} for value in (None, "1800000000", 1.8e9, True, 10**20, -(10**20))],
    ids=str,
)
def test_a_created_session_that_cannot_be_read_is_unknown(changes: dict[str, Any]) -> None:
    assert isinstance(outcomes.of_created(a_session(**changes)), Unknown)


def test_a_session_found_after_its_end_has_no_page_any_more() -> None:
    found = outcomes.of_found(a_session(url=None))
    assert isinstance(found, Opened)
    assert (found.session_id, found.payment_url) == ("cs_test_a1", None)


# --- errors ---------------------------------------------------------------------------------------------------------


def tree(error: type[stripe.StripeError] = stripe.StripeError) -> Iterator[type[stripe.StripeError]]:
    yield error
    for child in error.__subclasses__():
        yield from tree(child)


ERRORS = sorted(set(tree()), key=lambda error: f"{error.__module__}.{error.__name__}")


def test_every_class_of_the_sdks_error_tree_is_translated() -> None:
    assert len(ERRORS) >= 37
    assert set(ERRORS) == set(outcomes.ERROR_CAUSES)


def raised(error: type[stripe.StripeError], status: int | None = 400, **body: Any) -> stripe.StripeError:
    made: stripe.StripeError = error.__new__(error)
    stripe.StripeError.__init__(
        made,
        "prose that nobody may see",
        http_status=status,
        json_body={"error": body},
        headers={"request-id": "req_1"},
    )
    return made


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_only_a_definite_refusal_of_this_request_is_refused(error: type[stripe.StripeError]) -> None:
    for status in (None, 200, 400, 401, 402, 403, 404, 409, 424, 429, 500, 503):
        outcome = outcomes.of_error(raised(error, status, code="some_code"))
        definite = error in {stripe.InvalidRequestError, stripe.CardError} and status in {400, 402}
        assert isinstance(outcome, Refused) == definite
        assert "prose" not in outcome.detail
        assert "req_1" in outcome.detail


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (stripe.AuthenticationError, UnknownCause.DENIED),
        (stripe.PermissionError, UnknownCause.DENIED),
        (stripe.RateLimitError, UnknownCause.BUSY),
        (stripe.APIError, UnknownCause.FAILED),
        (stripe.APIConnectionError, UnknownCause.FAILED),
        (stripe.IdempotencyError, UnknownCause.FAILED),
    ],
)
def test_an_error_has_its_cause(error: type[stripe.StripeError], cause: UnknownCause) -> None:
    outcome = outcomes.of_error(raised(error))
    assert isinstance(outcome, Unknown)
    assert outcome.cause is cause


def test_a_key_in_use_means_busy() -> None:
    outcome = outcomes.of_error(raised(stripe.APIError, 409, code="idempotency_key_in_use"))
    assert isinstance(outcome, Unknown)
    assert outcome.cause is UnknownCause.BUSY


@pytest.mark.parametrize("error", [TimeoutError(), aiohttp.ServerTimeoutError()])
def test_a_timeout_is_a_timeout_however_it_arrives(error: Exception) -> None:
    wrapped = stripe.APIConnectionError("prose")
    wrapped.__cause__ = error
    for arrived in (error, wrapped):
        assert outcomes.of_error(arrived) == Unknown(cause=UnknownCause.TIMEOUT, detail="no answer in time")


@pytest.mark.parametrize("error", [aiohttp.ClientPayloadError("x"), ValueError("x"), RuntimeError("x"), OSError("x")])
def test_an_error_from_below_the_sdk_is_unknown(error: Exception) -> None:
    assert outcomes.of_error(error) == Unknown(cause=UnknownCause.FAILED, detail=type(error).__name__)


# --- whatever arrives -----------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from([*STATUSES, *PAYMENT_STATUSES, "inr"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
MEMBERS = ["id", "status", "payment_status", "amount_total", "currency", "livemode", "url", "expires_at", "metadata"]


@QUICK
@given(st.dictionaries(st.sampled_from(MEMBERS) | st.text(max_size=8), JSON, max_size=10))
def test_no_session_made_up_is_ever_paid(session: dict[str, Any]) -> None:
    assert outcomes.of_created(session).kind in {OutcomeKind.OPENED, OutcomeKind.UNKNOWN}
    assert outcomes.of_found(session).kind in {OutcomeKind.OPENED, OutcomeKind.UNKNOWN}
    kind = outcomes.of_session(session).kind
    assert kind is MEANINGS.get(
        (str(session.get("status")), str(session.get("payment_status"))), OutcomeKind.UNKNOWN
    ) or (kind is OutcomeKind.UNKNOWN)


@QUICK
@given(st.sampled_from(MEMBERS), JSON)
def test_a_paid_session_with_one_member_bent_is_paid_exactly_as_it_says_or_unknown(name: str, value: Any) -> None:
    bent = a_session(**{name: value})
    outcome = outcomes.of_session(bent)
    if isinstance(outcome, Paid):
        assert bent["status"] == "complete"
        assert (outcome.money.minor, outcome.livemode) == (
            0 if bent["payment_status"] == "no_payment_required" else bent["amount_total"],
            bent["livemode"] is True,
        )
    elif name not in {"status", "payment_status"}:
        assert isinstance(outcome, Unknown)
    else:
        assert isinstance(outcome, Unknown | Processing | Open | Expired)


@QUICK
@given(JSON)
def test_no_error_body_breaks_the_translation(error_body: Any) -> None:
    for json_body in ({"error": error_body}, {"error": {"code": error_body, "param": error_body}}, error_body):
        error = stripe.InvalidRequestError(
            "m", None, http_status=400, http_body=json.dumps(json_body), json_body=json_body, headers={}
        )
        outcome = outcomes.of_error(error)
        assert isinstance(outcome, Refused | Unknown)
        assert len(outcome.detail) <= 200


# --- events and lists -------------------------------------------------------------------------------------------------


def an_event(nth: int, session: Any) -> dict[str, Any]:
    return {"id": f"evt_{nth}", "object": "event", "created": 1_700_000_000 + nth, "data": {"object": session}}


def a_list(*members: Any, has_more: Any = False) -> dict[str, Any]:
    return {"object": "list", "data": list(members), "has_more": has_more}


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("payment_status", PAYMENT_STATUSES)
def test_only_a_session_that_has_ended_for_good_concludes_anything(status: str, payment_status: str) -> None:
    session = a_session(status=status, payment_status=payment_status)
    page = outcomes.of_events(a_list(an_event(1, session)))
    assert isinstance(page, Page)
    [told] = page.told
    stands = outcomes.of_session(session)
    assert told.outcome == (stands if isinstance(stands, Paid | Expired) else None)
    assert (told.outcome is None) == ((status, payment_status) not in {*ENDED})
    assert (told.id, told.session_id, told.at) == (
        "evt_1",
        "cs_test_a1",
        datetime(2023, 11, 14, 22, 13, 21, tzinfo=UTC),
    )


ENDED = [("complete", "paid"), ("complete", "no_payment_required"), ("expired", "unpaid")]


@pytest.mark.parametrize(
    "odd",
    [
        {"id": "evt_2"},
        an_event(2, None),
        an_event(2, {"id": "pi_1", "object": "payment_intent"}),
        an_event(2, a_session(id="../x")),
        an_event(2, a_session()) | {"id": "evt_2", "created": "yesterday"},
        an_event(2, a_session()) | {"id": "evt_2", "created": 10**30},
    ],
    ids=str,
)
def test_what_tells_of_no_session_is_passed_over_and_the_list_is_read_on(odd: dict[str, Any]) -> None:
    page = outcomes.of_events(a_list(an_event(1, a_session()), odd, has_more=True))
    assert isinstance(page, Page)
    assert [told.id for told in page.told] == ["evt_1"]
    assert page.next == "evt_2"
    assert outcomes.of_events(a_list(odd, has_more=True)) == Page(told=[], next="evt_2")


def test_a_list_ends_where_it_says_so() -> None:
    assert outcomes.of_sessions(a_list()) == outcomes.of_events(a_list(has_more=True)) == Page(told=[], next=None)
    page = outcomes.of_sessions(a_list(a_session(created=1_700_000_000)))
    assert isinstance(page, Page)
    assert page.next is None
    assert [(told.id, told.session_id) for told in page.told] == [("cs_test_a1", "cs_test_a1")]


@pytest.mark.parametrize(
    "answer",
    [{}, {"data": None}, {"data": {"id": "evt_1"}}, a_list("evt_1"), a_list({"object": "event"}, has_more=True)],
    ids=str,
)
def test_a_list_that_cannot_be_read_is_unknown_and_not_empty(answer: dict[str, Any]) -> None:
    for read in (outcomes.of_events, outcomes.of_sessions):
        page = read(answer)
        assert isinstance(page, Unknown)
        assert page.cause is UnknownCause.UNREADABLE
