from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from aiormq import spec
from pamqp import frame, header
from pamqp.body import ContentBody

from runtime.amqp_frames import Publication

SHAPES: Final[Mapping[str, dict[str, Any]]] = {
    "command": {
        "exchange": "payments.commands",
        "routing_key": "checkout.create",
        "mandatory": True,
        "content_type": "application/json",
        "message_type": "checkout.create",
        "correlation_id": "c-1",
        "reply_to": "amq.rabbitmq.reply-to",
        "expiration_ms": 10_345,
    },
    "reply": {
        "exchange": "",
        "routing_key": "amq.rabbitmq.reply-to.g1h2AA5",
        "content_type": "application/json",
        "message_type": "checkout.create.reply",
        "correlation_id": "c-1",
    },
    "reply without a correlation id": {
        "exchange": "",
        "routing_key": "payments.reply.7",
        "content_type": "application/json",
        "message_type": "fault",
    },
    "event": {
        "exchange": "payments.events",
        "routing_key": "payment.completed",
        "content_type": "application/cloudevents+json",
        "message_type": "com.bookticket.payment.completed.v1",
        "correlation_id": "r-1",
        "persistent": True,
    },
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("headers", [{}, {"x-caller": "7", "x-request-id": "r" * 128, "idempotency-key": "k" * 255}])
@pytest.mark.parametrize("size", [1, 99, 100, 101, 250])
@pytest.mark.parametrize("user_id", [None, "payment-bridge"])
def test_the_bytes_are_those_of_the_general_encoder(
    shape: str, headers: dict[str, str], size: int, user_id: str | None
) -> None:
    body, members = bytes(range(size)), SHAPES[shape]
    common = {"headers": headers, "message_id": "m-1", "user_id": user_id}
    publication = Publication(body=body, sent_at=1767225600, **common, **members)  # type: ignore[arg-type]
    expiration = members.get("expiration_ms")
    properties = spec.Basic.Properties(
        content_type=members["content_type"],
        delivery_mode=2 if members.get("persistent") else 1,
        correlation_id=members.get("correlation_id"),
        reply_to=members.get("reply_to"),
        expiration=None if expiration is None else str(expiration),
        timestamp=datetime.fromtimestamp(1767225600, UTC),
        message_type=members["message_type"],
        **common,  # type: ignore[arg-type]
    )
    method = {name: members.get(name, False) for name in ("exchange", "routing_key", "mandatory")}
    frames: list[frame.FrameTypes] = [
        spec.Basic.Publish(**method),
        header.ContentHeader(properties=properties, body_size=size),
        *(ContentBody(body[start : start + 100]) for start in range(0, size, 100)),
    ]
    encoded = publication.encode(3, 100)
    general = b"".join(frame.marshal(value, 3) for value in frames)
    if len(headers) < 2:
        assert encoded == general
    assert len(encoded) == len(general)
    decoded, data = [], encoded
    while data:
        length, number, value = frame.unmarshal(data)
        assert number == 3
        decoded.append(value)
        data = data[length:]
    assert [type(value) for value in decoded] == [type(value) for value in frames]
    assert isinstance(decoded[1], header.ContentHeader)
    assert decoded[1].properties == properties
    assert decoded[1].body_size == size
