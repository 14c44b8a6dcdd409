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
from tests.kit.service import QUICK

MEMBERS = {"bookingId": "7", "userId": "5", "amount": "449.97"}
HOSTILE = [*r'"\u0000" "\ud800" "a\u202eb" "\u0007" "" 7 true [] {}'.split(), f'"{"x" * 10_240}"']


def read(**members: str) -> CreateCheckout:
    """The command with members as JSON text."""
    text = ", ".join(f'"{name}": {value}' for name, value in (MEMBERS | members).items())
    return body.read(CreateCheckout, f"{{{text}}}".encode())


IDS = '0 -1 9223372036854775808 1.5 "7" true false null [7] {} "" 1e400 1e-400 -0 0.0'.split()
AMOUNTS = [
    *r'true false null [10] {} "" "ten" "1e3" "+10" "-10" "10,00" "٣" "0x1" "0" "10." ".5" "NaN" "\u0000"'.split(),
    *'0 0.0 -1 -0.01 1e13 1e400 "Infinity"'.split(),
    *('" 10"', '"10 "'),
]
URLS = [*HOSTILE, '"https://shop.example/ü"', r'"https://shop.example/\n"']
REFUSED = {
    "bookingId": (IDS, f"an integer from 1 to {MAX_INT64}"),
    "userId": (IDS, f"an integer from 1 to {MAX_INT64}"),
    "amount": (AMOUNTS, ""),
    "currency": ([*HOSTILE, *r'"in" "inrr" "\u0131nr" "in1" "inr\n"'.split()], "a three-letter ISO 4217 code"),
    "successUrl": (URLS, "an absolute URL of at most 2048 printable ASCII characters"),
    "cancelUrl": (URLS, "an absolute URL of at most 2048 printable ASCII characters"),
}


@pytest.mark.parametrize("field", REFUSED)
def test_what_a_field_must_be_is_said_of_everything_else(field: str) -> None:
    values, must_be = REFUSED[field]
    for value in values:
        with pytest.raises(InvalidBodyError, match=f"^{field} must be {must_be}"):
            read(**{field: value})


@pytest.mark.parametrize(("value", "meant"), [("1.0", 1), ("1e3", 1000), ("7", 7), (str(MAX_INT64), MAX_INT64)])
def test_an_integer_may_be_written_in_any_way_json_has(value: str, meant: int) -> None:
    command = read(bookingId=value)
    assert command.booking_id == meant
    assert type(command.booking_id) is int


def test_an_amount_keeps_its_digits() -> None:
    for value in ("10", '"10"', '"10.50"', "1.23456789E7", "10.0", "449.97000000000003", "540.9000000000001"):
        assert read(amount=value).amount == Decimal(value.strip('"'))


@pytest.mark.parametrize("field", ["currency", "successUrl", "cancelUrl"])
def test_an_optional_member_that_is_null_is_absent(field: str) -> None:
    assert read(**{field: "null"}) == read()


def test_a_currency_is_lower_case_inside_and_a_url_may_have_2048_characters() -> None:
    longest = "https://shop.example/".ljust(2048, "x")
    command = read(currency='"InR"', successUrl=json.dumps(longest))
    assert (command.currency, command.success_url) == ("inr", longest)


def test_a_session_id_is_one_of_stripes_and_nothing_else() -> None:
    strange = r"cs_test_ cs_prod_a1 pi_test_a1 cs_test_a1\n cs_test_a/expire cs_test_a?limit=1 CS_TEST_a1 ../cs_test_a1"
    texts = [*strange.split(), "cs_test_a 1", "cs_test_ü", "cs_test_" + "a" * 247]
    for value in [*HOSTILE, *(f'"{text}"' for text in texts)]:
        with pytest.raises(InvalidBodyError, match="sessionId must be"):
            body.read(VerifyCheckout, f'{{"sessionId": {value}}}'.encode())
        assert not is_session_id(json.loads(value))
    for text in ("cs_test_a1", "cs_live_" + "Zz9" * 20, "cs_test_" + "a" * 246):
        assert is_session_id(text)
        assert body.read(VerifyCheckout, f'{{"sessionId": "{text}"}}'.encode()).session_id == text


@QUICK
@given(st.integers(1, 99_999_999), st.sampled_from([0, 2, 3]))
def test_an_amount_is_answered_with_the_very_digits(minor: int, decimals: int) -> None:
    amount = Decimal(minor).scaleb(-decimals)
    answered: Any = TypeAdapter(AmountOut).dump_json(amount)
    assert json.loads(answered, parse_float=Decimal, parse_int=Decimal) == amount
