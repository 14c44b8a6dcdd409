"""Money: minor units in, minor units out, whatever Java's doubles look like on the way."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import InvalidRequestError
from service.domain.money import CURRENCIES, MAX_MINOR, MINIMUM_MINOR, THREE_DECIMAL, WHOLE_UNITS, ZERO_DECIMAL, Money
from service.domain.money import exponent as decimals
from tests.service_support import QUICK

CURRENCY = st.sampled_from(sorted(CURRENCIES))


def step(currency: str) -> int:
    return 100 if currency in WHOLE_UNITS else 10 if currency in THREE_DECIMAL else 1


@st.composite
def chargeable(draw: st.DrawFn) -> Money:
    """Any money that may be charged."""
    currency = draw(CURRENCY)
    unit = step(currency)
    least = -(-MINIMUM_MINOR.get(currency, 1) // unit)
    return Money(draw(st.integers(least, MAX_MINOR // unit)) * unit, currency)


def test_the_groups_are_stripes() -> None:
    assert len(ZERO_DECIMAL) == 15
    assert len(THREE_DECIMAL) == 5
    assert (ZERO_DECIMAL | THREE_DECIMAL | WHOLE_UNITS | set(MINIMUM_MINOR)) <= CURRENCIES
    assert not ZERO_DECIMAL & (THREE_DECIMAL | WHOLE_UNITS)


@pytest.mark.parametrize("currency", sorted(CURRENCIES))
def test_the_least_and_the_most_of_a_currency_can_be_charged_and_no_more(currency: str) -> None:
    unit, places = step(currency), decimals(currency)
    least = -(-MINIMUM_MINOR.get(currency, 1) // unit) * unit
    most = MAX_MINOR // unit * unit
    for minor in (least, most):
        assert Money.from_major(Decimal(minor).scaleb(-places), currency) == Money(minor, currency)
    for minor in (least - unit, most + unit):
        with pytest.raises(InvalidRequestError, match=r"amount is (below the minimum|above the maximum)"):
            Money.from_major(Decimal(minor).scaleb(-places), currency)


@QUICK
@given(chargeable())
def test_money_comes_back_from_major_units(money: Money) -> None:
    assert Money.from_major(money.major, money.currency) == money


@QUICK
@given(chargeable())
def test_money_comes_back_from_the_double_that_java_prints(money: Money) -> None:
    assert Money.from_major(Decimal(repr(float(money.major))), money.currency) == money


@QUICK
@given(st.lists(st.integers(1, 100_000), min_size=1, max_size=50), st.sampled_from(["inr", "jpy", "kwd", "usd"]))
def test_a_sum_of_doubles_means_the_sum(parts: list[int], currency: str) -> None:
    unit, places = step(currency), decimals(currency)
    total = sum(float(Decimal(part * unit).scaleb(-places)) for part in parts)
    expected = sum(parts) * unit
    if MINIMUM_MINOR.get(currency, 1) <= expected <= MAX_MINOR:
        assert Money.from_major(Decimal(repr(total)), currency).minor == expected


@QUICK
@given(chargeable(), st.integers(1, 9))
def test_a_true_extra_decimal_is_refused(money: Money, digit: int) -> None:
    smaller = Decimal(step(money.currency) * digit).scaleb(-decimals(money.currency) - 1)
    with pytest.raises(InvalidRequestError, match="more decimals"):
        Money.from_major(money.major + smaller, money.currency)


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
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
    ],
)
def test_amounts_mean_what_a_person_reads(text: str, currency: str, minor: int) -> None:
    assert Money.from_major(Decimal(text), currency) == Money(minor, currency)


@pytest.mark.parametrize(
    ("text", "currency"),
    [
        ("449.975", "inr"),
        ("449.970001", "inr"),
        ("999999.991", "inr"),
        ("500.5", "jpy"),
        ("5.5", "isk"),
        ("5.01", "ugx"),
        ("5.124", "kwd"),
        ("5.1234", "bhd"),
        ("0.004", "inr"),
    ],
)
def test_a_decimal_too_many_is_refused_and_never_rounded(text: str, currency: str) -> None:
    with pytest.raises(InvalidRequestError):
        Money.from_major(Decimal(text), currency)


@pytest.mark.parametrize("text", ["1e12", "1e5000", "1e-5000", "1e-999999", "1e-2000000", "0", "-1", "-0.01"])
@pytest.mark.parametrize("currency", ["inr", "jpy", "kwd", "isk"])
def test_an_absurd_amount_is_refused(text: str, currency: str) -> None:
    with pytest.raises(InvalidRequestError):
        Money.from_major(Decimal(text), currency)


@pytest.mark.parametrize("currency", ["xxx", "btc", "", "INR", "usdc", "mro"])
def test_a_currency_that_stripe_does_not_have_is_refused(currency: str) -> None:
    with pytest.raises(InvalidRequestError, match="currency"):
        Money.from_major(Decimal(10), currency)


def test_money_reads_as_a_person_writes_it() -> None:
    assert [str(Money(44997, "inr")), str(Money(500, "jpy")), str(Money(5120, "kwd"))] == [
        "449.97 INR",
        "500 JPY",
        "5.120 KWD",
    ]
