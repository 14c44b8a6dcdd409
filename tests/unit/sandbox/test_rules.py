"""Money, cards, limits, keys and settings: the sandbox's pure rules."""

import re

import pytest

from deploy.sandbox import cards, ids, money
from deploy.sandbox.__main__ import settings
from deploy.sandbox.api import masked
from deploy.sandbox.errors import ApiError
from deploy.sandbox.faults import Limiter
from deploy.sandbox.idempotency import Answer, Keys


@pytest.mark.parametrize(
    ("amount", "currency", "expected"),
    [
        (44997, "inr", "₹449.97"),
        (123456789, "usd", "$1,234,567.89"),
        (500, "jpy", "¥500"),
        (5120, "kwd", "KWD\u00a05.120"),
        (500, "isk", "ISK\u00a05"),
        (1200, "chf", "CHF\u00a012.00"),
        (0, "eur", "€0.00"),
    ],
)
def test_amounts_read_as_people_write_them(amount: int, currency: str, expected: str) -> None:
    assert money.text(amount, currency) == expected


@pytest.mark.parametrize("currency", sorted(money.CURRENCIES))
def test_every_minimum_can_be_charged(currency: str) -> None:
    assert money.minimum(currency) % money.step(currency) == 0
    assert 0 < money.minimum(currency) <= money.MAXIMUM


def test_the_tables_of_currencies_name_known_ones_only() -> None:
    for table in (money.ZERO_DECIMAL, money.THREE_DECIMAL, money.WHOLE_UNITS, set(money.MINIMUM), set(money.SYMBOLS)):
        assert table <= money.CURRENCIES


def test_every_test_card_but_the_wrong_number_passes_the_check_digit() -> None:
    failing = [card.label for card in cards.TEST_CARDS if not cards.passes_luhn(card.number)]
    assert failing == ["Wrong number"]


@pytest.mark.parametrize(
    ("typed", "digits"),
    [("4242 4242-4242 4242", "4242424242424242"), ("", None), ("4242", None), ("٤" * 16, None), ("4" * 20, None)],
)
def test_a_card_number_is_read_as_people_type_it(typed: str, digits: str | None) -> None:
    assert cards.digits(typed) == digits


def test_cards_are_grouped_as_printed() -> None:
    assert cards.grouped("378282246310005") == "3782 822463 10005"
    assert cards.grouped("4242424242424242") == "4242 4242 4242 4242"


def test_a_bucket_lets_a_second_of_calls_through_and_refills() -> None:
    now = 0.0
    limiter = Limiter({"events.list": 4}, lambda: now)

    def admitted(calls: int) -> int:
        count = 0
        for _ in range(calls):
            try:
                limiter.admit("events.list")
            except ApiError:
                continue
            count += 1
        return count

    assert admitted(10) == 4
    now = 0.5
    assert admitted(10) == 2
    now = 60.0
    assert admitted(10) == 4


def test_endpoints_that_are_not_named_have_a_bucket_each() -> None:
    limiter = Limiter({"default": 1, "events.list": 3}, lambda: 0.0)
    for endpoint in ("events.retrieve", "checkout.sessions.list", *["events.list"] * 3):
        limiter.admit(endpoint)
    for endpoint in ("events.retrieve", "checkout.sessions.list", "events.list"):
        with pytest.raises(ApiError):
            limiter.admit(endpoint)


def test_keys_are_forgotten_in_the_order_they_came() -> None:
    keys = Keys()
    for moment in range(3):
        claim = keys.claim(f"k{moment}", b"request", moment)
        claim.answer = Answer(status=500, body=b"{}", request_id="req_1")
    assert keys.claim("k1", b"request", 24 * 3600 + 1).answer is not None
    assert keys.claim("k0", b"another", 24 * 3600 + 1).answer is None


def test_an_answered_claim_cannot_be_released() -> None:
    keys = Keys()
    claim = keys.claim("k", b"request", 0)
    claim.answer = Answer(status=500, body=b"{}", request_id="req_1")
    keys.release(claim)
    assert keys.claim("k", b"request", 0) is claim


def test_identifiers_have_the_form_and_length_of_stripe() -> None:
    assert re.fullmatch(r"cs_test_[A-Za-z0-9]{58}", ids.session_id())
    assert re.fullmatch(r"pi_3[A-Za-z0-9]{23}", ids.object_id("pi"))
    assert re.fullmatch(r"evt_1[A-Za-z0-9]{23}", ids.object_id("evt"))
    assert re.fullmatch(r"req_[A-Za-z0-9]{14}", ids.short_id("req"))
    assert len({ids.session_id() for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    ("key", "shown"),
    [("sk_live_0123456789abcdef", "sk_live_************cdef"), ("sk_live_abc", "sk_live_***"), ("x", "*")],
)
def test_a_masked_key_gives_nothing_away(key: str, shown: str) -> None:
    assert masked(key) == shown


def test_settings_have_defaults_and_can_be_chosen() -> None:
    assert settings({}) == ("127.0.0.1", 12111)
    assert settings({"SANDBOX_HOST": "::", "SANDBOX_PORT": "80"}) == ("::", 80)
    assert settings({"SANDBOX_HOST": "0.0.0.0"}) == ("0.0.0.0", 12111)  # noqa: S104 - a container listens on all


@pytest.mark.parametrize("port", ["", "0", "65536", "-1", "x", "1.5", "٣"])
def test_every_wrong_setting_is_named_in_one_sentence(port: str) -> None:
    with pytest.raises(ValueError, match=r"SANDBOX_HOST .*; SANDBOX_PORT .*\.$"):
        settings({"SANDBOX_HOST": "http://x", "SANDBOX_PORT": port})
