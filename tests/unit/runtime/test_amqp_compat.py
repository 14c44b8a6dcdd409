"""Headers that can be copied, and properties that cannot be read."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pamqp.commands import Basic

from runtime import amqp_compat

OURS = {"x-request-id": "r-1", "idempotency-key": "key 1", "x-attempts": 2}


def test_headers_that_no_broker_acts_on_are_carried_as_they_are() -> None:
    headers = {"a": {"b": [1, None, True]}, "tracestate": "t", **OURS}
    assert amqp_compat.carried(headers) == headers


@pytest.mark.parametrize("name", ["CC", "BCC", "cc", "x-delay", "x-death", "X-Anything", "x-reason", "x-wait-seconds"])
def test_headers_that_a_broker_or_its_plug_in_may_act_on_are_not_carried(name: str) -> None:
    """T10 A copy goes out with our rights, and its sender may have fewer."""
    assert amqp_compat.carried({name: ["payments.payment.status"], **OURS}) == OURS


@pytest.mark.parametrize("odd", ["x" * 65_536, b"\xff", {"a": [b"\xff"]}, Decimal("1e300"), object()])
def test_of_headers_that_cannot_be_copied_ours_are_left(odd: Any) -> None:
    assert amqp_compat.carried({"a": odd, **OURS}) == OURS


@pytest.mark.parametrize("odd", ["x" * 256, b"\xff", {"a": 1}, 2**40])
def test_of_headers_that_cannot_be_copied_none_is_left_that_is_no_small_text_or_number(odd: Any) -> None:
    assert amqp_compat.carried({"a": b"\xff", "x-caller": odd}) == {}


def test_the_mark_of_an_unreadable_time_is_not_carried_as_a_replay_has_its_own() -> None:
    assert amqp_compat.carried({amqp_compat.UNREADABLE: "timestamp", **OURS}) == OURS
    others = {amqp_compat.UNREADABLE: "headers", **OURS}
    assert amqp_compat.carried(others) == others


def test_of_properties_that_cannot_be_read_the_others_are_and_the_first_is_named() -> None:
    amqp_compat.survive_unreadable_properties()
    amqp_compat.survive_unreadable_properties()
    properties = Basic.Properties()
    properties.unmarshal(0b1000_0001_0110_0000, b"\x04text" + b"\x02\xff\xff" + b"\xff" * 8 + b"\x04type")
    assert (properties.content_type, properties.expiration, properties.message_type) == ("text", None, "type")
    assert properties.timestamp is None
    assert properties.headers == {amqp_compat.UNREADABLE: "expiration"}


ALL = Basic.Properties(
    content_type="a",
    content_encoding="b",
    headers={"c": [1, None, True, {"d": "\u00e9"}], "e": datetime(2026, 1, 2, tzinfo=UTC)},
    delivery_mode=2,
    priority=7,
    correlation_id="\u00e9",
    reply_to="f",
    expiration="8",
    message_id="g" * 255,
    timestamp=datetime(2106, 1, 1, tzinfo=UTC),
    message_type="h",
    user_id="i",
    app_id="j",
)


def test_properties_that_can_be_read_are_read_as_ever() -> None:
    amqp_compat.survive_unreadable_properties()
    written = ALL.marshal()
    size, flags = 2, int.from_bytes(written[:2], "big")
    found = Basic.Properties()
    found.unmarshal(flags, written[size:])
    assert found == ALL


@pytest.mark.parametrize("unit", [1_000, 1_000_000, 1_000_000_000])
def test_a_time_that_is_not_in_seconds_is_none(unit: int) -> None:
    amqp_compat.survive_unreadable_properties()
    properties = Basic.Properties()
    properties.unmarshal(0b0000_0000_0110_0000, (1_790_000_000 * unit).to_bytes(8, "big") + b"\x04type")
    assert (properties.timestamp, properties.message_type) == (None, "type")
    assert properties.headers == {amqp_compat.UNREADABLE: "timestamp"}
