"""What a person may type into the search, and what it means."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from console.query import MistypedError, address, anything, place, wanted
from service.application.ports.search import Place, Wanted


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("7", [Wanted(booking_id=7), Wanted(payment_id=7)]),
        ("booking:7", [Wanted(booking_id=7)]),
        ("Booking 7", [Wanted(booking_id=7)]),
        ("payment: 8", [Wanted(payment_id=8)]),
        ("user:9", [Wanted(user_id=9)]),
        ("  cs_test_a1  ", [Wanted(session_id="cs_test_a1")]),
        ("generated-1", [Wanted(request_id="generated-1")]),
    ],
)
def test_one_field_takes_anything_that_operators_have(text: str, meant: list[Wanted]) -> None:
    assert anything(text) == meant


@pytest.mark.parametrize("text", ["0", "9" * 30, "booking:0", "two words", "ü", "x" * 129])
def test_what_can_be_nothing_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(MistypedError, match=r"\.$"):
        anything(text)


def test_a_form_means_what_its_fields_say_and_empty_ones_do_not_matter() -> None:
    fields = {"booking_id": " 7 ", "user_id": "", "status": "PENDING", "amount": "1,250.50", "currency": "INR"}
    fields |= {"since": "2026-11-30T21:45", "until": "2026-11-30T22:45:00+01:00", "unknown": "x", "attention": "any"}
    at = datetime(2026, 11, 30, 21, 45, tzinfo=UTC)
    assert wanted(fields) == Wanted(
        booking_id=7, status="PENDING", amount=Decimal("1250.50"), currency="inr", since=at, until=at, attention="any"
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("booking_id", text) for text in ("x", "-1", "0", "1.0", "\u0661")),
        *(("amount", text) for text in ("x", "1e3", "-1", "NaN", "1.2345", "449,97", ",100", "1,0000")),
        *(("since", text) for text in ("yesterday", "2026-13-01", "9999-99-99")),
        *(("status", "paid"), ("reason", "x"), ("attention", "x"), ("currency", "rupee")),
        *(("session_id", "cs_live"), ("request_id", "a b")),
    ],
)
def test_a_wrong_field_is_named(name: str, text: str) -> None:
    with pytest.raises(MistypedError, match=r"^[A-Z].*\.$"):
        wanted({name: text})


def test_a_place_in_the_list_survives_an_address_to_the_microsecond() -> None:
    at = Place(created_at=datetime(2026, 11, 30, 21, 44, 28, 123457, tzinfo=UTC), id=2**63 - 1)
    assert place(address(at)) == at
    assert place("") is None


@pytest.mark.parametrize("text", ["x", "====", "MS4x" * 40, "OTk5OTk5OTk5OTk5OTk5OTk5LjE=", "\u0661"])
def test_a_place_that_nobody_was_given_is_refused(text: str) -> None:
    with pytest.raises(MistypedError):
        place(text)
