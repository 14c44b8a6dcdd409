"""Money: minor units in, minor units out, whatever noise the caller's doubles carry."""

from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import InvalidRequestError
from service.domain.money import (
    CURRENCIES,
    ENDED,
    MAX_MINOR,
    MINIMUM_MINOR,
    THREE_DECIMAL,
    WHOLE_UNITS,
    ZERO_DECIMAL,
    Money,
    as_sent,
    check_charged,
)
from service.domain.money import exponent as decimals
from tests.kit.service import QUICK


def step(currency: str) -> int:
    return 100 if currency in WHOLE_UNITS else 10 if currency in THREE_DECIMAL else 1


def limits(currency: str) -> tuple[int, int]:
    unit = step(currency)
    return -(-MINIMUM_MINOR.get(currency, 1) // unit) * unit, MAX_MINOR // unit * unit


def major(minor: int, currency: str) -> Decimal:
    return Decimal(minor).scaleb(-decimals(currency))


@st.composite
def chargeable(draw: st.DrawFn) -> Money:
    """Any money that may be charged."""
    currency = draw(st.sampled_from(sorted(CURRENCIES)))
    least, most = limits(currency)
    return Money(draw(st.integers(least // step(currency), most // step(currency))) * step(currency), currency)


def test_the_groups_of_currencies_are_stripes() -> None:
    assert (len(ZERO_DECIMAL), len(THREE_DECIMAL)) == (15, 5)
    assert (ZERO_DECIMAL | THREE_DECIMAL | WHOLE_UNITS | set(MINIMUM_MINOR)) <= CURRENCIES
    assert not ZERO_DECIMAL & (THREE_DECIMAL | WHOLE_UNITS)


@pytest.mark.parametrize("currency", sorted(CURRENCIES))
def test_the_least_and_the_most_of_a_currency_can_be_charged_and_no_more(currency: str) -> None:
    unit, (least, most) = step(currency), limits(currency)
    for minor in (least, most):
        assert Money.from_major(major(minor, currency), currency) == Money(minor, currency)
    for minor in (least - unit, most + unit):
        with pytest.raises(InvalidRequestError, match=r"amount is (below the minimum|above the maximum)"):
            Money.from_major(major(minor, currency), currency)


@QUICK
@given(chargeable(), st.integers(1, 9))
def test_money_comes_back_exactly_and_a_true_extra_decimal_is_refused(money: Money, digit: int) -> None:
    assert Money.from_major(money.major, money.currency) == money
    assert Money.from_major(Decimal(repr(float(money.major))), money.currency) == money, "as Java prints a double"
    smaller = Decimal(step(money.currency) * digit).scaleb(-decimals(money.currency) - 1)
    with pytest.raises(InvalidRequestError, match="more decimals"):
        Money.from_major(money.major + smaller, money.currency)


@QUICK
@given(st.lists(st.integers(1, 100_000), min_size=1, max_size=50), st.sampled_from(["inr", "jpy", "kwd", "usd"]))
def test_a_sum_of_doubles_means_the_sum(parts: list[int], currency: str) -> None:
    total = sum(float(major(part * step(currency), currency)) for part in parts)
    expected = sum(parts) * step(currency)
    if MINIMUM_MINOR.get(currency, 1) <= expected <= MAX_MINOR:
        assert Money.from_major(Decimal(repr(total)), currency).minor == expected


@pytest.mark.parametrize("currency", sorted(ENDED))
def test_a_currency_is_charged_until_the_day_on_which_it_ends(currency: str) -> None:
    """M15 BGN and others: a sentence names the day and what took its place."""
    ended_on, successor = ENDED[currency]
    check_charged(currency, on=ended_on - timedelta(days=1))
    for day in (ended_on, ended_on + timedelta(days=4000)):
        with pytest.raises(InvalidRequestError, match=f"^currency {currency} ended on {ended_on}; .* {successor}.$"):
            check_charged(currency, on=day)
    assert successor in CURRENCIES - set(ENDED)
    check_charged(successor, on=date.max)


AMOUNTS = [
    ("449.97000000000003", "inr", 44997),
    ("540.9000000000001", "inr", 54090),
    ("299.96999999999997", "inr", 29997),
    ("19.999999999999999", "usd", 2000),
    ("1.23456E5", "inr", 12345600),
    ("500", "jpy", 500),
    ("5", "isk", 500),
    ("5.00", "ugx", 500),
    ("5.12", "kwd", 5120),
    ("0.1" + "0" * 60 + "1", "kwd", 100),
]
TOO_MANY_DECIMALS = {
    "inr": "449.975 449.970001 999999.991 0.004",
    "jpy": "500.5",
    "isk": "5.5",
    "ugx": "5.01",
    "kwd": "5.124",
    "bhd": "5.1234",
}
ABSURD = "1e12 1e5000 1e-5000 1e-999999 1e-2000000 0 -1 -0.01"


@pytest.mark.parametrize(("text", "currency", "minor"), AMOUNTS)
def test_an_amount_means_what_a_person_reads(text: str, currency: str, minor: int) -> None:
    assert Money.from_major(Decimal(text), currency) == Money(minor, currency)


@pytest.mark.parametrize(
    ("text", "currency", "complaint"),
    [(text, currency, "decimals") for currency, texts in TOO_MANY_DECIMALS.items() for text in texts.split()]
    + [(text, currency, "amount") for currency in ("inr", "jpy", "kwd", "isk") for text in ABSURD.split()]
    + [("10", currency, "currency") for currency in ("xxx", "btc", "", "INR", "usdc", "mro")],
)
def test_what_cannot_be_charged_is_refused_and_never_rounded(text: str, currency: str, complaint: str) -> None:
    with pytest.raises(InvalidRequestError, match=complaint):
        Money.from_major(Decimal(text), currency)


@pytest.mark.parametrize(
    ("minor", "currency", "text"), [(44997, "inr", "449.97 INR"), (500, "jpy", "500 JPY"), (5120, "kwd", "5.120 KWD")]
)
def test_money_prints_as_a_person_writes_it(minor: int, currency: str, text: str) -> None:
    assert str(Money(minor, currency)) == text


@pytest.mark.parametrize(
    ("amounts", "meant"),
    [
        ("449.97 449.970 449.97000000000003 449.96999999999997", "449.97"),
        ("500 500.00 5E+2 500.0000000001", "500"),
        ("1.23456789E7 12345678.900000000001", "12345678.9"),
        ("0.001 0.0010", "0.001"),
        ("999999988610.0005 999999988610 999999988609.9998", "999999988610"),
        ("10000000000.0001", "10000000000.0001"),
        ("449.9701", "449.9701"),
        ("0.000001", "0.000001"),
    ],
)
def test_amounts_that_mean_the_same_are_written_alike_in_whatever_currency(amounts: str, meant: str) -> None:
    assert {as_sent(Decimal(amount)) for amount in amounts.split()} == {meant}


@QUICK
@given(chargeable(), st.floats(-1, 1))
def test_no_two_charges_are_written_alike_and_noise_changes_nothing(money: Money, noise: float) -> None:
    written = as_sent(money.major)
    assert Decimal(written) == money.major
    assert as_sent(Decimal(repr(float(money.major) * (1 + noise * 4e-16)))) == written
