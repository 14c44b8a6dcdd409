"""Stripe's answers as outcomes: complete against the SDK's own declarations, and never optimistic."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Literal, get_args, get_origin

import aiohttp
import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st
from stripe.checkout import Session

from service.adapters.stripe import outcome_mapping
from service.application.ports import EventPage
from service.domain.money import Money
from service.domain.outcomes import Expired, Open, Opened, Outcome, Paid, Processing, Refused, Unknown, UnknownCause
from tests.kit.service import QUICK


def literals(name: str) -> list[str]:
    """The values that the SDK declares for a member of a checkout session."""

    def found(hint: Any) -> Iterator[str]:
        if get_origin(hint) is Literal:
            yield from get_args(hint)
        for part in get_args(hint):
            if not isinstance(part, str):
                yield from found(part)

    return list(found(Session.__annotations__[name]))


def codes() -> set[str]:
    """All that the SDK declares of an error."""

    def found(hint: Any) -> Iterator[str]:
        yield from (part for part in get_args(hint) if isinstance(part, str))
        for part in get_args(hint):
            yield from () if isinstance(part, str) else found(part)

    return set(found(stripe.PaymentIntent.LastPaymentError.__annotations__["code"]))


STATUSES, PAYMENT_STATUSES = literals("status"), literals("payment_status")
URL = "https://checkout.stripe.com/c/pay/cs_test_a1#fid"


def a_session(**changes: Any) -> dict[str, Any]:
    members: dict[str, Any] = {
        "id": "cs_test_a1",
        "object": "checkout.session",
        "status": "complete",
        "payment_status": "paid",
        "amount_total": 44997,
        "currency": "inr",
        "livemode": False,
        "url": URL,
        "expires_at": 1_800_000_000,
        "metadata": {"paymentReference": "ref-1", "bookingId": "7"},
    }
    return members | changes


def cause(outcome: Outcome | EventPage) -> UnknownCause | None:
    return outcome.cause if isinstance(outcome, Unknown) else None


# --- sessions -------------------------------------------------------------------------------------------------------

MEANINGS = {
    ("open", "unpaid"): Open,
    ("expired", "unpaid"): Expired,
    ("complete", "unpaid"): Processing,
    ("complete", "paid"): Paid,
    ("complete", "no_payment_required"): Paid,
}


def test_the_sdk_declares_the_states_that_the_mapping_knows() -> None:
    assert set(STATUSES) == {"open", "complete", "expired"}
    assert set(PAYMENT_STATUSES) == {"paid", "unpaid", "no_payment_required"}


@pytest.mark.parametrize("status", [*STATUSES, None, "new-state"])
@pytest.mark.parametrize("payment_status", [*PAYMENT_STATUSES, None, "new-state"])
def test_every_state_of_a_session_has_a_meaning(status: str | None, payment_status: str | None) -> None:
    """In a list of events only a session that has ended for good has an outcome."""
    session = a_session(status=status, payment_status=payment_status)
    outcome = outcome_mapping.of_session(session)
    assert type(outcome) is MEANINGS.get((status or "", payment_status or ""), Unknown)
    page = outcome_mapping.of_events(a_list(an_event(1, session)))
    assert isinstance(page, EventPage)
    [event] = page.events
    assert event.outcome == (outcome if isinstance(outcome, Paid | Expired) else None)
    at = datetime(2023, 11, 14, 22, 13, 21, tzinfo=UTC)
    assert (event.id, event.session_id, event.at) == ("evt_1", "cs_test_a1", at)


@pytest.mark.parametrize(
    ("changes", "money", "reference", "livemode"),
    [
        ({}, 44997, "ref-1", False),
        ({"currency": "INR", "livemode": True}, 44997, "ref-1", True),
        ({"livemode": "true"}, 44997, "ref-1", False),
        ({"payment_status": "no_payment_required"}, 0, "ref-1", False),
        *(({"metadata": value}, 44997, None, False) for value in (None, [], "ref-1", {}, {"other": "ref-1"})),
    ],
    ids=str,
)
def test_paid_money_is_what_stripe_says(
    changes: dict[str, Any], money: int, reference: str | None, *, livemode: bool
) -> None:
    expected = Paid(money=Money(money, "inr"), reference=reference, livemode=livemode)
    assert outcome_mapping.of_session(a_session(**changes)) == expected


ODD_STATES = [None, "", "OPEN", "Complete", 0, True, [], {}, ["open"], "open ", "succeeded"]
UNREADABLE: dict[str, list[Any]] = {
    "status": ODD_STATES,
    "payment_status": ODD_STATES,
    "amount_total": [None, "44997", 44997.0, True, []],
    "currency": [None, "", 7, ["inr"]],
}
UNREADABLE_WHEN_CREATED: dict[str, list[Any]] = {
    "id": [None, "", 7],
    "url": [None, "", 7],
    "expires_at": [None, "1800000000", 1.8e9, True, 10**20, -(10**20)],
}


@pytest.mark.parametrize(
    ("mapping", "name", "value"),
    [(outcome_mapping.of_session, name, value) for name, values in UNREADABLE.items() for value in values]
    + [
        (outcome_mapping.of_created, name, value)
        for name, values in UNREADABLE_WHEN_CREATED.items()
        for value in values
    ],
    ids=lambda part: getattr(part, "__name__", str(part)),
)
def test_a_member_that_is_not_word_for_word_known_makes_the_session_unreadable(
    mapping: Any, name: str, value: Any
) -> None:
    assert cause(mapping(a_session(**{name: value}))) is UnknownCause.UNREADABLE
    assert cause(mapping({})) is UnknownCause.UNREADABLE


def test_a_created_session_is_opened_and_one_found_after_its_end_has_no_page() -> None:
    opened = Opened(session_id="cs_test_a1", payment_url=URL, expires_at=datetime.fromtimestamp(1_800_000_000, UTC))
    assert outcome_mapping.of_created(a_session(status="open")) == opened
    found = outcome_mapping.of_found(a_session(url=None))
    assert found == Opened(session_id="cs_test_a1", payment_url=None, expires_at=opened.expires_at)


# --- errors ---------------------------------------------------------------------------------------------------------


def tree(error: type[stripe.StripeError] = stripe.StripeError) -> Iterator[type[stripe.StripeError]]:
    yield error
    for child in error.__subclasses__():
        yield from tree(child)


ERRORS = sorted(set(tree()), key=lambda error: f"{error.__module__}.{error.__name__}")
CAUSES = {
    stripe.IdempotencyError: UnknownCause.KEPT,
    stripe.AuthenticationError: UnknownCause.DENIED,
    stripe.PermissionError: UnknownCause.DENIED,
    stripe.RateLimitError: UnknownCause.BUSY,
}
"""All others mean that the gateway failed, unless they are a definite refusal."""
DEFINITE = {stripe.InvalidRequestError, stripe.CardError}


KNOWN = """
    APIConnectionError APIError AuthenticationError CardError IdempotencyError InvalidRequestError PermissionError
    RateLimitError SignatureVerificationError StripeError StripeErrorWithParamCode
    AlreadyCanceledError BlockedByStripeError CannotProceedError CapabilityNotEnabledError
    ControlledByAlternateResourceError FeatureNotEnabledError FinancialAccountNotOpenError FxQuoteNeedsRefreshError
    InsufficientFundsError InvalidPaymentMethodError InvalidPayoutMethodError InvalidVaultedCredentialError
    NotCancelableError QuotaExceededError RecipientNotNotifiableError TemporarySessionExpiredError
    VerificationAttemptFailedError VerificationExpiredError VerificationNotInitiatedError
    OAuthError InvalidClientError InvalidGrantError InvalidRequestError InvalidScopeError UnsupportedGrantTypeError
    UnsupportedResponseTypeError
"""
"""Beyond the first two lines they are of Stripe's v2 API and of its OAuth: nothing that we call raises these."""


def test_every_class_of_the_sdks_error_tree_is_known() -> None:
    """Each means that the gateway failed, unless the mapping says otherwise; a new one has to be thought about."""
    assert sorted(error.__name__ for error in ERRORS) == sorted(KNOWN.split())
    assert set(outcome_mapping.ERROR_CAUSES) <= set(ERRORS)


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
def test_a_class_of_errors_has_its_cause_and_only_a_refused_card_is_a_refusal_by_its_class(
    error: type[stripe.StripeError],
) -> None:
    for status in (None, 200, 400, 401, 402, 403, 404, 409, 424, 429, 500, 503):
        outcome = outcome_mapping.of_error(raised(error, status, code="some_code"))
        if error is stripe.CardError and status in {400, 402}:
            assert isinstance(outcome, Refused)
        elif error in DEFINITE:
            is_ours = 400 <= (status or 0) < 500
            assert cause(outcome) is (UnknownCause.MISCONFIGURED if is_ours else UnknownCause.FAILED)
        else:
            assert cause(outcome) is CAUSES.get(error, UnknownCause.FAILED)
        assert "prose" not in outcome.detail
        assert "req_1" in outcome.detail


CODES = sorted({*codes(), "idempotency_key_in_use", "parameter_invalid_string_blank", "some_new_code"})
PAYERS = {"amount_too_large", "amount_too_small", "url_invalid"}
OTHERS = {"idempotency_key_in_use": UnknownCause.BUSY, "resource_missing": UnknownCause.FAILED}


@pytest.mark.parametrize("code", CODES)
def test_of_all_codes_that_stripe_has_a_few_are_refusals_and_the_others_are_about_us(code: str) -> None:
    """M5 Whatever booking, payer and caller cannot change is no refusal: nothing is FAILED for it."""
    outcome = outcome_mapping.of_error(raised(stripe.InvalidRequestError, 400, code=code))
    assert isinstance(outcome, Refused) is (code in PAYERS)
    assert cause(outcome) is (None if code in PAYERS else OTHERS.get(code, UnknownCause.MISCONFIGURED))


@pytest.mark.parametrize(
    ("parameter", "code", "is_refusal"),
    [
        ("success_url", None, True),
        ("cancel_url", None, True),
        ("line_items[0][price_data][currency]", None, True),
        ("line_items[0][price_data][unit_amount]", "parameter_invalid_integer", True),
        ("success_url", "parameter_unknown", False),
        ("cancel_url", "parameter_missing", False),
        ("expires_at", None, False),
        ("allowed_payment_method_types[0]", None, False),
        ("line_items[0][price_data][product_data][name]", None, False),
        ("", None, False),
    ],
)
def test_without_a_code_the_parameter_says_who_can_change_it(parameter: str, code: str, *, is_refusal: bool) -> None:
    error = raised(stripe.InvalidRequestError, 400, code=code)
    error.param = parameter  # type: ignore[attr-defined]
    assert isinstance(outcome_mapping.of_error(error), Refused) is is_refusal


@pytest.mark.parametrize("status", [400, 500])
def test_an_error_that_stripe_keeps_under_the_key_is_told_from_one_of_now(status: int) -> None:
    for replayed in (False, True):
        error = raised(stripe.InvalidRequestError if status == 400 else stripe.APIError, status)
        error.headers = {"Idempotent-Replayed": "true"} if replayed else {}
        assert (cause(outcome_mapping.of_error(error)) is UnknownCause.KEPT) is replayed


def caused_by(error: Exception) -> Exception:
    wrapped = stripe.APIConnectionError("prose")
    wrapped.__cause__ = error
    return wrapped


TIMEOUT = Unknown(cause=UnknownCause.TIMEOUT, detail="no answer in time")
BELOW = [aiohttp.ClientPayloadError("x"), ValueError("x"), RuntimeError("x"), OSError("x")]
KEY_IN_USE = Unknown(cause=UnknownCause.BUSY, detail="APIError: status 409, code idempotency_key_in_use, request req_1")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        *((error, TIMEOUT) for error in (TimeoutError(), aiohttp.ServerTimeoutError())),
        *((caused_by(error), TIMEOUT) for error in (TimeoutError(), aiohttp.ServerTimeoutError())),
        (raised(stripe.APIError, 409, code="idempotency_key_in_use"), KEY_IN_USE),
        *((error, Unknown(cause=UnknownCause.FAILED, detail=type(error).__name__)) for error in BELOW),
    ],
    ids=repr,
)
def test_what_is_no_error_of_stripes_own_has_its_cause_however_it_arrives(error: Exception, expected: Unknown) -> None:
    assert outcome_mapping.of_error(error) == expected


# --- whatever arrives -----------------------------------------------------------------------------------------------

WORDS = st.sampled_from([*STATUSES, *PAYMENT_STATUSES, "inr"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
MEMBERS = ["id", "status", "payment_status", "amount_total", "currency", "livemode", "url", "expires_at", "metadata"]


@QUICK
@given(st.sampled_from(MEMBERS), JSON)
def test_a_paid_session_with_one_member_bent_is_paid_exactly_as_it_says_or_unknown(name: str, value: Any) -> None:
    bent = a_session(**{name: value})
    outcome = outcome_mapping.of_session(bent)
    if isinstance(outcome, Paid):
        assert bent["status"] == "complete"
        collected = 0 if bent["payment_status"] == "no_payment_required" else bent["amount_total"]
        assert (outcome.money.minor, outcome.livemode) == (collected, bent["livemode"] is True)
    elif name not in {"status", "payment_status"}:
        assert isinstance(outcome, Unknown)
    else:
        assert type(outcome) in {*MEANINGS.values(), Unknown} - {Paid}


# --- events and lists -------------------------------------------------------------------------------------------------


def an_event(nth: int, session: Any, **changes: Any) -> dict[str, Any]:
    event = {"id": f"evt_{nth}", "object": "event", "created": 1_700_000_000 + nth, "data": {"object": session}}
    return event | changes


def a_list(*members: Any, has_more: Any = False) -> dict[str, Any]:
    return {"object": "list", "data": list(members), "has_more": has_more}


@pytest.mark.parametrize(
    "odd",
    [
        {"id": "evt_2"},
        an_event(2, None),
        an_event(2, {"id": "pi_1", "object": "payment_intent"}),
        an_event(2, a_session(id="../x")),
        an_event(2, a_session(), created="yesterday"),
        an_event(2, a_session(), created=10**30),
    ],
    ids=str,
)
def test_an_event_of_no_session_is_passed_over_and_the_list_is_read_on(odd: dict[str, Any]) -> None:
    page = outcome_mapping.of_events(a_list(an_event(1, a_session()), odd, has_more=True))
    assert isinstance(page, EventPage)
    assert ([each.id for each in page.events], page.next) == (["evt_1"], "evt_2")
    assert outcome_mapping.of_events(a_list(odd, has_more=True)) == EventPage(events=[], next="evt_2")


def test_a_list_ends_where_it_says_so() -> None:
    empty = EventPage(events=[], next=None)
    assert outcome_mapping.of_sessions(a_list()) == outcome_mapping.of_events(a_list(has_more=True)) == empty
    page = outcome_mapping.of_sessions(a_list(a_session(created=1_700_000_000)))
    assert isinstance(page, EventPage)
    assert page.next is None
    assert [(each.id, each.session_id) for each in page.events] == [("cs_test_a1", "cs_test_a1")]


@pytest.mark.parametrize(
    "answer",
    [{}, {"data": None}, {"data": {"id": "evt_1"}}, a_list("evt_1"), a_list({"object": "event"}, has_more=True)],
    ids=str,
)
def test_a_list_that_cannot_be_read_is_unknown_and_not_empty(answer: dict[str, Any]) -> None:
    for read in (outcome_mapping.of_events, outcome_mapping.of_sessions):
        assert cause(read(answer)) is UnknownCause.UNREADABLE


@pytest.mark.parametrize(
    ("error", "status", "is_rejection"),
    [
        (stripe.APIError, 404, True),  # an answer that is no JSON, of something that has no such page
        (stripe.PermissionError, 403, True),
        (stripe.InvalidRequestError, 409, False),
        (stripe.RateLimitError, 429, False),
        (stripe.APIError, 500, False),
    ],
)
def test_what_asking_again_may_change_is_no_rejection(
    error: type[stripe.StripeError],
    status: int,
    is_rejection: bool,  # noqa: FBT001 - given by name
) -> None:
    outcome = outcome_mapping.of_error(raised(error, status))
    assert isinstance(outcome, Unknown)
    assert outcome.is_rejection is is_rejection
