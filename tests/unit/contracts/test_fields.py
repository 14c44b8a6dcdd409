"""Single fields: what a caller may send in each, value by value."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from contracts import body
from contracts.body import InvalidBodyError
from contracts.commands import CreateCheckout, VerifyCheckout
from contracts.fields import MAX_INT64, AmountOut, is_session_id
from tests.service_support import QUICK

MEMBERS = {"bookingId": "7", "userId": "5", "amount": "449.97"}
HOSTILE_TEXTS = [
    '"\\u0000"',
    '"\\ud800"',
    '"a\\u202eb"',
    '"\\u0007"',
    f'"{"x" * 10_240}"',
    '""',
    "7",
    "true",
    "[]",
    "{}",
]


def read(**members: str) -> CreateCheckout:
    """The command with members as JSON text."""
    text = ", ".join(f'"{name}": {value}' for name, value in (MEMBERS | members).items())
    return body.read(CreateCheckout, f"{{{text}}}".encode())


@pytest.mark.parametrize("field", ["bookingId", "userId"])
@pytest.mark.parametrize(
    "value", ["0", "-1", str(2**63), "1.5", '"7"', "true", "false", "[7]", "{}", '""', "1e400", "1e-400", "-0", "0.0"]
)
def test_an_id_is_a_positive_64_bit_integer(field: str, value: str) -> None:
    with pytest.raises(InvalidBodyError, match=f"{field} must be an integer from 1 to {MAX_INT64}"):
        read(**{field: value})


@pytest.mark.parametrize(("value", "meant"), [("1.0", 1), ("1e3", 1000), ("7", 7), (str(MAX_INT64), MAX_INT64)])
def test_an_integer_may_be_written_in_any_way_json_has(value: str, meant: int) -> None:
    command = read(bookingId=value)
    assert command.booking_id == meant
    assert type(command.booking_id) is int


@pytest.mark.parametrize(
    "value",
    [
        "true",
        "false",
        "[10]",
        "{}",
        '""',
        '"ten"',
        '"1e3"',
        '"+10"',
        '"-10"',
        '" 10"',
        '"10 "',
        '"10,00"',
        '"٣"',
        '"0x1"',
        "0",
        "0.0",
        "-1",
        "-0.01",
        "1e13",
        "1e400",
        '"0"',
        '"10."',
        '".5"',
        '"NaN"',
        '"Infinity"',
        '"\\u0000"',
    ],
)
def test_an_amount_is_a_positive_number_or_decimal_string(value: str) -> None:
    with pytest.raises(InvalidBodyError, match="amount must be"):
        read(amount=value)


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("10", "10"),
        ('"10"', "10"),
        ('"10.50"', "10.50"),
        ("1.23456789E7", "12345678.9"),
        ("10.0", "10"),
        ("449.97000000000003", "449.97000000000003"),
        ("540.9000000000001", "540.9000000000001"),
    ],
)
def test_an_amount_keeps_its_digits(value: str, meant: str) -> None:
    assert read(amount=value).amount == Decimal(meant)


@pytest.mark.parametrize("field", ["currency", "successUrl", "cancelUrl"])
def test_an_optional_member_that_is_null_is_absent(field: str) -> None:
    assert read(**{field: "null"}) == read()


@pytest.mark.parametrize("field", ["bookingId", "userId", "amount"])
def test_a_required_member_that_is_null_is_refused(field: str) -> None:
    with pytest.raises(InvalidBodyError, match=f"{field} must be"):
        read(**{field: "null"})


@pytest.mark.parametrize("value", [*HOSTILE_TEXTS, '"in"', '"inrr"', '"\\u0131nr"', '"in1"', '"inr\\n"'])
def test_a_currency_is_three_letters(value: str) -> None:
    with pytest.raises(InvalidBodyError, match="currency must be"):
        read(currency=value)


def test_a_currency_is_lower_case_inside() -> None:
    assert read(currency='"InR"').currency == "inr"


@pytest.mark.parametrize("field", ["successUrl", "cancelUrl"])
@pytest.mark.parametrize("value", [*HOSTILE_TEXTS, '"https://shop.example/ü"', '"https://shop.example/\\n"'])
def test_a_url_is_printable_ascii_of_at_most_2048_characters(field: str, value: str) -> None:
    with pytest.raises(InvalidBodyError, match=f"{field} must be an absolute URL"):
        read(**{field: value})


def test_a_url_may_have_2048_characters() -> None:
    longest = "https://shop.example/".ljust(2048, "x")
    assert read(successUrl=json.dumps(longest)).success_url == longest


@pytest.mark.parametrize(
    "value",
    [
        *HOSTILE_TEXTS,
        '"cs_test_"',
        '"cs_prod_a1"',
        '"pi_test_a1"',
        '"cs_test_a 1"',
        '"cs_test_a1\\n"',
        '"cs_test_a/expire"',
        '"cs_test_a?limit=1"',
        '"CS_TEST_a1"',
        '"cs_test_ü"',
        f'"cs_test_{"a" * 247}"',
        '"../cs_test_a1"',
    ],
)
def test_a_session_id_is_one_of_stripes_and_nothing_else(value: str) -> None:
    with pytest.raises(InvalidBodyError, match="sessionId must be"):
        body.read(VerifyCheckout, f'{{"sessionId": {value}}}'.encode())
    assert not is_session_id(json.loads(value))


@pytest.mark.parametrize("value", ["cs_test_a1", "cs_live_" + "Zz9" * 20, "cs_test_" + "a" * 246])
def test_real_session_ids_are_taken(value: str) -> None:
    assert is_session_id(value)
    assert body.read(VerifyCheckout, f'{{"sessionId": "{value}"}}'.encode()).session_id == value


@QUICK
@given(st.integers(1, 99_999_999), st.sampled_from([0, 2, 3]))
def test_an_amount_is_answered_with_the_very_digits(minor: int, places: int) -> None:
    amount = Decimal(minor).scaleb(-places)
    answered: Any = TypeAdapter(AmountOut).dump_json(amount)
    assert json.loads(answered, parse_float=Decimal, parse_int=Decimal) == amount
