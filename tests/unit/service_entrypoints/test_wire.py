"""Headers that can be copied, and properties that cannot be read."""

from decimal import Decimal
from typing import Any

import pytest
from pamqp.commands import Basic

from service.entrypoints import wire

OURS = {"x-request-id": "r-1", "idempotency-key": "key 1", "x-attempts": 2}


def test_headers_are_carried_as_they_are() -> None:
    headers = {"a": {"b": [1, None, True]}, **OURS}
    assert wire.carried(headers) == headers


@pytest.mark.parametrize("odd", ["x" * 65_536, b"\xff", {"a": [b"\xff"]}, Decimal("1e300"), object()])
def test_of_headers_that_cannot_be_copied_ours_are_left(odd: Any) -> None:
    assert wire.carried({"a": odd, **OURS}) == OURS


@pytest.mark.parametrize("odd", ["x" * 256, b"\xff", {"a": 1}, 2**40])
def test_of_headers_that_cannot_be_copied_none_is_left_that_is_no_small_text_or_number(odd: Any) -> None:
    assert wire.carried({"a": b"\xff", "x-caller": odd}) == {}


def test_properties_are_read_up_to_the_one_that_cannot_be() -> None:
    wire.survive_unreadable_properties()
    wire.survive_unreadable_properties()
    properties = Basic.Properties()
    properties.unmarshal(0b1000_0001_0010_0000, b"\x04text" + b"\x02\xff\xff" + b"\x04type")
    assert (properties.content_type, properties.expiration, properties.message_type) == ("text", None, None)
