"""Money, cards, limits, keys and settings: the sandbox's pure rules."""

import re
from contextlib import suppress

import pytest

from tools.sandbox import amounts, cards, ids
from tools.sandbox.__main__ import main, settings
from tools.sandbox.fault_injector import RateLimiter
from tools.sandbox.stripe_errors import ApiError


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
    assert amounts.text(amount, currency) == expected


@pytest.mark.parametrize("currency", sorted(amounts.CURRENCIES))
def test_every_currency_has_a_rate_and_room_between_its_bounds(currency: str) -> None:
    assert amounts.RATES[currency] > 0
    assert amounts.maximum(currency) % amounts.step(currency) == 0
    for settlement in amounts.MINIMUM:
        assert amounts.converted(amounts.maximum(currency), currency, settlement) > amounts.MINIMUM[settlement]


@pytest.mark.parametrize(
    ("currency", "most"),
    [("usd", 99_999_999), ("inr", 999_999_999), ("idr", 999_999_999_999), ("cop", 9_999_999_999), ("isk", 99_999_900)],
)
def test_the_maximum_is_a_number_of_digits(currency: str, most: int) -> None:
    assert amounts.maximum(currency) == most
    assert amounts.maximum(currency, cards_only=True) == 10**12 - amounts.step(currency)


@pytest.mark.parametrize(
    ("amount", "currency", "settlement", "value"),
    [(100, "inr", "inr", 100), (1, "cny", "inr", 12), (100, "usd", "jpy", 150), (150, "jpy", "usd", 100)],
)
def test_an_amount_is_converted_between_minor_units(amount: int, currency: str, settlement: str, value: int) -> None:
    assert amounts.converted(amount, currency, settlement) == value


def test_the_tables_of_currencies_name_known_ones_only() -> None:
    rules = amounts.ZERO_DECIMAL | amounts.THREE_DECIMAL | amounts.WHOLE_UNITS
    assert rules | {*amounts.MINIMUM, *amounts.SYMBOLS, *amounts.DIGITS} <= amounts.CURRENCIES == amounts.RATES.keys()


def test_every_test_card_but_the_wrong_number_passes_the_check_digit() -> None:
    failing = [card.label for card in cards.TEST_CARDS if not cards.passes_luhn(card.number)]
    assert failing == ["Wrong number"]


@pytest.mark.parametrize(
    ("typed", "digits"),
    [("4242 4242-4242 4242", "4242424242424242"), ("", None), ("4242", None), ("٤" * 16, None), ("4" * 20, None)],
)
def test_a_card_number_is_read_as_people_type_it(typed: str, digits: str | None) -> None:
    assert cards.digits(typed) == digits


def test_a_bucket_lets_a_second_of_calls_through_and_refills() -> None:
    now = 0.0
    limiter = RateLimiter({"events.list": 4}, lambda: now)

    def admitted(calls: int) -> int:
        count = 0
        for _ in range(calls):
            with suppress(ApiError):
                limiter.admit("events.list")
                count += 1
        return count

    assert admitted(10) == 4
    now = 0.5
    assert admitted(10) == 2
    now = 60.0
    assert admitted(10) == 4


def test_endpoints_that_are_not_named_have_a_bucket_each() -> None:
    limiter = RateLimiter({"default": 1, "events.list": 3}, lambda: 0.0)
    for endpoint in ("events.retrieve", "checkout.sessions.list", *["events.list"] * 3):
        limiter.admit(endpoint)
    for endpoint in ("events.retrieve", "checkout.sessions.list", "events.list"):
        with pytest.raises(ApiError):
            limiter.admit(endpoint)


def test_identifiers_have_the_form_and_length_of_stripe() -> None:
    assert re.fullmatch(r"cs_test_[A-Za-z0-9]{58}", ids.session_id())
    assert re.fullmatch(r"pi_3[A-Za-z0-9]{23}", ids.object_id("pi"))
    assert re.fullmatch(r"evt_1[A-Za-z0-9]{23}", ids.object_id("evt"))
    assert re.fullmatch(r"req_[A-Za-z0-9]{14}", ids.short_id("req"))
    assert len({ids.session_id() for _ in range(1000)}) == 1000


def test_settings_have_defaults_and_can_be_chosen() -> None:
    assert settings({}) == ("127.0.0.1", 12111, None)
    assert settings({"SANDBOX_HOST": "::", "SANDBOX_PORT": "80"}) == ("::", 80, None)
    in_a_container = {"SANDBOX_HOST": "0.0.0.0", "SANDBOX_PUBLIC_URL": "http://127.0.0.1:12111/"}  # noqa: S104
    assert settings(in_a_container) == ("0.0.0.0", 12111, "http://127.0.0.1:12111")  # noqa: S104


@pytest.mark.parametrize("port", ["", "0", "65536", "-1", "x", "1.5", "٣"])
def test_wrong_settings_end_with_one_sentence_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], port: str
) -> None:
    monkeypatch.setenv("SANDBOX_HOST", "a b")
    monkeypatch.setenv("SANDBOX_PORT", port)
    monkeypatch.setenv("SANDBOX_PUBLIC_URL", "sandbox:12111")
    assert main() == 2
    assert capsys.readouterr().err == (
        "The sandbox cannot start: SANDBOX_HOST must be a host name or an address, not 'a b'; "
        f"SANDBOX_PORT must be a number from 1 to 65535, not {port!r}; "
        "SANDBOX_PUBLIC_URL must be like http://127.0.0.1:12111, not 'sandbox:12111'.\n"
    )
