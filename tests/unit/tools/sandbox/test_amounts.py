"""The service and the sandbox hold the same of every currency: each has Stripe's table for itself, by intention."""

from service.domain import money
from tools.sandbox import amounts

OURS = money.CURRENCIES - set(money.ENDED)


def test_the_sandbox_takes_the_currencies_that_the_service_charges() -> None:
    assert amounts.CURRENCIES - set(money.ENDED) == OURS
    assert set(amounts.RATES) == amounts.CURRENCIES


def test_they_count_minor_units_alike() -> None:
    assert (amounts.ZERO_DECIMAL, amounts.THREE_DECIMAL) == (money.ZERO_DECIMAL, money.THREE_DECIMAL)
    assert amounts.WHOLE_UNITS == money.WHOLE_UNITS
    assert {each: amounts.decimals(each) for each in OURS} == {each: money.exponent(each) for each in OURS}


def test_they_have_the_same_least_amounts_and_the_service_allows_what_stripe_might() -> None:
    assert amounts.MINIMUM == money.MINIMUM_MINOR
    assert max(amounts.maximum(each, cards_only=True) for each in OURS) <= money.MAX_MINOR


def test_what_has_ended_has_a_successor_that_the_sandbox_takes() -> None:
    assert {successor for _, successor in money.ENDED.values()} <= amounts.CURRENCIES
