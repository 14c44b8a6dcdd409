"""How a create command becomes a draft: everything that the gateway will be sent, frozen."""

from datetime import timedelta

import pytest

from service.application.ports import CheckoutTerms
from service.domain.errors import InvalidRequestError
from service.domain.money import Money
from tests.fakes import FakeGateway
from tests.service_support import NOW, SHOP, create, policy


def test_a_draft_carries_the_request_as_it_will_be_sent() -> None:
    draft = policy().draft(create(), gateway=FakeGateway(), at=NOW)
    assert draft.gateway_request == {"reference": draft.reference, "expires_at": int(draft.expires_at.timestamp())}
    assert draft.money == Money(44997, "inr")
    assert (draft.booking_id, draft.user_id, draft.created_at, draft.livemode) == (7, 5, NOW, False)
    assert (draft.success_url, draft.cancel_url) == (f"{SHOP}/done", f"{SHOP}/back")


def test_every_draft_has_a_reference_of_its_own() -> None:
    drafts = [policy().draft(create(), gateway=FakeGateway(), at=NOW) for _ in range(2)]
    assert drafts[0].reference != drafts[1].reference
    assert drafts[0].content == drafts[1].content


@pytest.mark.parametrize(("window", "minutes"), [(60, 35), (900, 35), (35 * 60, 35), (3600, 60), (82_800, 23 * 60)])
def test_a_session_lives_as_long_as_stripe_allows_with_five_minutes_to_spare(window: int, minutes: int) -> None:
    at = NOW + timedelta(microseconds=999_999)
    draft = policy(window_seconds=window).draft(create(), gateway=FakeGateway(), at=at)
    assert draft.expires_at == NOW + timedelta(minutes=minutes)
    assert timedelta(minutes=34) < draft.expires_at - at < timedelta(hours=23, seconds=1)


def test_the_terms_are_the_drafts() -> None:
    seen: list[CheckoutTerms] = []

    class Watching(FakeGateway):
        def checkout_request(self, terms: CheckoutTerms) -> dict[str, object]:
            seen.append(terms)
            return {}

    own = {"currency": "JPY", "amount": 500, "successUrl": f"{SHOP}/mine", "cancelUrl": f"{SHOP}/none"}
    draft = policy().draft(create(**own), gateway=Watching(), at=NOW)
    assert seen == [
        CheckoutTerms(
            reference=draft.reference,
            booking_id=7,
            user_id=5,
            amount_minor=500,
            currency="jpy",
            success_url=f"{SHOP}/mine",
            cancel_url=f"{SHOP}/none",
            expires_at=draft.expires_at,
        )
    ]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"successUrl": "https://evil.example/"}, "successUrl"),
        ({"cancelUrl": "https://evil.example/"}, "cancelUrl"),
        ({"amount": "0.49"}, "amount"),
        ({"amount": "449.975"}, "amount"),
        ({"amount": "1000000"}, "amount"),
        ({"currency": "xxx"}, "currency"),
    ],
)
def test_what_breaks_a_rule_makes_no_draft(changes: dict[str, str], field: str) -> None:
    with pytest.raises(InvalidRequestError, match=field):
        policy().draft(create(**changes), gateway=FakeGateway(), at=NOW)
