"""AMQP properties byte by byte: what a careless or malicious sender can write and no client library would."""

import struct
from typing import Any, Final

from pamqp import encode
from pamqp.commands import Basic

_FLAGS: Final = {
    "content_type": 15,
    "content_encoding": 14,
    "headers": 13,
    "delivery_mode": 12,
    "priority": 11,
    "correlation_id": 10,
    "reply_to": 9,
    "expiration": 8,
    "message_id": 7,
    "timestamp": 6,
    "type": 5,
    "user_id": 4,
    "app_id": 3,
}


class RawProperties(Basic.Properties):
    """Exactly the properties that are given: none is invented, none is checked. Bytes are written as they are."""

    def __init__(self, **properties: Any) -> None:
        super().__init__()
        self._given = {name: value for name, value in properties.items() if value is not None}
        unknown = set(self._given) - set(_FLAGS)
        assert not unknown, unknown

    def marshal(self) -> bytes:
        flags = sum(1 << bit for name, bit in _FLAGS.items() if name in self._given)
        values = [_field(name, self._given[name]) for name in _FLAGS if name in self._given]
        return struct.pack(">H", flags) + b"".join(values)


def _field(name: str, value: Any) -> bytes:
    match name:
        case "headers":
            return value if isinstance(value, bytes) else encode.field_table(value)
        case "delivery_mode" | "priority":
            return struct.pack(">B", value)
        case "timestamp":
            return struct.pack(">Q", value)
        case _:
            encoded = value if isinstance(value, bytes) else value.encode()
            return struct.pack(">B", len(encoded)) + encoded


def table(fields: bytes) -> bytes:
    """A field table around fields that are encoded already."""
    return struct.pack(">I", len(fields)) + fields


def field(name: bytes, kind: bytes, value: bytes) -> bytes:
    """One entry of a field table."""
    return struct.pack(">B", len(name)) + name + kind + value
