from datetime import UTC, datetime

import pytest
from aiormq import spec
from pamqp import frame, header
from pamqp.body import ContentBody

from bridge.amqp_frames import Publication
from contracts.commands import CommandType


@pytest.mark.parametrize("command", CommandType)
@pytest.mark.parametrize("headers", [{}, {"x-caller": "7", "x-request-id": "r" * 128, "idempotency-key": "k" * 255}])
@pytest.mark.parametrize("size", [1, 99, 100, 101, 250])
@pytest.mark.parametrize("user_id", [None, "payment-bridge"])
def test_the_bytes_are_those_of_the_general_encoder(
    command: CommandType, headers: dict[str, str], size: int, user_id: str | None
) -> None:
    body = bytes(range(size))
    members = {"headers": headers, "message_id": "m-1", "correlation_id": "c-1", "user_id": user_id}
    publication = Publication(command=command, body=body, sent_at=1767225600, expiration_ms=10_345, **members)  # type: ignore[arg-type]
    properties = spec.Basic.Properties(
        content_type="application/json",
        delivery_mode=1,
        reply_to="amq.rabbitmq.reply-to",
        expiration="10345",
        timestamp=datetime.fromtimestamp(1767225600, UTC),
        message_type=command.value,
        **members,
    )
    frames: list[frame.FrameTypes] = [
        spec.Basic.Publish(exchange="payments.commands", routing_key=command.value, mandatory=True),
        header.ContentHeader(properties=properties, body_size=size),
        *(ContentBody(body[start : start + 100]) for start in range(0, size, 100)),
    ]
    decoded = []
    data = publication.encode(3, 100)
    while data:
        length, number, value = frame.unmarshal(data)
        assert number == 3
        decoded.append(value)
        data = data[length:]
    general = b"".join(frame.marshal(value, 3) for value in frames)
    assert [type(value) for value in decoded] == [type(value) for value in frames]
    assert isinstance(decoded[1], header.ContentHeader)
    assert decoded[1].properties == properties
    assert decoded[1].body_size == size
    # The general encoder may order a table's fields in its own way; lengths and everything else are the same.
    assert len(publication.encode(3, 100)) == len(general)
