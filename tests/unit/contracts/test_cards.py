"""S20: what could be a card's number is known, however it is written, and everybody's identifiers are not it."""

import itertools
import json
import random
from uuid import UUID

import pytest

from contracts import body, envelope
from contracts.body import InvalidBodyError
from contracts.commands import CreateCheckout
from contracts.fields import holds_card_number

# The schemes' published test numbers: 13 to 19 digits.
CARDS = [
    *"4242424242424242 4222222222222 4000000000000000006 5555555555554444 2223003122003222 378282246310005".split(),
    *"371449635398431 30569309025904 38520000023237 6011111111111117 3566002020360505 6205500000000000004".split(),
    *("4242 4242 4242 4242", "4242-4242-4242-4242", "5555 5555 5555 4444", "3782 822463 10005", "3782-822463-10005"),
    *("3056 930902 5904", "6205 5000 0000 0000 004"),
]
AROUND = [
    *'{} {}. a={}&b=1 /pay/{}/done x_{}_y é{}é "{}" 1,{},2 no:{};'.split(),
    *("card {}", "{} 12/34 123", "7 {} 8"),
]
INNOCENT = [
    *"4242424242424241 424242424242 42424242424242424242 1764086400000 1764086400000000 a4242424242424242".split(),
    *"order-2026-11-25-153022-42 4242424242424242f cs_test_a1b2c3d4e5f6".split(),
    *("", "4242 4242 4242 4241", "2026-11-25 15:30:22.123456", "+91 98765 43210"),
]


def test_a_card_number_is_known_wherever_it_stands() -> None:
    for card, around in itertools.product(CARDS, AROUND):
        assert holds_card_number(around.format(card)), around.format(card)


@pytest.mark.parametrize("card", ["4242%204242%204242%204242", "4242+4242+4242+4242", "%34242424242424242"])
def test_a_card_number_is_known_when_it_is_encoded_in_a_url(card: str) -> None:
    assert holds_card_number(f"https://shop.example/done?card={card}")


def test_what_is_no_card_number_is_left_alone() -> None:
    assert [text for text in INNOCENT if holds_card_number(text)] == []


def test_identifiers_as_machines_make_them_are_left_alone() -> None:
    drawn = random.Random(20)  # noqa: S311 - the same in every run
    for _ in range(20_000):
        made = UUID(int=drawn.getrandbits(128), version=4)
        assert not holds_card_number(f"payment-{made}"), made
        assert not holds_card_number(made.hex), made
        assert not holds_card_number(f"{drawn.getrandbits(256):064x}")


@pytest.mark.parametrize("card", CARDS)
def test_no_field_that_is_kept_or_passed_on_takes_a_card_number(card: str) -> None:
    assert not envelope.is_request_id(card)
    assert not envelope.is_request_id(f"request:{card}")
    for field in ("successUrl", "cancelUrl"):
        url = f"https://shop.example/{card.replace(' ', '%20')}"
        content = json.dumps({"bookingId": 1, "userId": 1, "amount": 5, field: url}).encode()
        with pytest.raises(InvalidBodyError, match=f"^{field} must not hold a card number.$"):
            body.read(CreateCheckout, content)


@pytest.mark.parametrize(
    "name", ["4242424242424242", "card 4242 4242 4242 4242", "person@example.org", "<script>", "{{7*7}}"]
)
def test_a_member_is_not_refused_by_a_name_that_must_not_be_repeated(name: str) -> None:
    content = json.dumps({"bookingId": 1, "userId": 1, "amount": 5, name: 1}).encode()
    with pytest.raises(InvalidBodyError, match=r"^A field is not a known field\.$"):
        body.read(CreateCheckout, content)


def test_an_integer_id_may_look_like_a_card_number() -> None:
    """One in ten does, and nothing is wrong with it."""
    content = b'{"bookingId": 4242424242424242, "userId": 5555555555554444, "amount": 5}'
    assert body.read(CreateCheckout, content).booking_id == 4242424242424242
