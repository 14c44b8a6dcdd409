"""How a create command becomes a draft: everything that the gateway will be sent, frozen."""

from dataclasses import replace
from datetime import timedelta

import pytest

from service.domain.errors import InvalidRequestError
from service.domain.money import Money
from service.domain.payment import Draft
from tests.kit.clock import NOW
from tests.kit.fake_gateway import FakeGateway
from tests.kit.service import SHOP, create, policy

OWN = {"currency": "JPY", "amount": 500, "successUrl": f"{SHOP}/mine", "cancelUrl": f"{SHOP}/none"}


@pytest.mark.parametrize(
    ("changes", "money", "urls"),
    [
        ({}, Money(44997, "inr"), (f"{SHOP}/done", f"{SHOP}/back")),
        (OWN, Money(500, "jpy"), (f"{SHOP}/mine", f"{SHOP}/none")),
    ],
)
def test_a_draft_holds_the_terms_and_the_request_as_it_will_be_sent(
    changes: dict[str, object], money: Money, urls: tuple[str, str]
) -> None:
    seen: list[Draft] = []

    class Watching(FakeGateway):
        def checkout_request(self, draft: Draft) -> dict[str, object]:
            seen.append(draft)
            return {"as": "sent"}

    draft = policy().draft(create(**changes), gateway=Watching(), at=NOW)
    assert (draft.money, (draft.success_url, draft.cancel_url)) == (money, urls)
    assert (draft.booking_id, draft.user_id, draft.created_at, draft.livemode) == (7, 5, NOW, False)
    assert draft.gateway_request == {"as": "sent"}
    assert seen == [replace(draft, gateway_request={})]
    again = policy().draft(create(**changes), gateway=FakeGateway(), at=NOW)
    assert again.reference != draft.reference
    assert again.content == draft.content


@pytest.mark.parametrize(("window", "minutes"), [(60, 35), (900, 35), (35 * 60, 35), (3600, 60), (82_800, 23 * 60)])
def test_a_session_lives_as_long_as_stripe_allows_with_five_minutes_to_spare(window: int, minutes: int) -> None:
    at = NOW + timedelta(microseconds=999_999)
    draft = policy(window_seconds=window).draft(create(), gateway=FakeGateway(), at=at)
    assert draft.expires_at == NOW + timedelta(minutes=minutes)
    assert timedelta(minutes=34) < draft.expires_at - at < timedelta(hours=23, seconds=1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("successUrl", "https://evil.example/"),
        ("cancelUrl", "https://evil.example/"),
        ("amount", "0.49"),
        ("amount", "449.975"),
        ("amount", "10000000000"),
        ("currency", "bgn"),
        ("currency", "xxx"),
    ],
)
def test_a_command_that_breaks_a_rule_makes_no_draft(field: str, value: str) -> None:
    with pytest.raises(InvalidRequestError, match=field):
        policy().draft(create(**{field: value}), gateway=FakeGateway(), at=NOW)
