"""Strict JSON: what is refused at the door, and that a refusal echoes nothing."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import body
from contracts.body import InvalidBodyError
from contracts.commands import CreateCheckout, VerifyCheckout
from tests.kit.service import QUICK

GOOD = b'{"bookingId": 7, "userId": 5, "amount": 449.97}'

NOT_JSON = {
    "nothing": b"",
    "blank": b"  ",
    "text": b"hello",
    "cut": GOOD[:-1],
    "two documents": GOOD + GOOD,
    "invalid UTF-8": b'{"sessionId": "\xff"}',
    "UTF-16": GOOD.decode().encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + GOOD,
    "100,000 nested lists": b"[" * 100_000,
    "100,000 nested objects": b'{"a":' * 100_000,
    "NaN": b'{"amount": NaN}',
    "Infinity": b'{"amount": Infinity}',
    "minus Infinity": b'{"amount": -Infinity}',
    "an exponent no decimal has": b'{"amount": 1e99999999999999999999}',
    "a number of 65 characters": b'{"amount": ' + b"1" * 65 + b"}",
    "a fraction of 65 characters": b'{"amount": 0.' + b"1" * 63 + b"}",
    "a million digits": b'{"amount": ' + b"9" * 1_000_000 + b"}",
    "a repeated member": b'{"amount": 1, "amount": 1}',
    "a repeated member further down": b'{"a": {"b": 1, "b": 2}}',
    "single quotes": b"{'amount': 1}",
    "a comment": b'{"amount": 1} // one',
    "a trailing comma": b'{"amount": 1,}',
    "a raw control character": b'{"currency": "i\nr"}',
}


@pytest.mark.parametrize("document", NOT_JSON.values(), ids=NOT_JSON.keys())
def test_what_is_not_strict_json_is_refused(document: bytes) -> None:
    with pytest.raises(InvalidBodyError):
        body.loads(document)


def test_a_body_must_be_an_object() -> None:
    for document in (b"null", b"[]", b'"text"', b"7", b"true", b"[" + GOOD + b"]"):
        with pytest.raises(InvalidBodyError, match="must be a JSON object"):
            body.read(CreateCheckout, document)


@QUICK
@given(
    st.binary(max_size=200)
    | st.text(max_size=100).map(str.encode)
    | st.text(max_size=60).map(json.dumps).map(str.encode)
)
def test_no_body_whatever_raises_anything_else(document: bytes) -> None:
    for model in (CreateCheckout, VerifyCheckout):
        with suppress(InvalidBodyError):
            body.read(model, document)


def test_a_refusal_names_wrong_unknown_and_missing_fields_and_echoes_no_value() -> None:
    secret = "sk_test_verySecret"
    with pytest.raises(InvalidBodyError) as refused:
        body.read(CreateCheckout, json.dumps({"bookingId": secret, "userId": -1, "amount": secret}).encode())
    integer = "must be an integer from 1 to 9223372036854775807"
    assert str(refused.value) == f"bookingId {integer}; userId {integer}; amount must be a number or a decimal string."
    with pytest.raises(InvalidBodyError) as refused:
        body.read(CreateCheckout, b'{"bookingId": 7, "userId": 5, "succesUrl": "https://shop.example"}')
    assert str(refused.value) == "amount is required; succesUrl is not a known field."


def test_a_refusal_stays_short_and_printable_whatever_the_fields_are_called() -> None:
    strangers = {f"\x00\u202e{number}" + "x" * 10_000: 1 for number in range(500)}
    with pytest.raises(InvalidBodyError) as refused:
        body.read(VerifyCheckout, json.dumps(strangers).encode())
    said = str(refused.value)
    assert said.isprintable()
    assert len(said) < 2_000
    assert said.endswith("and 491 more.")
